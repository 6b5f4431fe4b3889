"""Webhooks on the wire: their log, and the test of a receiver. What receivers get is built in jobs/webhooks.py."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from alphareel.http.schemas.responses import Time


class _Schema(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


class WebhookAttempt(_Schema):
    at: Time
    status_code: int | None = Field(description="Of the receiver's answer; null when there was none.")
    error: str | None = Field(description="Why it does not count as delivered.")
    milliseconds: int


class Webhook(_Schema):
    """An event of a job on its way to its receiver."""

    id: str = Field(description="The delivery id, the same in every attempt.")
    event: str
    url: str
    status: Literal["pending", "sent", "failed"]
    next_attempt_at: Time | None
    created_at: Time
    sent_at: Time | None
    attempts: list[WebhookAttempt] = Field(description="Oldest first; the latest 30.")


class WebhookList(_Schema):
    success: Literal[True] = True
    id: str
    job_id: str
    items: list[Webhook]


class ResentWebhook(Webhook):
    success: Literal[True] = True
    message: str


class WebhookTestResponse(_Schema):
    success: Literal[True] = True
    delivered: bool = Field(description="Whether the receiver answered with a 2xx in time.")
    id: str
    event: str
    url: str
    attempt: WebhookAttempt
