"""The header Idempotency-Key: what it names, and the answer to a request that was carried out before."""

import json
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, FastAPI, Header, Request, Response
from pydantic import BaseModel, JsonValue

from alphareel.http.auth import KeyPrincipal
from alphareel.http.request_body import JsonObject
from alphareel.service.idempotency import HEADER, LONGEST, IdempotentRequest, ReplayedResponse, check_name, fingerprint
from alphareel.service.jobs.models import Job

REPLAYED = "Idempotency-Replayed"

_ABOUT = (
    "Any text of yours, at most 255 characters: the same request under the same key is carried out once in 24 hours."
)
_FORM: dict[str, JsonValue] = {"minLength": 1, "maxLength": LONGEST, "pattern": "^[!-~]([ -~]*[!-~])?$"}
NameHeader = Annotated[str | None, Header(alias=HEADER, description=_ABOUT, json_schema_extra=_FORM)]

Show = Callable[[Job], BaseModel]
MakeOnce = Callable[[Show], IdempotentRequest | None]


def _once(request: Request, caller: KeyPrincipal, body: JsonObject, name: NameHeader = None) -> MakeOnce:
    """Turns the way in which the route answers into the request as one that is carried out once."""

    def make(show: Show) -> IdempotentRequest | None:
        if name is None or caller.key is None:
            return None
        what = f"{request.method} {request.url.path}"
        told = fingerprint(what, json.dumps(body, sort_keys=True))
        return IdempotentRequest(caller.key.id, check_name(name), told, lambda job: show(job).model_dump_json())

    return make


IdempotencyContext = Annotated[MakeOnce, Depends(_once)]


def install(app: FastAPI) -> None:
    """Answer a repeated request as the first one was answered."""
    app.add_exception_handler(ReplayedResponse, _replay)


async def _replay(_request: Request, answered: Exception) -> Response:
    assert isinstance(answered, ReplayedResponse)
    return Response(answered.body, media_type="application/json", headers={REPLAYED: "true"})
