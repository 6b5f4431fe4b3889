"""Exports: further outputs of a completed job, made of the matte that was kept with it."""

from typing import Annotated

from fastapi import APIRouter, Query

from alphareel.http.auth import KeyPrincipal
from alphareel.http.context import ServicesOf
from alphareel.http.idempotency import IdempotencyContext
from alphareel.http.openapi import errors, json_body, links
from alphareel.http.request_body import JsonObject
from alphareel.http.routes.jobs import SerializersOf
from alphareel.http.schemas import jobs as schemas
from alphareel.service.jobs.option_fields import OutputFormat
from alphareel.service.jobs.requests import ExportRequest

router = APIRouter(tags=["exports"])

_NOT_FOUND = errors(s404="No such job or export, or another key's")


@router.post(
    "/jobs/{job_id}/exports",
    openapi_extra=json_body(ExportRequest),
    responses={
        **errors(
            s400="A field cannot be accepted",
            s404="No such job, or another key's",
            s409="The job is not completed, or its matte was not kept",
        ),
        **links("get_export", job_id="job_id", export_id="id"),
    },
)
def create_export(
    job_id: str,
    principal: KeyPrincipal,
    body: JsonObject,
    services: ServicesOf,
    *,
    serializers: SerializersOf,
    make_idempotent: IdempotencyContext,
) -> schemas.AcceptedExport:
    """Make a further file of a completed job, without a network. An equal one is made only once."""
    once = make_idempotent(serializers.accepted_export)
    return serializers.accepted_export(services.exports.create(principal, job_id, body, once=once))


@router.get("/jobs/{job_id}/exports", responses=_NOT_FOUND)
def list_exports(
    job_id: str, principal: KeyPrincipal, services: ServicesOf, serializers: SerializersOf
) -> schemas.ExportList:
    """The exports of a job, oldest first."""
    items = [serializers.export(export) for export in services.exports.list(principal, job_id)]
    return schemas.ExportList(job_id=job_id, items=items)


@router.get("/jobs/{job_id}/exports/{export_id}", responses=_NOT_FOUND)
def get_export(
    job_id: str, export_id: str, principal: KeyPrincipal, services: ServicesOf, serializers: SerializersOf
) -> schemas.Export:
    """One export of a job."""
    return serializers.export(services.exports.get(principal, job_id, export_id))


@router.get(
    "/jobs/{job_id}/layers",
    responses=errors(
        s400="A parameter cannot be accepted",
        s404="No such job, or another key's",
        s409="The job is not completed, its matte was not kept, or exports have a price",
    ),
)
def get_layers(
    job_id: str,
    principal: KeyPrincipal,
    services: ServicesOf,
    serializers: SerializersOf,
    output_format: Annotated[
        OutputFormat | None, Query(alias="format", description="By default files like the job's first output.")
    ] = None,
) -> schemas.Layers:
    """A file for each subject of a completed job.

    The first request starts the analysis that finds the subjects, and exports them; repeat it until it is ready. A job
    with `layers` started both when it completed.
    """
    analysis, layers = services.layers.layers(principal, job_id, output_format=output_format)
    return serializers.layers(job_id, analysis, layers)
