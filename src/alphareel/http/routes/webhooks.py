"""Webhooks: what was told of a job and how it went, once more, and a test."""

from typing import Any

from fastapi import APIRouter

from alphareel.http.auth import KeyPrincipal
from alphareel.http.context import ServicesOf
from alphareel.http.openapi import errors, json_body, links
from alphareel.http.request_body import JsonObject
from alphareel.http.routes.jobs import SerializersOf
from alphareel.http.schemas import webhooks as schemas
from alphareel.http.schemas.jobs import WebhookTest
from alphareel.service.jobs.models import Job
from alphareel.service.webhooks.events import State, Webhook

router = APIRouter(tags=["webhooks"])


@router.get(
    "/jobs/{job_id}/webhooks",
    responses={
        **errors(s404="No such job, or another key's"),
        **links("redeliver_webhook", job_id="id", delivery_id="items/0/id"),
    },
)
def list_webhooks(job_id: str, caller: KeyPrincipal, services: ServicesOf) -> schemas.WebhookList:
    """The job's webhooks in the order of their events, with every attempt."""
    items = [schemas.Webhook(**_fields(webhook)) for webhook in services.webhooks.list(caller, job_id)]
    return schemas.WebhookList(id=job_id, job_id=job_id, items=items)


@router.post("/jobs/{job_id}/webhooks/{delivery_id}/redeliver", responses=errors(s404="No such job or webhook"))
def redeliver_webhook(
    job_id: str, delivery_id: str, caller: KeyPrincipal, services: ServicesOf
) -> schemas.ResentWebhook:
    """Send a webhook once more, now, under the same delivery id and with all attempts ahead."""
    webhook = services.webhooks.redeliver(caller, job_id, delivery_id)
    return schemas.ResentWebhook(message="Webhook queued", **_fields(webhook))


@router.post(
    "/webhooks/test",
    openapi_extra=json_body(WebhookTest),
    responses=errors(s400="No address", s503="Too many tests at once"),
)
def try_webhook(
    caller: KeyPrincipal, body: JsonObject, services: ServicesOf, views: SerializersOf
) -> schemas.WebhookTestResponse:
    """Send the event `webhook.test` with a made-up job to an address, once, and tell how it went."""

    def present(job: Job) -> dict[str, Any]:
        return views.job(job).model_dump(mode="json")

    trial = services.webhooks.test(caller, body, serialize_job=present)
    return schemas.WebhookTestResponse(
        delivered=trial.attempt.error is None,
        id=trial.id,
        event=trial.event,
        url=trial.url,
        attempt=schemas.WebhookAttempt.model_validate(trial.attempt),
    )


def _fields(webhook: Webhook) -> dict[str, Any]:
    is_open = webhook.state in (State.PENDING, State.SENDING)
    return {
        "id": webhook.id,
        "event": webhook.event,
        "url": webhook.url,
        "status": "pending" if is_open else webhook.state.value,
        "next_attempt_at": webhook.due_at if webhook.state is State.PENDING else None,
        "created_at": webhook.created_at,
        "sent_at": webhook.sent_at,
        "attempts": [schemas.WebhookAttempt.model_validate(attempt) for attempt in webhook.attempts],
    }
