"""HEAD wherever there is GET: the same answer without its body (RFC 9110, 9.3.2)."""

from starlette.routing import Match, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadMiddleware:
    """ASGI middleware. Routes without HEAD of their own see a GET, marked by ``scope['state']['head']``."""

    def __init__(self, app: ASGIApp, *, router: Router) -> None:
        self.app = app
        self.router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD" or self._is_taken(scope):
            await self.app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        scope["state"]["head"] = True
        scope["method"] = "GET"
        try:
            await self.app(scope, receive, answer)
        finally:
            scope["method"] = "HEAD"

    def _is_taken(self, scope: Scope) -> bool:
        """Also where there is no GET: the router's refusal then names HEAD."""
        as_get = {**scope, "method": "GET"}
        found = [(route.matches(scope)[0], route.matches(as_get)[0]) for route in self.router.routes]
        return any(head is Match.FULL for head, _ in found) or not any(get is Match.FULL for _, get in found)
