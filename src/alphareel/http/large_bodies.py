"""Extends uvicorn's HTTP protocol: the bytes of a large body go to the application as they were received.

uvicorn's parser copies each byte of a body three times, and reading pauses at every 64 KiB that wait. A body of
declared length needs no parser: it ends after that many bytes.
"""

import asyncio
from collections import deque
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from alphareel.http.middleware.lingering_close import LENGTH

LARGE_BODY = 1024 * 1024  # bytes from which a body is large
MAX_WAITING, MIN_WAITING = 768 * 1024, 64 * 1024  # bytes of a body in memory before reading pauses
TOTAL_WAITING = 48 * 1024 * 1024  # of all large bodies together


def pass_large_bodies(protocol: Any = AutoHTTPProtocol) -> type[asyncio.Protocol]:
    """A uvicorn protocol that hands on large bodies without parsing or copying them.

    A body that nobody reads yet occupies no more memory than before. Needs httptools; with h11 nothing changes.
    """
    open_bodies: set[object] = set()

    class LargeBodyProtocol(protocol):  # type: ignore[misc]
        parser: Any
        _body: "_LargeBody | None" = None

        def on_headers_complete(self) -> None:
            previous = self.cycle
            super().on_headers_complete()
            length = _declared_length(self.headers)
            if self.cycle is not previous and length > LARGE_BODY:
                self._body = _LargeBody(self.cycle, length, open_bodies)

        def on_body(self, body: bytes) -> None:
            if self._body is not None:
                self._body.left -= len(body)
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._end_body()
            super().on_message_complete()

        def data_received(self, data: bytes) -> None:
            if self._body is None or not self._body.is_begun:
                super().data_received(data)
                if self._body is not None:
                    self._body.is_begun = True  # its head was received; the rest of the body needs no parser
                return
            body, rest = self._body, b""
            if len(data) > body.left:
                data, rest = data[: body.left], data[body.left :]
            body.add(data)
            if body.left == 0:
                self._end_body()
                self._begin_parser()
                super().on_message_complete()
            if rest:
                super().data_received(rest)

        def connection_lost(self, exc: Exception | None) -> None:
            self._end_body()
            super().connection_lost(exc)

        def _begin_parser(self) -> None:
            """A new parser for the next request: the old one still waits for the body."""
            self.parser = type(self.parser)(self)
            if hasattr(self.parser, "set_dangerous_leniencies"):
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does

        def _end_body(self) -> None:
            if self._body is not None:
                open_bodies.discard(self._body)
                self._body = None

    return LargeBodyProtocol


class _LargeBody:
    """The body of one request. ``left``: bytes that have not arrived."""

    def __init__(self, cycle: Any, left: int, open_bodies: set[object]) -> None:
        self.left = left
        self.is_begun = False
        self._cycle = cycle
        self._open_bodies = open_bodies
        self._pieces: deque[bytes] = deque()
        self._waiting = 0  # bytes in them
        self._is_wanted = False
        self._is_over = False
        cycle.receive = self.receive
        open_bodies.add(self)

    def add(self, data: bytes) -> None:
        self.left -= len(data)
        if self._cycle.response_complete:
            return
        self._pieces.append(data)
        self._waiting += len(data)
        if self._waiting > self._most():
            self._cycle.flow.pause_reading()
        self._cycle.message_event.set()

    async def receive(self) -> dict[str, Any]:
        """An ASGI message, as uvicorn's own."""
        cycle = self._cycle
        self._is_wanted = True
        if cycle.waiting_for_100_continue and not cycle.transport.is_closing():
            cycle.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            cycle.waiting_for_100_continue = False
        while not (cycle.disconnected or cycle.response_complete):
            if self._waiting <= self._most() // 2:
                cycle.flow.resume_reading()
            if cycle.body:  # what came with the head
                piece, cycle.body = bytes(cycle.body), bytearray()
                return self._message(piece)
            if self._pieces:
                piece = self._pieces.popleft()
                self._waiting -= len(piece)
                return self._message(piece)
            if not cycle.more_body and not self._is_over:
                return self._message(b"")
            cycle.message_event.clear()
            await cycle.message_event.wait()
        return {"type": "http.disconnect"}

    def _message(self, piece: bytes) -> dict[str, Any]:
        self._is_over = not (self._pieces or self._cycle.more_body)
        return {"type": "http.request", "body": piece, "more_body": not self._is_over}

    def _most(self) -> int:
        if not self._is_wanted:
            return MIN_WAITING
        return max(MIN_WAITING, min(MAX_WAITING, TOTAL_WAITING // max(1, len(self._open_bodies))))


def _declared_length(headers: list[tuple[bytes, bytes]]) -> int:
    """Content-Length; 0 where the parser must find the end of the body."""
    length = 0
    for name, value in headers:
        if name == b"transfer-encoding":
            return 0
        if name == b"content-length" and LENGTH.fullmatch(value.decode("latin-1")):
            length = int(value)
    return length
