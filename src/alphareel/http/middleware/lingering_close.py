"""A refused body is read to its end, within bounds, so that its sender sees the answer and no broken pipe.

A server that answers early and closes makes the kernel reset the connection, and a client that still sends
loses the answer. So the answer goes out at once, whole by its Content-Length, and the connection closes
only after the rest of the body came (RFC 9112, 9.6).
"""

import contextlib
import re

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LENGTH = re.compile(r"[0-9]{1,18}")
SMALL_BODY = 64 * 1024  # the HTTP server swallows as much without help, and keeps the connection


class LingeringCloseMiddleware:
    """ASGI middleware; ``max_bytes`` and ``seconds`` bound what is read of a body that nobody wants."""

    def __init__(self, app: ASGIApp, *, max_bytes: int, seconds: float) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_big_body(scope):
            await self.app(scope, receive, send)
            return
        body = _Body(scope, receive)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and not body.ended:
                MutableHeaders(scope=message)["Connection"] = "close"
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if last and not body.ended:
                await send({**message, "more_body": True})
                await body.drain(self.max_bytes, self.seconds)
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        await self.app(scope, body.receive, answer)


class _Body:
    """Watches how much of a request's body has come."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        waits = "100-continue" in Headers(scope=scope).get("expect", "").lower()
        self.ended = False
        self._unsent = waits  # the client sends nothing unless it is asked to
        self._receive = receive

    async def receive(self) -> Message:
        self._unsent = False
        message = await self._receive()
        self.ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def drain(self, max_bytes: int, seconds: float) -> None:
        with contextlib.suppress(TimeoutError), anyio.fail_after(seconds):
            while not self.ended and not self._unsent and max_bytes > 0:
                message = await self.receive()
                max_bytes -= len(message.get("body", b""))


def declared_length(headers: Headers) -> int | None:
    """Content-Length; None where there is none, or no number that a body could have."""
    length = headers.get("content-length", "")
    return int(length) if _LENGTH.fullmatch(length) else None


def _has_big_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return "transfer-encoding" in headers or (declared_length(headers) or 0) > SMALL_BODY
