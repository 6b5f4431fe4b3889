"""Operator routes: keys, credits, usage and the audit log. They need the admin token in ``X-Admin-Token``."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse

from alphareel.domain.errors import InvalidRequest
from alphareel.http.auth import Admin, require_admin
from alphareel.http.context import ServicesOf
from alphareel.http.csv_response import OR_CSV, csv_response
from alphareel.http.openapi import errors, json_body
from alphareel.http.request_body import body_of
from alphareel.http.routes.jobs import MAX_OFFSET, StatusFilter
from alphareel.http.routes.webhooks import webhook_fields
from alphareel.http.schemas import admin as schemas
from alphareel.http.schemas.fields import Deleted
from alphareel.http.schemas.jobs import Transition
from alphareel.http.schemas.webhooks import Webhook
from alphareel.service.api_keys.admin import KEY_LIMITS, MAX_EVENTS, Operator
from alphareel.service.principal import Principal
from alphareel.service.usage.service import MAX_DAYS

router = APIRouter(
    prefix="/v1/admin",
    tags=["admin"],
    dependencies=[Depends(require_admin)],
    responses=errors(s401="No admin token, or a wrong one"),
)

_BAD_FIELD = "A field cannot be accepted"
_BAD_PARAMETER = errors(s400="A parameter cannot be accepted")
_NO_CLIENT = "No key has this client_id"
_NO_JOB = errors(s404="No such job")
_NO_KEY = errors(s400=_BAD_FIELD, s404="No key with this fingerprint")

KeyCreateBody = Annotated[schemas.KeyCreate, Depends(body_of(schemas.KeyCreate))]
KeySelectorBody = Annotated[schemas.KeySelector, Depends(body_of(schemas.KeySelector))]
KeyRotateBody = Annotated[schemas.KeyRotate, Depends(body_of(schemas.KeyRotate))]
KeyLimitsBody = Annotated[schemas.KeyLimits, Depends(body_of(schemas.KeyLimits))]
CreditGrantBody = Annotated[schemas.CreditGrant, Depends(body_of(schemas.CreditGrant))]
CreditBalanceBody = Annotated[schemas.CreditBalance, Depends(body_of(schemas.CreditBalance))]


@router.get("/config")
def get_config(request: Request, services: ServicesOf) -> schemas.AdminConfig:
    """The settings of this server, without secrets."""
    return schemas.AdminConfig(version=request.app.version, settings=services.admin.config)


@router.get("/keys")
def list_keys(services: ServicesOf) -> schemas.KeyList:
    """Every key with its usage, oldest first."""
    return schemas.KeyList(items=[schemas.Key.of(key) for key in services.admin.list_keys()])


@router.post("/keys", openapi_extra=json_body(schemas.KeyCreate), responses=errors(s400=_BAD_FIELD))
def create_key(operator: Admin, body: KeyCreateBody, services: ServicesOf) -> schemas.CreatedKey:
    """Create a key; only this response contains its secret."""
    key = services.admin.create_key(operator, client_id=body.client_id, note=body.note or "", test=body.test or False)
    return schemas.CreatedKey.from_new(key)


@router.post("/keys/disable", openapi_extra=json_body(schemas.KeySelector), responses=_NO_KEY)
def disable_key(operator: Admin, body: KeySelectorBody, services: ServicesOf) -> schemas.UpdatedKey:
    """Disable a key: its next request fails with `invalid_api_key`. Its running jobs continue."""
    return schemas.UpdatedKey.of(services.admin.set_enabled(operator, body.key_fingerprint, enabled=False))


@router.post("/keys/enable", openapi_extra=json_body(schemas.KeySelector), responses=_NO_KEY)
def enable_key(operator: Admin, body: KeySelectorBody, services: ServicesOf) -> schemas.UpdatedKey:
    """Enable a disabled key."""
    return schemas.UpdatedKey.of(services.admin.set_enabled(operator, body.key_fingerprint, enabled=True))


@router.post(
    "/keys/delete",
    openapi_extra=json_body(schemas.KeySelector),
    responses={**_NO_KEY, **errors(s409="ALPHAREEL_API_KEY names the key")},
)
def delete_key(operator: Admin, body: KeySelectorBody, services: ServicesOf) -> Deleted:
    """Delete a key for good. Its secret is erased; its jobs continue, and the audit log keeps its fingerprint."""
    return Deleted(id=services.admin.delete_key(operator, body.key_fingerprint).fingerprint, message="Key deleted")


@router.post("/keys/rotate", openapi_extra=json_body(schemas.KeyRotate), responses=_NO_KEY)
def rotate_key(operator: Admin, body: KeyRotateBody, services: ServicesOf) -> schemas.CreatedKey:
    """Give a key a new secret and fingerprint. It keeps its jobs and limits; the old secret works for a while."""
    grace = schemas.DEFAULT_GRACE_SECONDS if body.grace_seconds is None else body.grace_seconds
    return schemas.CreatedKey.from_new(services.admin.rotate(operator, body.key_fingerprint, grace_seconds=grace))


@router.post("/keys/limits", openapi_extra=json_body(schemas.KeyLimits), responses=_NO_KEY)
def limit_key(operator: Admin, body: KeyLimitsBody, services: ServicesOf) -> schemas.UpdatedKey:
    """Set limits of this key alone. Absent fields stay unchanged; `null` restores the server's default."""
    limits = {name: getattr(body, name) for name in KEY_LIMITS if name in body.model_fields_set}
    if not limits:
        services.admin.find_key(body.key_fingerprint)
        raise InvalidRequest("The body names no limit.", hint=f"Name at least one of {', '.join(KEY_LIMITS)}.")
    return schemas.UpdatedKey.of(services.admin.set_limits(operator, body.key_fingerprint, limits))


@router.get("/credits", responses=_BAD_PARAMETER)
def get_credits(
    services: ServicesOf,
    client_id: Annotated[schemas.ClientId, Query()],
    limit: Annotated[int, Query(ge=1, le=MAX_EVENTS)] = 20,
) -> schemas.Ledger:
    """A client's credits, and the latest entries of their ledger, newest first."""
    entries = [schemas.Entry.of(entry) for entry in services.admin.entries(client_id, limit=limit)]
    return schemas.Ledger.of(services.admin.account(client_id), items=entries)


@router.post(
    "/credits/grant",
    openapi_extra=json_body(schemas.CreditGrant),
    responses=errors(
        s400=_BAD_FIELD,
        s404=_NO_CLIENT,
        s409="The client is unlimited, or has fewer credits than are to be taken",
    ),
)
def grant_credits(operator: Admin, body: CreditGrantBody, services: ServicesOf) -> schemas.Account:
    """Add credits to a client who has a balance; a negative number takes some away.

    An unlimited client needs `start_charging`: its jobs are charged from then on.
    """
    account = services.admin.grant(
        operator, client_id=body.client_id, amount=body.credits, start_charging=body.start_charging
    )
    return schemas.Account.of(account)


@router.post(
    "/credits/set",
    openapi_extra=json_body(schemas.CreditBalance),
    responses=errors(s400=_BAD_FIELD, s404=_NO_CLIENT),
)
def set_credits(operator: Admin, body: CreditBalanceBody, services: ServicesOf) -> schemas.Account:
    """Replace a client's balance; `null` makes the client unlimited. Reserved credits stay reserved."""
    account = services.admin.set_balance(operator, client_id=body.client_id, balance=body.balance)
    return schemas.Account.of(account)


@router.get("/usage", response_model=schemas.KeyUsage, responses={**_BAD_PARAMETER, **OR_CSV})
def get_key_usage(
    services: ServicesOf,
    days: Annotated[int, Query(ge=1, le=MAX_DAYS)] = 7,
    client_id: Annotated[str | None, Query(min_length=1, max_length=200)] = None,
    format: Annotated[Literal["json", "csv"], Query()] = "json",  # noqa: A002  # the parameter's public name
) -> Response:
    """Jobs and credits of the last days by day, key and model, of one client or all; also as CSV."""
    items = [
        schemas.KeyUsageDay.of(row.bucket, client_id=row.client_id, key_fingerprint=row.fingerprint)
        for row in services.usage.by_key(days=days, client_id=client_id)
    ]
    if format == "csv":
        return csv_response(schemas.KeyUsageDay, items)
    return JSONResponse(schemas.KeyUsage(days=days, items=items).model_dump(mode="json"))


@router.get("/jobs", responses=_BAD_PARAMETER)
def list_all_jobs(
    services: ServicesOf,
    *,
    status: StatusFilter = None,
    client_id: Annotated[str | None, Query(min_length=1, max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    offset: Annotated[int, Query(ge=0, le=MAX_OFFSET)] = 0,
) -> schemas.OperatorJobList:
    """Jobs of all keys, newest first, without what callers sent and without links to files."""
    page = services.jobs.list_of_all_keys(client_id=client_id, status=status, limit=limit, offset=offset)
    owners = services.admin.owners(page.items)
    items = [schemas.OperatorJob.of(job, owners.get(job.key_id or "")) for job in page.items]
    return schemas.OperatorJobList(
        items=items, total=page.total, limit=limit, offset=offset, has_more=offset + len(items) < page.total
    )


@router.get("/jobs/{job_id}", responses=_NO_JOB)
def inspect_job(job_id: str, operator: Admin, services: ServicesOf) -> schemas.OperatorJobDetail:
    """One job of any key: every transition and every webhook delivery."""
    principal = _as_principal(operator)
    job = services.jobs.get(principal, job_id)
    return schemas.OperatorJobDetail.of(
        job,
        services.admin.owners([job]).get(job.key_id or ""),
        history=[Transition.model_validate(event) for event in services.jobs.events(principal, job_id)],
        webhooks=[Webhook(**webhook_fields(webhook)) for webhook in services.webhooks.list(principal, job_id)],
    )


@router.post("/jobs/{job_id}/cancel", responses={**_NO_JOB, **errors(s409="Already completed")})
def cancel_any_job(job_id: str, operator: Admin, services: ServicesOf) -> schemas.OperatorJobDetail:
    """Cancel a job of any key. Repeating this changes nothing."""
    services.jobs.cancel(_as_principal(operator), job_id)
    return inspect_job(job_id, operator, services)


@router.post("/jobs/{job_id}/webhooks/{delivery_id}/redeliver", responses=_NO_JOB)
def redeliver_any_webhook(
    job_id: str, delivery_id: str, operator: Admin, services: ServicesOf
) -> schemas.OperatorJobDetail:
    """Send a webhook of any job again now."""
    services.webhooks.redeliver(_as_principal(operator), job_id, delivery_id)
    return inspect_job(job_id, operator, services)


def _as_principal(operator: Operator) -> Principal:
    return Principal(key=None, request_id=operator.request_id or "", operator=operator.name)


@router.get("/events", responses=_BAD_PARAMETER)
def list_admin_events(
    services: ServicesOf, limit: Annotated[int, Query(ge=1, le=MAX_EVENTS)] = 20
) -> schemas.AdminEvents:
    """The audit log of operator actions, newest first."""
    events = services.admin.list_events(limit=limit)
    return schemas.AdminEvents(items=[schemas.AdminEvent.model_validate(event) for event in events])
