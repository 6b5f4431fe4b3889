"""For operators: keys are made, shut, opened, rotated and limited here; the header X-Admin-Token opens it."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import JSONResponse

from alphareel.domain.errors import FieldProblem, InvalidRequest
from alphareel.http.auth import Admin, require_admin
from alphareel.http.context import ConfigOf, ServicesOf
from alphareel.http.csv_response import OR_CSV, csv_answer
from alphareel.http.openapi import errors, json_body
from alphareel.http.request_body import JsonObject
from alphareel.http.schemas import admin as schemas
from alphareel.service.api_keys.admin import KEY_LIMITS, MAX_EVENTS
from alphareel.service.usage.service import MAX_DAYS

router = APIRouter(
    prefix="/v1/admin",
    tags=["admin"],
    dependencies=[Depends(require_admin)],
    responses=errors(s401="No admin token, or not the right one"),
)

_BAD = "A field cannot be accepted"
_NO_CLIENT = "No key has this client_id"
_NoKey = errors(s400=_BAD, s404="No key with this fingerprint")


@router.get("/config")
def get_config(services: ServicesOf, config: ConfigOf) -> schemas.AdminConfig:
    """The settings of this server, without secrets."""
    return schemas.AdminConfig(version=config.version, settings=services.admin.config)


@router.get("/keys")
def list_keys(services: ServicesOf) -> schemas.KeyList:
    """Every key, oldest first, with what is known of its use."""
    return schemas.KeyList(items=[schemas.Key.of(key) for key in services.admin.list_keys()])


@router.post("/keys", openapi_extra=json_body(schemas.KeyCreate), responses=errors(s400=_BAD))
def create_key(operator: Admin, body: JsonObject, services: ServicesOf) -> schemas.MadeKey:
    """Make a key; its secret is in this answer and nowhere else."""
    note = body.get("note")
    test = body.get("test")
    test = False if test is None else test
    if not isinstance(test, bool):
        raise _refused("test", "must be true or false.")
    note = "" if note is None else note
    made = services.admin.create_key(operator, client_id=body.get("client_id", ""), note=note, test=test)
    return schemas.MadeKey.from_new(made)


@router.post("/keys/disable", openapi_extra=json_body(schemas.KeyChoice), responses=_NoKey)
def disable_key(operator: Admin, body: JsonObject, services: ServicesOf) -> schemas.ChangedKey:
    """Shut a key: its next request is `invalid_api_key`. Jobs that it started go on."""
    return schemas.ChangedKey.of(services.admin.set_enabled(operator, _fingerprint(body), enabled=False))


@router.post("/keys/enable", openapi_extra=json_body(schemas.KeyChoice), responses=_NoKey)
def enable_key(operator: Admin, body: JsonObject, services: ServicesOf) -> schemas.ChangedKey:
    """Open a key that was shut."""
    return schemas.ChangedKey.of(services.admin.set_enabled(operator, _fingerprint(body), enabled=True))


@router.post("/keys/rotate", openapi_extra=json_body(schemas.KeyRotate), responses=_NoKey)
def rotate_key(operator: Admin, body: JsonObject, services: ServicesOf) -> schemas.MadeKey:
    """Give a key a new secret and fingerprint; the old secret stays good for a while, jobs and counts for ever."""
    default = schemas.KeyRotate.model_fields["grace_seconds"].default
    grace = _number(body, "grace_seconds")
    fingerprint = _fingerprint(body)
    made = services.admin.rotate(operator, fingerprint, grace_seconds=default if grace is None else grace)
    return schemas.MadeKey.from_new(made)


@router.post("/keys/limits", openapi_extra=json_body(schemas.KeyLimits), responses=_NoKey)
def limit_key(operator: Admin, body: JsonObject, services: ServicesOf) -> schemas.ChangedKey:
    """Set limits of this key alone; what the body does not name stays as it is, `null` takes the service's."""
    named = {name: _number(body, name) for name in KEY_LIMITS if name in body}
    return schemas.ChangedKey.of(services.admin.set_limits(operator, _fingerprint(body), named))


@router.get("/credits", responses=errors(s400="A parameter cannot be accepted"))
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
        s400=_BAD,
        s404=_NO_CLIENT,
        s409="The client is unlimited, or has fewer credits than are to be taken",
    ),
)
def grant_credits(operator: Admin, body: JsonObject, services: ServicesOf) -> schemas.Account:
    """Add credits to a client who has a balance, or take some with a negative number.

    To an unlimited client only with `start_charging`: its jobs are charged from then on.
    """
    start = body.get("start_charging", False)
    if not isinstance(start, bool):
        raise _refused("start_charging", "must be true or false.")
    client, amount = body.get("client_id", ""), _drop_none(body, "credits")
    return schemas.Account.of(services.admin.grant(operator, client_id=client, amount=amount, start_charging=start))


@router.post(
    "/credits/set", openapi_extra=json_body(schemas.CreditBalance), responses=errors(s400=_BAD, s404=_NO_CLIENT)
)
def set_credits(operator: Admin, body: JsonObject, services: ServicesOf) -> schemas.Account:
    """Replace a client's balance; `null` makes the client unlimited. What is reserved stays reserved."""
    client = body.get("client_id", "")
    return schemas.Account.of(
        services.admin.set_balance(operator, client_id=client, balance=_drop_none(body, "balance"))
    )


@router.get(
    "/usage",
    response_model=schemas.KeyUsage,
    responses={**errors(s400="A parameter cannot be accepted"), **OR_CSV},
)
def get_key_usage(
    services: ServicesOf,
    days: Annotated[int, Query(ge=1, le=MAX_DAYS)] = 7,
    client_id: Annotated[str | None, Query(min_length=1, max_length=200)] = None,
    format: Annotated[Literal["json", "csv"], Query()] = "json",  # noqa: A002  # the parameter's public name
) -> Response:
    """Jobs and credits of the last days by day, key and model, of one client or of all; also as CSV."""
    found = services.usage.by_key(days=days, client_id=client_id)
    named = ((row.bucket, {"client_id": row.client_id, "key_fingerprint": row.fingerprint}) for row in found)
    items = [schemas.DayOfKey.of(tally, **names) for tally, names in named]
    if format == "csv":
        return csv_answer(schemas.DayOfKey, items)
    return JSONResponse(schemas.KeyUsage(days=days, items=items).model_dump(mode="json"))


@router.get("/events", responses=errors(s400="A parameter cannot be accepted"))
def list_admin_events(
    services: ServicesOf, limit: Annotated[int, Query(ge=1, le=MAX_EVENTS)] = 20
) -> schemas.AdminEvents:
    """What operators did, newest first."""
    found = services.admin.list_events(limit=limit)
    return schemas.AdminEvents(items=[schemas.AdminEvent.model_validate(event) for event in found])


def _fingerprint(body: Mapping[str, Any]) -> str:
    value = body.get("key_fingerprint")
    if not isinstance(value, str) or not value:
        raise _refused("key_fingerprint", "is required, as a text.")
    return value


def _number(body: Mapping[str, Any], field: str) -> int | None:
    value = body.get(field)
    if isinstance(value, float) and value.is_integer():
        return int(value)  # JSON has one kind of numbers: 1.0 is whole
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise _refused(field, "must be a whole number.")
    return value


def _drop_none(body: Mapping[str, Any], field: str) -> Any:
    """A null is a value here, so that a forgotten field does not pass for it."""
    if field not in body:
        raise _refused(field, "is required.")
    return body[field]


def _refused(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {message}", details=[FieldProblem(field, message)])
