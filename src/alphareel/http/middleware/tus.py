"""What the tus protocol requires of every request and response: its version, and methods that proxies may block."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alphareel.service.tus.protocol import VERSION

PATH = "/v1/uploads/tus"
_OVERRIDDEN = ("PATCH", "DELETE")


class TusMiddleware:
    """ASGI middleware. Adds Tus-Resumable to every response under ``PATH``; obeys X-HTTP-Method-Override there."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not f"{scope['path']}/".startswith(f"{PATH}/"):
            await self.app(scope, receive, send)
            return
        override = Headers(scope=scope).get("x-http-method-override", "").upper()
        if scope["method"] == "POST" and override in _OVERRIDDEN:
            scope = {**scope, "method": override}

        async def send_with_version(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Tus-Resumable"] = VERSION
                if message["status"] == 412:
                    headers["Tus-Version"] = VERSION
            await send(message)

        await self.app(scope, receive, send_with_version)
