"""Answers HEAD wherever there is a GET: the same response without its body (RFC 9110, 9.3.2)."""

from starlette.routing import Match, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadMiddleware:
    """ASGI middleware. Routes without a HEAD handler receive HEAD requests as GET."""

    def __init__(self, app: ASGIApp, *, router: Router) -> None:
        self.app = app
        self.router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD" or self._passes_through(scope):
            await self.app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        scope["method"] = "GET"
        try:
            await self.app(scope, receive, send_without_body)
        finally:
            scope["method"] = "HEAD"

    def _passes_through(self, scope: Scope) -> bool:
        """Whether a route handles HEAD, or none handles GET: the router's 405 must then name HEAD."""
        as_get = {**scope, "method": "GET"}
        matches = [(route.matches(scope)[0], route.matches(as_get)[0]) for route in self.router.routes]
        return any(head is Match.FULL for head, _ in matches) or not any(get is Match.FULL for _, get in matches)
