"""Proofs: six frames of a clip with every engine, before a job is created."""

from typing import Any

from fastapi import APIRouter

from alphareel.http.auth import KeyPrincipal
from alphareel.http.context import ServicesOf
from alphareel.http.idempotency import IdempotencyContext
from alphareel.http.openapi import errors, json_body, links
from alphareel.http.request_body import JsonObject
from alphareel.http.routes.jobs import SerializersOf
from alphareel.http.schemas import proofs as schemas
from alphareel.http.serializers import Serializers
from alphareel.service.jobs.models import Job
from alphareel.service.proofs.requests import ProofCreate
from alphareel.service.proofs.service import ProofService

router = APIRouter(tags=["jobs"])


@router.post(
    "/proofs",
    openapi_extra=json_body(ProofCreate),
    responses={**errors(s400="A field cannot be accepted"), **links("get_proof", proof_id="id")},
)
def create_proof(
    principal: KeyPrincipal,
    body: JsonObject,
    services: ServicesOf,
    *,
    serializers: SerializersOf,
    make_idempotent: IdempotencyContext,
) -> schemas.Proof:
    """Cut out six frames of a clip with several engines. Nothing is charged."""

    def render(job: Job) -> schemas.Proof:
        return _proof(job, serializers, services.proofs)

    return render(services.proofs.create(principal, body, once=make_idempotent(render)))


@router.get("/proofs/{proof_id}", responses=errors(s404="No such proof, or another key's"))
def get_proof(
    proof_id: str, principal: KeyPrincipal, services: ServicesOf, serializers: SerializersOf
) -> schemas.Proof:
    """A proof as it is now."""
    return _proof(services.proofs.get(principal, proof_id), serializers, services.proofs)


def _proof(job: Job, serializers: Serializers, proofs: ProofService) -> schemas.Proof:
    job_json, report = serializers.job(job), job.report or {}
    tiers = (job.task or {}).get("engines", {})
    engines = {each["name"]: each for each in report.get("engines", ())}
    return schemas.Proof(
        id=job.id,
        status=job_json.status,
        progress=job_json.progress,
        video_url=job.video_url,
        sheet_url=job_json.output_url,
        expires_at=job_json.expires_at,
        width=report.get("width"),
        height=report.get("height"),
        moments=list(report.get("moments", ())),
        engines=[_engine(name, tier, engines.get(name, {}), report, proofs) for name, tier in tiers.items()],
        error=job_json.error,
        error_code=job_json.error_code,
        created_at=job.created_at,
        completed_at=job.completed_at,
    )


def _engine(name: str, tier: Any, entry: dict[str, Any], report: Any, proofs: ProofService) -> schemas.EngineProof:
    pace, frames, seconds = entry.get("seconds_per_frame"), report.get("frames", 0), report.get("seconds", 0.0)
    return schemas.EngineProof(
        name=name,
        model=tier,
        seconds_per_frame=pace,
        seconds=round(pace * frames, 1) if pace and frames else None,
        credits=proofs.credits(tier, seconds) if seconds else None,
        engine=entry.get("facts"),
        error=entry.get("error"),
    )
