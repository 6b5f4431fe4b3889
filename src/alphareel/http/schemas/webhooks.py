"""JSON of the webhook log and the webhook test. ``service/webhooks/events.py`` builds what receivers get."""

from typing import Annotated, Literal

from pydantic import Field

from alphareel.http.schemas.fields import Schema, Time
from alphareel.service.requests import RequestBody, parsed_by
from alphareel.service.urls import RECEIVER_URL


class WebhookAttempt(Schema):
    at: Time
    status_code: int | None = Field(description="The receiver's response; null if there was none.")
    error: str | None = Field(description="Why the delivery failed; null if it succeeded.")
    milliseconds: int


class Webhook(Schema):
    """An event of a job and its delivery."""

    id: str = Field(description="The delivery ID, the same in every attempt.")
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
    delivered: bool = Field(description="Whether the receiver responded with a 2xx status in time.")
    id: str
    event: str
    url: str
    attempt: WebhookAttempt


class WebhookTest(RequestBody):
    webhook_url: Annotated[str, parsed_by(RECEIVER_URL)] = Field(description="Where the test event is sent once.")
