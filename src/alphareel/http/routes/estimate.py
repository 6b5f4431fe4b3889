"""What a job would cost and take, asked before it is made."""

from fastapi import APIRouter

from alphareel.http.auth import KeyPrincipal
from alphareel.http.context import ServicesOf
from alphareel.http.openapi import errors, json_body
from alphareel.http.request_body import JsonObject
from alphareel.http.schemas import admin as schemas
from alphareel.http.schemas.jobs import EstimateRequest

router = APIRouter(tags=["jobs"])


@router.post("/estimate", openapi_extra=json_body(EstimateRequest), responses=errors(s400="A field cannot be accepted"))
def estimate_job(caller: KeyPrincipal, body: JsonObject, services: ServicesOf) -> schemas.Estimate:
    """Credits, seconds of work and size of the result of a job with this body; nothing is made or reserved."""
    found, balance = services.estimates.estimate(caller, body)
    return schemas.Estimate.of(found, balance)
