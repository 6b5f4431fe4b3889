"""Refuses request addresses with text that no database stores: PostgreSQL takes no NUL, UTF-8 no lone surrogate."""

from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Receive, Scope, Send

from alphareel.domain.errors import AlphareelError, InvalidRequest, NotFound
from alphareel.domain.fields import is_storable
from alphareel.http.errors import error_response


class StorableTextMiddleware:
    """ASGI middleware. A path with such text names nothing (404); in a query it is a bad parameter (400)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = _problem(scope) if scope["type"] == "http" else None
        if refused is None:
            await self.app(scope, receive, send)
            return
        state = scope["state"]
        state["error_code"] = refused.code
        await error_response(refused, request_id=state["request_id"])(scope, receive, send)


def _problem(scope: Scope) -> AlphareelError | None:
    if not is_storable(scope["path"]):
        return NotFound("The path has a character that no id has.", hint="/openapi.json lists every path.")
    if b"\0" in unquote_to_bytes(scope["query_string"]):
        return InvalidRequest("The query must not contain NUL characters.", hint="Leave %00 out.")
    return None
