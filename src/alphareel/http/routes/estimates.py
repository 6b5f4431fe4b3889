"""Estimates of a job's cost and duration before it is created."""

from fastapi import APIRouter

from alphareel.http.auth import KeyPrincipal
from alphareel.http.context import ServicesOf
from alphareel.http.openapi import errors, json_body
from alphareel.http.request_body import JsonObject
from alphareel.http.schemas import estimates as schemas
from alphareel.service.jobs.requests import EstimateRequest

router = APIRouter(tags=["jobs"])


@router.post("/estimate", openapi_extra=json_body(EstimateRequest), responses=errors(s400="A field cannot be accepted"))
def estimate_job(principal: KeyPrincipal, body: JsonObject, services: ServicesOf) -> schemas.Estimate:
    """Credits, work seconds and result size of a job with this body; nothing is created or reserved."""
    estimate, balance = services.estimates.estimate(principal, body)
    return schemas.Estimate.of(estimate, balance)
