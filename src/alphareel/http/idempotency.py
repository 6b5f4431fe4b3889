"""The Idempotency-Key header: executes a request once and replays its response to repetitions."""

import json
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, FastAPI, Header, Request, Response
from pydantic import BaseModel, JsonValue

from alphareel.http.auth import KeyPrincipal
from alphareel.http.request_body import JsonObject
from alphareel.service.idempotency import HEADER, LONGEST, IdempotentRequest, ReplayedResponse, check_name, fingerprint
from alphareel.service.jobs.models import Job

REPLAYED_HEADER = "Idempotency-Replayed"

_DESCRIPTION = "Any text of up to 255 characters. A request with the same key is executed once within 24 hours."
_SCHEMA: dict[str, JsonValue] = {"minLength": 1, "maxLength": LONGEST, "pattern": "^[!-~]([ -~]*[!-~])?$"}
IdempotencyKey = Annotated[str | None, Header(alias=HEADER, description=_DESCRIPTION, json_schema_extra=_SCHEMA)]

Render = Callable[[Job], BaseModel]
MakeIdempotent = Callable[[Render], IdempotentRequest | None]


def _idempotency(
    request: Request, principal: KeyPrincipal, body: JsonObject, name: IdempotencyKey = None
) -> MakeIdempotent:
    """Builds the idempotent request from the route's response serializer; None without the header."""

    def make(render: Render) -> IdempotentRequest | None:
        if name is None or principal.key is None:
            return None
        operation = f"{request.method} {request.url.path}"
        digest = fingerprint(operation, json.dumps(body, sort_keys=True))
        return IdempotentRequest(principal.key.id, check_name(name), digest, lambda job: render(job).model_dump_json())

    return make


IdempotencyContext = Annotated[MakeIdempotent, Depends(_idempotency)]


def install(app: FastAPI) -> None:
    """Replay the stored response when a request is repeated."""
    app.add_exception_handler(ReplayedResponse, _replay)


async def _replay(_request: Request, replayed: Exception) -> Response:
    assert isinstance(replayed, ReplayedResponse)
    return Response(replayed.body, media_type="application/json", headers={REPLAYED_HEADER: "true"})
