"""Reads request bodies in chunks with limits on size and speed, and JSON bodies as validated models."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Annotated, Any, NoReturn, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel

from alphareel.domain.errors import FieldProblem, InvalidRequest
from alphareel.http.body_timeouts import BodyTimeouts
from alphareel.http.context import context_of
from alphareel.service.requests import validated
from alphareel.service.settings import HttpSettings

MAX_JSON_DEPTH = 32
_RETRY_HINT = "Send the request again."

ModelT = TypeVar("ModelT", bound=BaseModel)


async def body_chunks(request: Request, timeouts: BodyTimeouts) -> AsyncIterator[bytes]:
    """The body in chunks as they arrive. Raises InvalidRequest when it arrives too slowly, ClientDisconnect.

    Only the time spent waiting for the client counts.
    """
    stream = aiter(request.stream())
    loop = asyncio.get_running_loop()
    waited, received = 0.0, 0
    try:
        # One timeout for all chunks, running while a chunk is awaited: a new one for each chunk is slow.
        async with asyncio.timeout(None) as idle:
            while True:
                wait_started = loop.time()
                idle.reschedule(wait_started + timeouts.idle_seconds)
                try:
                    chunk = await anext(stream)
                except StopAsyncIteration:
                    return
                idle.reschedule(None)
                waited += loop.time() - wait_started
                received += len(chunk)
                if timeouts.is_too_slow(waited, received):
                    raise InvalidRequest(
                        f"The body arrives too slowly: {received} bytes in {waited:.0f} seconds.",
                        hint=f"Send at least {timeouts.bytes_per_second} bytes per second.",
                    )
                if chunk:
                    yield chunk
    except TimeoutError:
        raise InvalidRequest(f"No data arrived for {timeouts.idle_seconds:g} seconds.", hint=_RETRY_HINT) from None


async def read_object(request: Request) -> Mapping[str, Any]:
    """The body as a JSON object; an absent body is an empty one, whatever its Content-Type. Raises InvalidRequest."""
    raw = await _read(request, context_of(request).settings.http)
    if not raw.strip():
        return {}
    value = _parse(raw)
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object.", hint='Send fields, like {"video_url": "..."}.')
    return value


JsonObject = Annotated[Mapping[str, Any], Depends(read_object)]


def body_of(model: type[ModelT]) -> Callable[[Mapping[str, Any]], ModelT]:
    """A dependency that validates the JSON body as ``model``. It raises InvalidRequest.

    FastAPI's own body parameters are not used: FastAPI reads the body before it resolves dependencies, so
    before it checks the key.
    """

    def validate(body: JsonObject) -> ModelT:
        return validated(model, body)

    return validate


async def _read(request: Request, settings: HttpSettings) -> bytes:
    body = bytearray()
    max_bytes = settings.max_json_bytes
    async for chunk in body_chunks(request, BodyTimeouts.of_requests(settings)):
        body += chunk
        if len(body) > max_bytes:
            raise InvalidRequest(f"A JSON body may have at most {max_bytes} bytes.", hint="Send files to /v1/uploads.")
    return bytes(body)


def _parse(raw: bytes) -> Any:
    try:
        text = raw.decode(json.detect_encoding(raw), "surrogatepass")
        value = json.loads(text, parse_constant=_refuse_constant, parse_int=_whole_number)
        json.dumps(value, ensure_ascii=False).encode()  # refuses lone surrogates, which the parser accepts
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise InvalidRequest(f"The body is not valid JSON: {_reason(error)}.") from None
    if _is_deeper(value, MAX_JSON_DEPTH):
        raise _too_deep()
    if "u0000" in text and isinstance(value, dict) and _has_nul(value):
        names = [name.replace("\0", "") for name, child in value.items() if "\0" in name or _has_nul(child)]
        details = [FieldProblem(name, "must not contain null characters (\\u0000).") for name in names]
        raise InvalidRequest(f"{names[0]}: {details[0].message}", details=details)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _whole_number(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:
        raise ValueError(f"a number has {len(digits)} digits") from None


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno}, column {error.colno}"
    if isinstance(error, UnicodeError):
        return "it is not UTF-8"
    return str(error)[:200]


def _is_deeper(value: Any, levels: int) -> bool:
    """Recurses at most ``levels`` deep: the parser accepts bodies that would exhaust the stack here."""
    if levels == 0:
        return True
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_is_deeper(child, levels - 1) for child in children)


def _has_nul(value: Any) -> bool:
    if isinstance(value, dict):
        return any("\0" in name or _has_nul(child) for name, child in value.items())
    if isinstance(value, list):
        return any(map(_has_nul, value))
    return isinstance(value, str) and "\0" in value


def _too_deep() -> InvalidRequest:
    return InvalidRequest(f"The body nests deeper than {MAX_JSON_DEPTH} levels.")
