"""Bodies in pieces that may not stand still or trickle, and JSON bodies: bounded, one object, of a known caller."""

import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, NoReturn

import anyio
from fastapi import Depends, Request

from alphareel.domain.errors import InvalidRequest
from alphareel.http.config import BodyTimeouts, HttpConfig
from alphareel.http.context import ConfigOf

_DEEPEST = 32
_AGAIN = "Send the request again."


async def pieces(request: Request, patience: BodyTimeouts) -> AsyncIterator[bytes]:
    """The body as it comes; raises InvalidRequest when it comes too slowly, ClientDisconnect.

    Only the time that is spent waiting for the sender counts against it.
    """
    stream = aiter(request.stream())
    waited, came = 0.0, 0
    while True:
        began = time.monotonic()
        try:
            with anyio.fail_after(patience.idle_seconds):
                piece = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise InvalidRequest(f"Nothing came for {patience.idle_seconds:g} seconds.", hint=_AGAIN) from None
        waited += time.monotonic() - began
        came += len(piece)
        if patience.is_over(waited, came):
            told = f"The body comes too slowly: {came} bytes in {waited:.0f} seconds."
            raise InvalidRequest(told, hint=f"Send at least {patience.bytes_per_second} bytes a second.")
        if piece:
            yield piece


async def read_object(request: Request, config: ConfigOf) -> Mapping[str, Any]:
    """The body as a JSON object; an absent body is an empty one, whatever its Content-Type. Raises InvalidRequest."""
    raw = await _read(request, config)
    if not raw.strip():
        return {}
    value = _parse(raw)
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object.", hint='Send fields, like {"video_url": "..."}.')
    return value


JsonObject = Annotated[Mapping[str, Any], Depends(read_object)]


async def _read(request: Request, config: HttpConfig) -> bytes:
    body = bytearray()
    longest = config.max_json_bytes
    async for piece in pieces(request, config.patience):
        body += piece
        if len(body) > longest:
            raise InvalidRequest(f"A JSON body may have {longest} bytes at most.", hint="Send files to /v1/uploads.")
    return bytes(body)


def _parse(raw: bytes) -> Any:
    try:
        value = json.loads(raw, parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair passes the parser and nothing after it
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise InvalidRequest(f"The body is not valid JSON: {_reason(error)}.") from None
    if _is_deeper(value, _DEEPEST):
        raise _too_deep()
    if b"u0000" in raw and _has_nul(value):
        raise InvalidRequest("The body must not contain NUL characters.", hint="Leave \\u0000 out.")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno}, column {error.colno}"
    if isinstance(error, UnicodeError):
        return "it is not UTF-8"
    return str(error)[:200]


def _is_deeper(value: Any, levels: int) -> bool:
    """Looks no deeper than it has to: there are bodies that the parser takes and a recursion over them does not."""
    if levels == 0:
        return True
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_is_deeper(each, levels - 1) for each in inner)


def _has_nul(value: Any) -> bool:
    if isinstance(value, dict):
        return any("\0" in name or _has_nul(inner) for name, inner in value.items())
    if isinstance(value, list):
        return any(map(_has_nul, value))
    return isinstance(value, str) and "\0" in value


def _too_deep() -> InvalidRequest:
    return InvalidRequest(f"The body nests deeper than {_DEEPEST} levels.")
