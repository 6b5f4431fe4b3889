"""One file out of a multipart body, streamed into an upload session piece by piece; nothing is kept in memory.

Starlette's ``UploadFile`` is not used: it spools the whole body to a temporary file before a route runs.
"""

import asyncio
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from email.utils import decode_rfc2231
from typing import Any
from urllib.parse import unquote

from fastapi import Request
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from alphareel.domain.errors import FieldProblem, InvalidRequest
from alphareel.http.config import BodyTimeouts
from alphareel.http.request_body import pieces
from alphareel.http.thread_pools import UploadPool
from alphareel.service.uploads.models import Upload
from alphareel.service.uploads.service import UploadWriter

FIELD = "file"
_MOST_PARTS = 16
_MOST_ASIDE = 1024 * 1024  # bytes of all the fields that nobody asked for
_EXTENDED_NAME = re.compile(r"filename\*\s*=\s*([^;\s]+)", re.IGNORECASE)
_SEND_SO = f"Send it as multipart/form-data with one part named {FIELD}, as in: curl -F {FIELD}=@clip.mp4"

OpenSession = Callable[[str, str | None], UploadWriter]


async def receive_file(
    request: Request, open_session: OpenSession, *, patience: BodyTimeouts, pool: UploadPool
) -> Upload:
    """Stream the part named ``file`` into ``open_session(filename, declared_type)``, have it examined and finish it.

    No thread is held while the file waits for its examination. Other fields without a file name are ignored. When
    anything goes wrong, the client leaving included, the session is aborted. Raises InvalidRequest and what the
    session raises.
    """
    form = _Form(_boundary(request), open_session, pool)
    try:
        with pool.receiving():
            async for piece in pieces(request, patience):
                await form.feed(piece)
            session = await form.end()
        probe = await pool.run(session.start_probe)
        if probe is not None:
            await _wait_for(probe, request)
        return await pool.run(session.finish)
    except BaseException:
        form.abort()
        raise


async def _wait_for(probe: "Future[Any]", request: Request) -> None:
    """Until it is done, however it ended. Raises ClientDisconnect, and cancels it, when the client leaves first."""
    done = asyncio.wrap_future(probe)
    left = asyncio.ensure_future(_wait_until_left(request))
    try:
        await asyncio.wait((done, left), return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            raise ClientDisconnect
        done.exception()  # told by finish()
    finally:
        left.cancel()
        done.cancel()


async def _wait_until_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Form:
    """The push parser and the session that it feeds."""

    def __init__(self, boundary: str, open_session: OpenSession, pool: UploadPool) -> None:
        # latin-1 decodes every header; file names become UTF-8 in file_name()
        self._parser = PushMultipartParser(boundary, max_segment_count=_MOST_PARTS, header_charset="latin-1")
        self._open_session = open_session
        self._pool = pool
        self._session: UploadWriter | None = None
        self._inside = False
        self._aside = 0
        self._waiting = bytearray()

    async def feed(self, piece: bytes) -> None:
        for event in self._events(piece):
            if isinstance(event, MultipartSegment):
                await self._begin(event)
            elif event is not None and self._inside:
                self._waiting += event
            elif event is not None:
                self._aside += len(event)
        if self._aside > _MOST_ASIDE:
            raise _not_multipart(f"the fields beside {FIELD} have more than {_MOST_ASIDE} bytes")
        if len(self._waiting) >= self._pool.piece:
            await self._flush()

    async def end(self) -> UploadWriter:
        """The session, which has all of the file. Raises InvalidRequest."""
        self._check_complete()
        if self._session is None:
            raise _bad_field(f"The form has no part named {FIELD}.")
        await self._flush()
        return self._session

    def abort(self) -> None:
        if self._session is not None:
            self._session.abort()

    def _events(self, piece: bytes) -> Iterator[MultipartSegment | bytes | None]:
        try:
            yield from self._parser.parse(piece)
        except MultipartError as error:
            raise _not_multipart(str(error)) from None

    def _check_complete(self) -> None:
        try:
            self._parser.close()
        except MultipartError:
            raise _not_multipart("it ends before its last boundary") from None

    async def _begin(self, part: MultipartSegment) -> None:
        self._inside = part.name == FIELD
        if self._inside and self._session is not None:
            raise _bad_field(f"The form has more than one part named {FIELD}.")
        if self._inside:
            self._session = await self._pool.run(self._open_session, file_name(part), part.content_type)
        elif part.filename is not None:
            raise _bad_field(f"The file was sent as {_as_text(part.name or '')[:60]!r} instead of {FIELD!r}.")

    async def _flush(self) -> None:
        data, self._waiting = bytes(self._waiting), bytearray()
        if self._session is not None and data:
            await self._pool.run(self._session.write, data)


def file_name(part: MultipartSegment) -> str:
    """The part's file name as the client wrote it, folders and all; empty when there is none."""
    extended = _EXTENDED_NAME.search(part.header("Content-Disposition") or "")
    return _decode_extended(extended.group(1)) if extended else _as_text(part.filename or "")


def _decode_extended(value: str) -> str:
    """RFC 8187: charset'language'percent-encoded. UTF-8 is the one charset of it; ISO-8859-1 was of RFC 5987.

    Python knows others under which decoding fails or does something else, so the client's word is not taken for one.
    """
    charset, _, encoded = decode_rfc2231(value)
    latin = (charset or "").lower() == "iso-8859-1"
    return unquote(encoded, encoding="iso-8859-1" if latin else "utf-8", errors="replace")


def _as_text(header: str) -> str:
    return header.encode("latin-1", "replace").decode("utf-8", "replace")


def _boundary(request: Request) -> str:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != "multipart/form-data" or not options.get("boundary"):
        raise InvalidRequest("The body is no form with a file.", hint=_SEND_SO)
    return str(options["boundary"])


def _not_multipart(reason: str) -> InvalidRequest:
    return InvalidRequest(f"The form cannot be read: {reason}.", hint=_SEND_SO)


def _bad_field(message: str) -> InvalidRequest:
    return InvalidRequest(message, hint=_SEND_SO, details=[FieldProblem(FIELD, "one part with one file is required")])
