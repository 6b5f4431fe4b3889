"""Jobs: create, start, read, list, cancel, delete."""

import hashlib
import time
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from alphareel.http.auth import KeyPrincipal
from alphareel.http.context import ServicesOf, context_of
from alphareel.http.idempotency import IdempotencyContext
from alphareel.http.openapi import errors, json_body, links
from alphareel.http.ranges import matches_etag
from alphareel.http.request_body import JsonObject
from alphareel.http.schemas import jobs
from alphareel.http.schemas.fields import Deleted
from alphareel.http.serializers import Serializers
from alphareel.service.jobs.models import UNFINISHED, Job, Status
from alphareel.service.jobs.requests import JobCreate, JobStart
from alphareel.service.jobs.service import not_found
from alphareel.service.principal import Principal
from alphareel.service.services import Services

router = APIRouter(tags=["jobs"])

MAX_OFFSET = 10_000_000
_LOOK_SECONDS = 1.0  # between two checks at a job while a request waits for it
_JOB_LINKS = links(
    "get_job",
    "start_job",
    "cancel_job",
    "delete_job",
    "get_history",
    "list_webhooks",
    "stream_events",
    job_id="id",
)
_NOT_FOUND = errors(s404="No such job, or another key's")


async def _serializers(request: Request) -> Serializers:
    context = context_of(request)
    return Serializers(request, context.services, context.settings)


SerializersOf = Annotated[Serializers, Depends(_serializers)]
Wait = Annotated[
    float, Query(ge=0, le=60, description="Seconds to wait for a change of a queued or running job; 0 answers at once.")
]
StatusFilter = Annotated[
    Literal["created", "pending", "processing", "completed", "failed", ""] | None,
    Query(description="Empty: all of them."),
]


@router.post(
    "/jobs",
    response_model=jobs.AcceptedJob,
    openapi_extra=json_body(JobCreate),
    responses={**errors(s400="A field cannot be accepted"), **_JOB_LINKS},
)
def create_job(
    principal: KeyPrincipal,
    body: JsonObject,
    services: ServicesOf,
    serializers: SerializersOf,
    make_idempotent: IdempotencyContext,
) -> Response:
    """Create a job and queue it; `auto_start: false` keeps it as a draft."""

    def render(job: Job) -> jobs.AcceptedJob:
        return serializers.accepted(job, "Draft created" if job.status is Status.CREATED else "Job created")

    return _json(render(services.jobs.create(principal, body, once=make_idempotent(render))))


@router.post(
    "/jobs/{job_id}/start",
    response_model=jobs.AcceptedJob,
    openapi_extra=json_body(JobStart, required=False),
    responses=errors(s400="A field cannot be accepted", s404="No such job, or another key's", s409="Already completed"),
)
def start_job(
    job_id: str,
    principal: KeyPrincipal,
    body: JsonObject,
    services: ServicesOf,
    *,
    serializers: SerializersOf,
    make_idempotent: IdempotencyContext,
) -> Response:
    """Queue a draft or a failed job; fields of the body replace the job's. A running job stays unchanged."""

    def render(job: Job) -> jobs.AcceptedJob:
        return serializers.accepted(job, "Job started")

    return _json(render(services.jobs.start(principal, job_id, body, once=make_idempotent(render))))


@router.post("/jobs/{job_id}/cancel", responses={**_NOT_FOUND, **errors(s409="Already completed")})
def cancel_job(
    job_id: str, principal: KeyPrincipal, services: ServicesOf, serializers: SerializersOf
) -> jobs.AcceptedJob:
    """Cancel a job: it ends as failed with `error_code` cancelled. Repeating this changes nothing."""
    return serializers.accepted(services.jobs.cancel(principal, job_id), "Job cancelled")


@router.delete("/jobs/{job_id}", responses={**_NOT_FOUND, **errors(s409="A correction: its job may use its files")})
def delete_job(job_id: str, principal: KeyPrincipal, services: ServicesOf) -> Deleted:
    """Delete a job, its result and, unless another job uses it, its upload; a running job is cancelled first."""
    services.jobs.delete(principal, job_id)
    return Deleted(id=job_id, message="Job deleted")


@router.get("/jobs", responses=errors(s400="A parameter cannot be accepted"))
def list_jobs(
    principal: KeyPrincipal,
    services: ServicesOf,
    serializers: SerializersOf,
    *,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    offset: Annotated[int, Query(ge=0, le=MAX_OFFSET)] = 0,
    status: StatusFilter = None,
) -> jobs.JobList:
    """The key's jobs, newest first."""
    page = services.jobs.list(principal, limit=limit, offset=offset, status=status)
    items = [serializers.job(job) for job in page.items]
    has_more = offset + len(items) < page.total
    return jobs.JobList(items=items, jobs=items, total=page.total, limit=limit, offset=offset, has_more=has_more)


@router.get(
    "/jobs/{job_id}",
    response_model=jobs.Job,
    responses={**_NOT_FOUND, 304: {"description": "Unchanged since the response with this ETag"}},
)
async def get_job(
    job_id: str,  # noqa: ARG001  # the authentication read this job
    request: Request,
    principal: KeyPrincipal,
    services: ServicesOf,
    serializers: SerializersOf,
    *,
    wait: Wait = 0.0,
) -> Response:
    """The job as it is now; with `If-None-Match` an unchanged job is a 304 without a body.

    With `wait`, a queued or running job is returned once its status changes, or it changes at all with `If-None-Match`.
    """
    job: Job | None = request.state.job  # what the authentication read
    if wait and job is not None and job.status in UNFINISHED:
        release = context_of(request).streams.acquire(principal.require_key().id)
        try:
            request.state.job = await _wait_for_change(request, principal, services, serializers, job, seconds=wait)
        finally:
            release()
    return present_job(request, serializers)


def present_job(request: Request, serializers: Serializers) -> Response:
    """The response with the job that the authentication read. Raises NotFound if there was none."""
    job: Job | None = request.state.job
    if job is None:
        raise not_found()
    return _with_etag(request, serializers.job(job))


async def _wait_for_change(
    request: Request, principal: Principal, services: Services, serializers: Serializers, job: Job, *, seconds: float
) -> Job:
    tag, status = request.headers.get("if-none-match", ""), serializers.status(job.status)
    deadline = time.monotonic() + seconds
    with services.watch.watching(job.id) as change:
        while True:
            change.clear()
            await run_in_threadpool(services.api_keys.check, principal.key)
            job = await run_in_threadpool(services.jobs.get, principal, job.id)
            is_changed = serializers.status(job.status) != status
            if tag and not is_changed:
                is_changed = not matches_etag(tag, _etag(_body(serializers.job(job))))
            left = deadline - time.monotonic()
            if is_changed or left <= 0 or context_of(request).streams.closed or await request.is_disconnected():
                return job
            await change.wait(min(left, _LOOK_SECONDS))


@router.get("/jobs/{job_id}/history", responses=_NOT_FOUND)
def get_history(job_id: str, principal: KeyPrincipal, services: ServicesOf, serializers: SerializersOf) -> jobs.History:
    """Every transition of the job, with its time, actor, request and reason."""
    return serializers.history(job_id, services.jobs.events(principal, job_id))


def _json(job: jobs.Job) -> Response:
    """A response that FastAPI does not check against the model once more, in a thread."""
    return Response(_body(job), media_type="application/json")


def _with_etag(request: Request, job: jobs.Job) -> Response:
    """No ETag once the job has a link: clients must get a fresh one before the old one expires."""
    body = _body(job)
    response = Response(body, media_type="application/json")
    if job.output_url is None:
        tag = _etag(body)
        response.headers["ETag"] = tag
        if matches_etag(request.headers.get("if-none-match", ""), tag):
            return Response(status_code=304, headers={"ETag": tag})
    return response


def _body(job: jobs.Job) -> bytes:
    return job.__pydantic_serializer__.to_json(job)


def _etag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'
