"""Reads the rest of a refused body, within limits, so that the client sees the response and not a broken pipe.

If a server responds early and closes, the kernel resets the connection, and a client that is still sending loses the
response. So the response goes out at once, complete by its Content-Length, and the connection closes only after the
rest of the body has arrived (RFC 9112, 9.6).
"""

import contextlib
import re

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LENGTH = re.compile(r"[0-9]{1,18}")
SMALL_BODY = 64 * 1024  # bytes; uvicorn discards this much by itself and keeps the connection open


class LingeringCloseMiddleware:
    """ASGI middleware. ``max_bytes`` and ``seconds`` limit how much of a refused body is read."""

    def __init__(self, app: ASGIApp, *, max_bytes: int, seconds: float) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_large_body(scope):
            await self.app(scope, receive, send)
            return
        body = _RequestBody(scope, receive)

        async def send_then_drain(message: Message) -> None:
            if message["type"] == "http.response.start" and not body.ended:
                MutableHeaders(scope=message)["Connection"] = "close"
            is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if is_last and not body.ended:
                await send({**message, "more_body": True})
                await body.drain(self.max_bytes, self.seconds)
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        await self.app(scope, body.receive, send_then_drain)


class _RequestBody:
    """Tracks whether a request's body has arrived completely."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.ended = False
        # With "Expect: 100-continue" the client sends no body until the application first reads from it.
        self._awaits_continue = "100-continue" in Headers(scope=scope).get("expect", "").lower()
        self._receive = receive

    async def receive(self) -> Message:
        self._awaits_continue = False
        message = await self._receive()
        self.ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def drain(self, max_bytes: int, seconds: float) -> None:
        with contextlib.suppress(TimeoutError), anyio.fail_after(seconds):
            while not self.ended and not self._awaits_continue and max_bytes > 0:
                message = await self.receive()
                max_bytes -= len(message.get("body", b""))


def declared_length(headers: Headers) -> int | None:
    """Content-Length in bytes; None if it is absent or not a plausible number."""
    length = headers.get("content-length", "")
    return int(length) if LENGTH.fullmatch(length) else None


def _has_large_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return "transfer-encoding" in headers or (declared_length(headers) or 0) > SMALL_BODY
