"""Jobs: create, start, watch, list."""

import hashlib
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse

from alphareel.http.auth import KeyPrincipal
from alphareel.http.context import ConfigOf, ServicesOf
from alphareel.http.idempotency import IdempotencyContext
from alphareel.http.openapi import errors, json_body, links
from alphareel.http.request_body import JsonObject
from alphareel.http.schemas import jobs, responses
from alphareel.http.serializers import Serializers
from alphareel.service.jobs.models import Job, Status

router = APIRouter(tags=["jobs"])

_FURTHEST = 10_000_000
_FROM_ITS_ID = links(
    "get_job",
    "start_job",
    "cancel_job",
    "delete_job",
    "get_history",
    "list_webhooks",
    "stream_events",
    job_id="id",
)
_JobNotFound = errors(s404="No such job, or another key's")


def _views(request: Request, services: ServicesOf, config: ConfigOf) -> Serializers:
    return Serializers(request, services, config)


SerializersOf = Annotated[Serializers, Depends(_views)]
StatusFilter = Annotated[
    Literal["created", "pending", "processing", "completed", "failed", ""] | None,
    Query(description="Empty: all of them."),
]


@router.post(
    "/jobs",
    openapi_extra=json_body(jobs.JobCreate),
    responses={**errors(s400="A field cannot be accepted"), **_FROM_ITS_ID},
)
def create_job(
    caller: KeyPrincipal, body: JsonObject, services: ServicesOf, views: SerializersOf, once_for: IdempotencyContext
) -> responses.AcceptedJob:
    """Create a job and queue it, or with `auto_start: false` keep it as a draft."""

    def show(job: Job) -> responses.AcceptedJob:
        return views.accepted(job, "Draft created" if job.status is Status.CREATED else "Job created")

    return show(services.jobs.create(caller, body, once=once_for(show)))


@router.post(
    "/jobs/{job_id}/start",
    openapi_extra=json_body(jobs.JobStart, required=False),
    responses=errors(s400="A field cannot be accepted", s404="No such job, or another key's", s409="Already completed"),
)
def start_job(
    job_id: str,
    caller: KeyPrincipal,
    body: JsonObject,
    services: ServicesOf,
    *,
    views: SerializersOf,
    once_for: IdempotencyContext,
) -> responses.AcceptedJob:
    """Queue a draft or a failed job; fields of the body replace the job's. A running job is left alone."""

    def show(job: Job) -> responses.AcceptedJob:
        return views.accepted(job, "Job started")

    return show(services.jobs.start(caller, job_id, body, once=once_for(show)))


@router.post("/jobs/{job_id}/cancel", responses={**_JobNotFound, **errors(s409="Already completed")})
def cancel_job(job_id: str, caller: KeyPrincipal, services: ServicesOf, views: SerializersOf) -> responses.AcceptedJob:
    """Stop a job: it ends as failed with `error_code` cancelled. Again is the same as once."""
    return views.accepted(services.jobs.cancel(caller, job_id), "Job cancelled")


@router.delete("/jobs/{job_id}", responses=_JobNotFound)
def delete_job(job_id: str, caller: KeyPrincipal, services: ServicesOf) -> responses.Deleted:
    """Remove a job with its result and, if no other job uses it, its upload; a running job is cancelled first."""
    services.jobs.delete(caller, job_id)
    return responses.Deleted(id=job_id, message="Job deleted")


@router.get("/jobs", responses=errors(s400="A parameter cannot be accepted"))
def list_jobs(
    caller: KeyPrincipal,
    services: ServicesOf,
    views: SerializersOf,
    *,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    offset: Annotated[int, Query(ge=0, le=_FURTHEST)] = 0,
    status: StatusFilter = None,
) -> responses.JobList:
    """The key's jobs, newest first."""
    page = services.jobs.list(caller, limit=limit, offset=offset, status=status)
    items = [views.job(job) for job in page.items]
    has_more = offset + len(items) < page.total
    return responses.JobList(items=items, jobs=items, total=page.total, limit=limit, offset=offset, has_more=has_more)


@router.get(
    "/jobs/{job_id}",
    response_model=responses.Job,
    responses={**_JobNotFound, 304: {"description": "Not changed since the answer with this ETag"}},
)
def get_job(
    job_id: str, request: Request, caller: KeyPrincipal, services: ServicesOf, views: SerializersOf
) -> Response:
    """The job as it is now; with `If-None-Match` a poll that finds nothing new costs 304 and no body."""
    return _with_etag(request, views.job(services.jobs.get(caller, job_id)))


@router.get("/jobs/{job_id}/history", responses=_JobNotFound)
def get_history(job_id: str, caller: KeyPrincipal, services: ServicesOf, views: SerializersOf) -> responses.History:
    """Every transition of the job: when, by whom, in which request and why."""
    return views.history(job_id, services.jobs.events(caller, job_id))


def _with_etag(request: Request, job: responses.Job) -> Response:
    """No ETag once there is a link: each answer carries a fresh one, and an old one would expire unseen."""
    response = JSONResponse(job.model_dump(mode="json"))
    if job.output_url is None:
        tag = f'"{hashlib.sha256(bytes(response.body)).hexdigest()[:32]}"'
        response.headers["ETag"] = tag
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers={"ETag": tag})
    return response
