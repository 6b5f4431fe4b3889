"""Corrections of a completed job's matte: create, list, undo."""

from typing import Annotated

from fastapi import APIRouter, Path

from alphareel.http.auth import KeyPrincipal
from alphareel.http.context import ServicesOf
from alphareel.http.idempotency import IdempotencyContext
from alphareel.http.openapi import errors, json_body
from alphareel.http.request_body import JsonObject
from alphareel.http.routes.jobs import SerializersOf
from alphareel.http.schemas import corrections as schemas

router = APIRouter(tags=["corrections"])

_NOT_FOUND = errors(s404="No such job or correction, or another key's")
_NOT_READY = "The job is not completed, its matte was not kept, or another correction is in progress"


@router.post(
    "/jobs/{job_id}/corrections",
    openapi_extra=json_body(schemas.CorrectionRequest),
    responses=errors(s400="A field cannot be accepted", s404="No such job, or another key's", s409=_NOT_READY),
)
def create_correction(
    job_id: str,
    principal: KeyPrincipal,
    body: JsonObject,
    services: ServicesOf,
    *,
    serializers: SerializersOf,
    make_idempotent: IdempotencyContext,
) -> schemas.AcceptedCorrection:
    """Correct one frame of a completed job. The correction spreads along the motion, and the outputs are remade."""
    once = make_idempotent(serializers.accepted_correction)
    return serializers.accepted_correction(services.corrections.create(principal, job_id, body, once=once))


@router.get("/jobs/{job_id}/corrections", responses=_NOT_FOUND)
def list_corrections(
    job_id: str, principal: KeyPrincipal, services: ServicesOf, serializers: SerializersOf
) -> schemas.CorrectionList:
    """The job's corrections and what undid them, oldest first."""
    return serializers.correction_list(*services.corrections.list(principal, job_id))


@router.delete(
    "/jobs/{job_id}/corrections/{number}", responses={**_NOT_FOUND, **errors(s409="See the creation of corrections")}
)
def undo_correction(
    job_id: str,
    number: Annotated[int, Path(ge=1, le=1_000_000)],
    principal: KeyPrincipal,
    services: ServicesOf,
    serializers: SerializersOf,
) -> schemas.AcceptedCorrection:
    """Undo a correction: the outputs are remade without it."""
    undoing = services.corrections.undo(principal, job_id, number)
    return serializers.accepted_correction(undoing, "Correction is being undone")
