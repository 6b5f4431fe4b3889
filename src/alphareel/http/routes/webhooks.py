"""Webhooks: the delivery log of a job, redelivery, and a test."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from alphareel.http.auth import KeyPrincipal
from alphareel.http.context import ServicesOf
from alphareel.http.openapi import errors, json_body, links
from alphareel.http.request_body import body_of
from alphareel.http.routes.jobs import SerializersOf
from alphareel.http.schemas import webhooks as schemas
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
def list_webhooks(job_id: str, principal: KeyPrincipal, services: ServicesOf) -> schemas.WebhookList:
    """The job's webhooks in the order of their events, with every attempt."""
    items = [schemas.Webhook(**webhook_fields(webhook)) for webhook in services.webhooks.list(principal, job_id)]
    return schemas.WebhookList(id=job_id, job_id=job_id, items=items)


@router.post("/jobs/{job_id}/webhooks/{delivery_id}/redeliver", responses=errors(s404="No such job or webhook"))
def redeliver_webhook(
    job_id: str, delivery_id: str, principal: KeyPrincipal, services: ServicesOf
) -> schemas.RedeliveredWebhook:
    """Send a webhook again now, under the same delivery id and with all its attempts."""
    webhook = services.webhooks.redeliver(principal, job_id, delivery_id)
    return schemas.RedeliveredWebhook(message="Webhook queued", **webhook_fields(webhook))


@router.post(
    "/webhooks/test",
    openapi_extra=json_body(schemas.WebhookTest),
    responses=errors(s400="No address", s503="Too many tests at once"),
)
def try_webhook(
    principal: KeyPrincipal,
    body: Annotated[schemas.WebhookTest, Depends(body_of(schemas.WebhookTest))],
    services: ServicesOf,
    serializers: SerializersOf,
) -> schemas.WebhookTestResponse:
    """Send the event `webhook.test` with a sample job to an address, once, and return the result."""

    def serialize_job(job: Job) -> dict[str, Any]:
        return serializers.job(job).model_dump(mode="json")

    result = services.webhooks.test(principal, body.webhook_url, serialize_job=serialize_job)
    return schemas.WebhookTestResponse(
        delivered=result.attempt.error is None,
        id=result.id,
        event=result.event,
        url=result.url,
        attempt=schemas.WebhookAttempt.model_validate(result.attempt),
    )


def webhook_fields(webhook: Webhook) -> dict[str, Any]:
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
