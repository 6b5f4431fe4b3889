"""Extends uvicorn's HTTP protocols with limits: connections per address, request heads, slow readers.

uvicorn waits indefinitely for the end of a request head, and one of its parsers buffers it without a bound. None of
this needs a key, so unauthenticated clients must not be able to occupy connections or memory.
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
from alphareel.http.body_timeouts import BodyTimeouts
from alphareel.http.origins import Network, address_of, network_of
from alphareel.telemetry.logging import get_logger

HEAD_SECONDS = 30.0
HEAD_BYTES = 64 * 1024
WRITE_BUFFER = 64 * 1024  # bytes buffered for one client before sending waits
_CHECK_INTERVAL = 5.0  # seconds between checks of a slow reader
_RETRY_AFTER = 5  # seconds
_log = get_logger(__name__)


@dataclass(frozen=True)
class ConnectionLimiter:
    """Counts the open connections of this process by address.

    ``max_per_address``: 0 for no limit. ``trusted``: networks of proxies, whose connections are not counted because
    they serve many clients. Only for the event loop's thread.
    """

    max_per_address: int = 0
    trusted: Sequence[Network] = ()
    _open: Counter[Network] = field(default_factory=Counter, init=False)

    def holder(self, peer: object) -> Network | None:
        """The network that a connection from this socket address counts for; None if it is not counted."""
        host = str(peer[0]) if isinstance(peer, tuple) and peer else ""  # otherwise a Unix socket
        address = address_of(host)
        if address is None or not self.max_per_address:
            return None
        if any(address in network for network in self.trusted if network.version == address.version):
            return None
        return network_of(host)

    def admit(self, transport: asyncio.Transport) -> Callable[[], None] | None:
        """A function to call once when the connection ends; None if the limit was reached and it was closed."""
        holder = self.holder(transport.get_extra_info("peername"))
        if holder is None:
            return lambda: None
        if self._open[holder] >= self.max_per_address:
            transport.write(_too_many_connections(self.max_per_address))
            transport.close()
            return None
        self._open[holder] += 1
        return partial(self._release, holder)

    def _release(self, holder: Network) -> None:
        self._open[holder] -= 1
        if not self._open[holder]:
            del self._open[holder]


def limit_connections(limiter: ConnectionLimiter, protocol: Any = AutoHTTPProtocol) -> type[asyncio.Protocol]:
    """A uvicorn protocol that refuses connections beyond what ``limiter`` admits."""

    class ConnectionLimitedProtocol(protocol):  # type: ignore[misc]
        _release: Callable[[], None] | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._release = limiter.admit(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            if self._release is not None:
                self._release()
            super().connection_lost(exc)

    return ConnectionLimitedProtocol


def limit_slow_readers(protocol: Any = AutoHTTPProtocol, *, timeouts: BodyTimeouts) -> type[asyncio.Protocol]:
    """A uvicorn protocol that disconnects clients which read responses too slowly.

    Only time with a full write buffer counts, when nothing but the client delays the response. Sending waits while
    the buffer is full, so a slow client costs no more memory than the buffer and one chunk.
    """

    class SlowReaderProtocol(protocol):  # type: ignore[misc]
        _timer: asyncio.TimerHandle | None = None
        _waited = 0.0  # seconds with a full buffer, until the last measurement
        _read_bytes = 0  # bytes that left the buffer in that time
        _measured_at = _progress_at = 0.0
        _buffered = 0  # bytes in the buffer at the last measurement

        def connection_made(self, transport: asyncio.Transport) -> None:
            transport.set_write_buffer_limits(high=WRITE_BUFFER)
            super().connection_made(transport)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._measured_at = self._progress_at = self.loop.time()
            self._buffered = self.transport.get_write_buffer_size()
            self._schedule_check()

        def resume_writing(self) -> None:
            super().resume_writing()
            self._measure()
            self._cancel_check()

        def connection_lost(self, exc: Exception | None) -> None:
            self._cancel_check()
            super().connection_lost(exc)

        def _measure(self) -> None:
            now, buffered = self.loop.time(), self.transport.get_write_buffer_size()
            self._waited += now - self._measured_at
            self._read_bytes += max(0, self._buffered - buffered)
            if buffered < self._buffered:
                self._progress_at = now
            self._measured_at, self._buffered = now, buffered

        def _schedule_check(self) -> None:
            self._cancel_check()
            self._timer = self.loop.call_later(min(_CHECK_INTERVAL, timeouts.idle_seconds / 2), self._check)

        def _check(self) -> None:
            self._timer = None
            self._measure()
            is_idle = self._measured_at - self._progress_at >= timeouts.idle_seconds
            if is_idle or timeouts.is_too_slow(self._waited, self._read_bytes):
                _log.info("slow reader cut off", seconds=round(self._waited, 1), bytes=self._read_bytes)
                self.transport.abort()
            else:
                self._schedule_check()

        def _cancel_check(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    return SlowReaderProtocol


def limit_request_head(
    protocol: Any = AutoHTTPProtocol, *, seconds: float = HEAD_SECONDS, size: int = HEAD_BYTES
) -> type[asyncio.Protocol]:
    """A uvicorn protocol whose request heads must arrive within ``seconds`` and have at most about ``size`` bytes."""

    class HeadLimitedProtocol(protocol):  # type: ignore[misc]
        _timer: asyncio.TimerHandle | None = None
        _head_bytes = 0

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._start_timer()

        def data_received(self, data: bytes) -> None:
            previous_cycle = self.cycle
            if previous_cycle is not None and previous_cycle.more_body:
                super().data_received(data)
                return
            self._start_timer()
            self._head_bytes += len(data)
            super().data_received(data)
            if self.cycle is not previous_cycle:
                self._stop_timer()
            elif self._head_bytes > size and not self.transport.is_closing():
                self.send_400_response(f"The head of the request has more than {size} bytes.")

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def send_400_response(self, msg: str) -> None:
            if self.cycle is None or self.cycle.response_complete:
                self.transport.write(_raw_response(InvalidRequest(msg), "400 Bad Request"))
            self.transport.close()

        def _start_timer(self) -> None:
            if self._timer is None:
                self._timer = self.loop.call_later(seconds, self._time_out)

        def _time_out(self) -> None:
            self._timer = None
            if self.cycle is None or self.cycle.response_complete:
                self.transport.close()
            else:  # the start of a next request while this one is still being answered
                self._start_timer()

        def _stop_timer(self) -> None:
            self._head_bytes = 0
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    return HeadLimitedProtocol


def _too_many_connections(limit: int) -> bytes:
    error = RateLimited(
        f"More than {limit} connections from one address. Close one, or wait.", retry_after=_RETRY_AFTER
    )
    return _raw_response(error, "429 Too Many Requests", f"Retry-After: {_RETRY_AFTER}")


def _raw_response(error: AlphareelError, status: str, *headers: str) -> bytes:
    """An error response in the usual shape for a connection that never became a request."""
    request_id = f"req_{secrets.token_hex(12)}"
    body = json.dumps({"error": {"code": error.code, "message": error.message, "request_id": request_id}}).encode()
    head = (
        f"HTTP/1.1 {status}",
        *headers,
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"X-Request-Id: {request_id}",
        "Connection: close",
    )
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body
