"""Connections that may not stand still or swell, before there is a request or after, nor be too many of one address.

The HTTP server itself waits for ever for the end of a head, and one of its parsers keeps whatever is sent until then.
Nothing of this asks for a key, so it must cost nothing.
"""

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from alphareel.domain.errors import AlphareelError, InvalidRequest, RateLimited
from alphareel.http.config import BodyTimeouts
from alphareel.http.origins import Network, address_of, network_of
from alphareel.telemetry.logging import get_logger

HEAD_SECONDS = 30.0
HEAD_BYTES = 64 * 1024
WRITE_BUFFER = 64 * 1024  # bytes of answers that wait for one client before sending waits too
_LOOK = 5.0  # seconds between two looks at a client that is slow
_log = get_logger(__name__)
_PAUSE = 5  # seconds


@dataclass(frozen=True)
class ConnectionLimiter:
    """Who is connected to this process: ``most`` connections of one address, 0 for any number.

    Addresses in ``trusted`` are proxies, which connect for many and are not counted. For the event loop's thread only.
    """

    most: int = 0
    trusted: Sequence[Network] = ()
    _open: Counter[Network] = field(default_factory=Counter, init=False)

    def holder(self, peer: object) -> Network | None:
        """Whom a connection from this socket address counts for; None for nobody."""
        host = str(peer[0]) if isinstance(peer, tuple) and peer else ""  # else a Unix socket
        address = address_of(host)
        if address is None or not self.most:
            return None
        if any(address in network for network in self.trusted if network.version == address.version):
            return None
        return network_of(host)

    def admit(self, transport: asyncio.Transport) -> Callable[[], None] | None:
        """What to call once when the connection ends; None for one too many, which was told so and closed."""
        holder = self.holder(transport.get_extra_info("peername"))
        if holder is None:
            return lambda: None
        if self._open[holder] >= self.most:
            transport.write(_too_many(self.most))
            transport.close()
            return None
        self._open[holder] += 1
        return partial(self._leave, holder)

    def _leave(self, holder: Network) -> None:
        self._open[holder] -= 1
        if not self._open[holder]:
            del self._open[holder]


def limit_connections(crowd: ConnectionLimiter, protocol: Any = AutoHTTPProtocol) -> type[asyncio.Protocol]:
    """One of uvicorn's protocols whose connections are no more than ``crowd`` takes; those beyond are told so."""

    class Counted(protocol):  # type: ignore[misc]
        _leave: Callable[[], None] | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._leave = crowd.admit(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            if self._leave is not None:
                self._leave()
            super().connection_lost(exc)

    return Counted


def drained(protocol: Any = AutoHTTPProtocol, *, patience: BodyTimeouts) -> type[asyncio.Protocol]:
    """One of uvicorn's protocols that cuts a client off which does not take what it asked for.

    Measured while the connection's buffer is full, when nobody but the client holds things up. Sending waits while it
    is full, so a slow client costs no more memory than the buffer and one piece of the answer.
    """

    class Drained(protocol):  # type: ignore[misc]
        _check: asyncio.TimerHandle | None = None
        _waited = 0.0  # seconds with a full buffer, until the last look
        _taken = 0  # bytes that left the buffer in them
        _looked = _moved = 0.0
        _left = 0  # bytes in the buffer at the last look

        def connection_made(self, transport: asyncio.Transport) -> None:
            transport.set_write_buffer_limits(high=WRITE_BUFFER)
            super().connection_made(transport)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._looked = self._moved = self.loop.time()
            self._left = self.transport.get_write_buffer_size()
            self._look_later()

        def resume_writing(self) -> None:
            super().resume_writing()
            self._look()
            self._stop_looking()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_looking()
            super().connection_lost(exc)

        def _look(self) -> None:
            now, left = self.loop.time(), self.transport.get_write_buffer_size()
            self._waited += now - self._looked
            self._taken += max(0, self._left - left)
            if left < self._left:
                self._moved = now
            self._looked, self._left = now, left

        def _look_later(self) -> None:
            self._stop_looking()
            self._check = self.loop.call_later(min(_LOOK, patience.idle_seconds / 2), self._judge)

        def _judge(self) -> None:
            self._check = None
            self._look()
            if self._looked - self._moved >= patience.idle_seconds or patience.is_over(self._waited, self._taken):
                _log.info("slow reader cut off", seconds=round(self._waited, 1), bytes=self._taken)
                self.transport.abort()
            else:
                self._look_later()

        def _stop_looking(self) -> None:
            if self._check is not None:
                self._check.cancel()
                self._check = None

    return Drained


def limit_request_head(
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
                self.transport.write(_refusal(InvalidRequest(msg), "400 Bad Request"))
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


def _too_many(most: int) -> bytes:
    refused = RateLimited(f"More than {most} connections from one address. Close one, or wait.", retry_after=_PAUSE)
    return _refusal(refused, "429 Too Many Requests", f"Retry-After: {_PAUSE}")


def _refusal(error: AlphareelError, status: str, *more: str) -> bytes:
    """An answer in the shape of all others, to what never became a request."""
    made = f"req_{secrets.token_hex(12)}"
    told = {"code": error.code, "message": error.message, "request_id": made}
    body = json.dumps({"error": told}).encode()
    head = (
        f"HTTP/1.1 {status}",
        *more,
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"X-Request-Id: {made}",
        "Connection: close",
    )
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body
