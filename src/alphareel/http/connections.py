"""Connections that may not stand still or swell before there is a request: its head is bounded in time and size.

The HTTP server itself waits for ever for the end of a head, and one of its parsers keeps whatever is sent until then.
Nothing of this asks for a key, so it must cost nothing.
"""

import asyncio
import json
import secrets
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from alphareel.domain.errors import InvalidRequest

HEAD_SECONDS = 30.0
HEAD_BYTES = 64 * 1024


def bounded(
    protocol: Any = AutoHTTPProtocol, *, seconds: float = HEAD_SECONDS, size: int = HEAD_BYTES
) -> type[asyncio.Protocol]:
    """One of uvicorn's protocols whose requests begin within ``seconds``, with heads of about ``size`` bytes."""

    class Bounded(protocol):  # type: ignore[misc]
        _late: asyncio.TimerHandle | None = None
        _head = 0

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._wait()

        def data_received(self, data: bytes) -> None:
            before = self.cycle
            if before is not None and before.more_body:
                super().data_received(data)
                return
            self._wait()
            self._head += len(data)
            super().data_received(data)
            if self.cycle is not before:
                self._stop_waiting()
            elif self._head > size and not self.transport.is_closing():
                self.send_400_response(f"The head of the request has more than {size} bytes.")

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def send_400_response(self, msg: str) -> None:
            if self.cycle is None or self.cycle.response_complete:
                self.transport.write(_refusal(msg))
            self.transport.close()

        def _wait(self) -> None:
            if self._late is None:
                self._late = self.loop.call_later(seconds, self._give_up)

        def _give_up(self) -> None:
            self._late = None
            if self.cycle is None or self.cycle.response_complete:
                self.transport.close()
            else:  # bytes after a request, whose answer may take its time
                self._wait()

        def _stop_waiting(self) -> None:
            self._head = 0
            if self._late is not None:
                self._late.cancel()
                self._late = None

    return Bounded


def _refusal(message: str) -> bytes:
    """An answer in the shape of all others, to what never became a request."""
    made = f"req_{secrets.token_hex(12)}"
    body = json.dumps({"error": {"code": InvalidRequest.code, "message": message, "request_id": made}}).encode()
    head = (
        "HTTP/1.1 400 Bad Request",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"X-Request-Id: {made}",
        "Connection: close",
    )
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body
