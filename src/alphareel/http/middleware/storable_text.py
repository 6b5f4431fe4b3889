"""Refuses request URLs with text that no database stores: PostgreSQL takes no NUL, UTF-8 no lone surrogate."""

from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Receive, Scope, Send

from alphareel.domain.errors import AlphareelError, InvalidRequest, NotFound
from alphareel.domain.fields import is_storable
from alphareel.http.errors import error_response


class StorableTextMiddleware:
    """ASGI middleware. Such text in a path is 404, because nothing has that name; in a query it is 400."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = _check_url(scope) if scope["type"] == "http" else None
        if error is None:
            await self.app(scope, receive, send)
            return
        state = scope["state"]
        state["error_code"] = error.code
        await error_response(error, request_id=state["request_id"])(scope, receive, send)


def _check_url(scope: Scope) -> AlphareelError | None:
    if not is_storable(scope["path"]):
        return NotFound("The path contains a character that no ID has.", hint="/openapi.json lists every path.")
    if b"\0" in unquote_to_bytes(scope["query_string"]):
        return InvalidRequest("The query must not contain NUL characters.", hint="Remove %00.")
    return None
