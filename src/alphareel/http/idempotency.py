"""The header Idempotency-Key: what it names, and the answer to a request that was carried out before."""

import json
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, FastAPI, Header, Request, Response
from pydantic import BaseModel, JsonValue

from alphareel.http.auth import KeyCaller
from alphareel.http.bodies import JsonObject
from alphareel.jobs.job import Job
from alphareel.jobs.repeats import HEADER, LONGEST, Answered, Once, check_name, fingerprint

REPLAYED = "Idempotency-Replayed"

_ABOUT = (
    "Any text of yours, at most 255 characters: the same request under the same key is carried out once in 24 hours."
)
_FORM: dict[str, JsonValue] = {"minLength": 1, "maxLength": LONGEST, "pattern": "^[!-~]([ -~]*[!-~])?$"}
NameHeader = Annotated[str | None, Header(alias=HEADER, description=_ABOUT, json_schema_extra=_FORM)]

Show = Callable[[Job], BaseModel]
MakeOnce = Callable[[Show], Once | None]


def _once(request: Request, caller: KeyCaller, body: JsonObject, name: NameHeader = None) -> MakeOnce:
    """Turns the way in which the route answers into the request as one that is carried out once."""

    def make(show: Show) -> Once | None:
        if name is None or caller.key is None:
            return None
        what = f"{request.method} {request.url.path}"
        told = fingerprint(what, json.dumps(body, sort_keys=True))
        return Once(caller.key.id, check_name(name), told, lambda job: show(job).model_dump_json())

    return make


OnceFor = Annotated[MakeOnce, Depends(_once)]


def install(app: FastAPI) -> None:
    """Answer a repeated request as the first one was answered."""
    app.add_exception_handler(Answered, _replay)


async def _replay(_request: Request, answered: Exception) -> Response:
    assert isinstance(answered, Answered)
    return Response(answered.body, media_type="application/json", headers={REPLAYED: "true"})
