"""JSON of the webhook log and the webhook test. ``service/webhooks/events.py`` builds what receivers get."""

from typing import Literal

from pydantic import Field

from alphareel.http.schemas.base import Schema, Time
from alphareel.http.schemas.jobs import Url


class WebhookAttempt(Schema):
    at: Time
    status_code: int | None = Field(description="Of the receiver's answer; null when there was none.")
    error: str | None = Field(description="Why it does not count as delivered.")
    milliseconds: int


class Webhook(Schema):
    """An event of a job on its way to its receiver."""

    id: str = Field(description="The delivery id, the same in every attempt.")
    event: str
    url: str
    status: Literal["pending", "sent", "failed"]
    next_attempt_at: Time | None
    created_at: Time
    sent_at: Time | None
    attempts: list[WebhookAttempt] = Field(description="Oldest first; the latest 30.")


class WebhookList(Schema):
    success: Literal[True] = True
    id: str
    job_id: str
    items: list[Webhook]


class RedeliveredWebhook(Webhook):
    success: Literal[True] = True
    message: str


class WebhookTestResponse(Schema):
    success: Literal[True] = True
    delivered: bool = Field(description="Whether the receiver answered with a 2xx in time.")
    id: str
    event: str
    url: str
    attempt: WebhookAttempt


class WebhookTest(Schema):
    webhook_url: Url = Field(description="Where the event is sent, now and once.")
