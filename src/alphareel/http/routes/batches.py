"""Batches: several jobs in one request."""

from fastapi import APIRouter

from alphareel.http.auth import KeyPrincipal
from alphareel.http.context import ServicesOf
from alphareel.http.idempotency import IdempotencyContext
from alphareel.http.openapi import errors, json_body, links
from alphareel.http.request_body import JsonObject
from alphareel.http.routes.jobs import SerializersOf
from alphareel.http.schemas import batches as schemas
from alphareel.http.serializers import Serializers
from alphareel.service.batches.service import Batch
from alphareel.service.jobs.models import TERMINAL, Status

router = APIRouter(tags=["jobs"])


@router.post(
    "/batches",
    openapi_extra=json_body(schemas.BatchCreate),
    responses={
        **errors(s400="A field cannot be accepted, and no job was created"),
        **links("get_batch", batch_id="id"),
    },
)
def create_batch(
    principal: KeyPrincipal,
    body: JsonObject,
    services: ServicesOf,
    *,
    serializers: SerializersOf,
    make_idempotent: IdempotencyContext,
) -> schemas.Batch:
    """Create up to 100 jobs, all or none."""
    added: list[Batch] = []
    once = make_idempotent(lambda _: _batch(added[0], serializers))
    return _batch(services.batches.create(principal, body, once=once, on_added=added.append), serializers)


@router.get("/batches/{batch_id}", responses=errors(s404="No such batch, or another key's"))
def get_batch(
    batch_id: str, principal: KeyPrincipal, services: ServicesOf, serializers: SerializersOf
) -> schemas.Batch:
    """The jobs of a batch as they are now."""
    return _batch(services.batches.get(principal, batch_id), serializers)


def _batch(batch: Batch, serializers: Serializers) -> schemas.Batch:
    jobs = [serializers.job(job) for job in batch.jobs]
    return schemas.Batch(
        id=batch.id,
        total=len(jobs),
        completed=sum(job.status is Status.COMPLETED for job in batch.jobs),
        failed=sum(job.status is Status.FAILED for job in batch.jobs),
        done=all(job.status in TERMINAL for job in batch.jobs),
        progress=round(sum(job.progress for job in jobs) / len(jobs), 1),
        jobs=jobs,
    )
