"""Streams one file out of a multipart body into an upload session; no whole body is held in memory.

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
from alphareel.http.body_timeouts import BodyTimeouts
from alphareel.http.request_body import body_chunks
from alphareel.http.thread_pools import UploadPool
from alphareel.service.uploads.models import Upload
from alphareel.service.uploads.service import UploadWriter

FIELD = "file"
MAX_PARTS = 16
MAX_OTHER_FIELDS = 1024 * 1024  # bytes of all fields except the file
_EXTENDED_NAME = re.compile(r"filename\*\s*=\s*([^;\s]+)", re.IGNORECASE)
# A name that some clients quote without escaping the quotes in it. Browsers write %22 (HTML, multipart/form-data).
_UNESCAPED_NAME = re.compile(r'filename="([^"\\]*"[^;]*)"\s*(?:;|$)', re.IGNORECASE)
_FORM_HINT = f"Send it as multipart/form-data with one part named {FIELD}, as in: curl -F {FIELD}=@clip.mp4"

OpenUpload = Callable[[str, str | None], UploadWriter]


async def receive_file(
    request: Request, open_upload: OpenUpload, *, timeouts: BodyTimeouts, pool: UploadPool
) -> Upload:
    """Stream the part named ``file`` into ``open_upload(filename, declared_type)``, probe the file and finish it.

    No thread is held while the file waits for its probe. Other fields without a file name are ignored. On any
    failure, including a client that disconnects, the upload is aborted. Raises InvalidRequest and everything that
    the upload raises.
    """
    form = _FormReader(_boundary(request), open_upload, pool)
    try:
        with pool.receiving():
            async for chunk in body_chunks(request, timeouts):
                await form.feed(chunk)
            upload = await form.end()
        return await _finish(request, upload, pool)
    except BaseException:
        form.abort()
        raise


async def finish_upload(request: Request, upload: UploadWriter, pool: UploadPool) -> Upload:
    """Probe a file that was received and finish it, as ``receive_file`` does. Aborts it on any failure."""
    try:
        return await _finish(request, upload, pool)
    except BaseException:
        upload.abort()
        raise


async def _finish(request: Request, upload: UploadWriter, pool: UploadPool) -> Upload:
    probe = await pool.run(upload.start_probe)
    if probe is not None:
        await _wait_for(probe, request)
    return await pool.run(upload.finish)


async def _wait_for(probe: "Future[Any]", request: Request) -> None:
    """Wait for the probe, whatever its outcome. If the client disconnects first, cancel it, raise ClientDisconnect."""
    done = asyncio.wrap_future(probe)
    disconnected = asyncio.ensure_future(_wait_until_disconnected(request))
    try:
        await asyncio.wait((done, disconnected), return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            raise ClientDisconnect
        done.exception()  # finish() reports it
    finally:
        disconnected.cancel()
        done.cancel()


async def _wait_until_disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _FormReader:
    """Feeds the push parser, and the file's data to the upload."""

    def __init__(self, boundary: str, open_upload: OpenUpload, pool: UploadPool) -> None:
        # latin-1 decodes every header; file_name() turns file names into UTF-8.
        self._parser = PushMultipartParser(boundary, max_segment_count=MAX_PARTS, header_charset="latin-1")
        self._open_upload = open_upload
        self._pool = pool
        self._upload: UploadWriter | None = None
        self._in_file = False
        self._other_bytes = 0
        self._chunks: list[bytes] = []  # of the file, not written yet
        self._buffered = 0  # bytes in them
        self._writing: asyncio.Task[None] | None = None

    async def feed(self, chunk: bytes) -> None:
        for event in self._events(chunk):
            if isinstance(event, MultipartSegment):
                await self._begin_part(event)
            elif event is not None and self._in_file:
                self._chunks.append(event)
                self._buffered += len(event)
            elif event is not None:
                self._other_bytes += len(event)
        if self._other_bytes > MAX_OTHER_FIELDS:
            raise _unreadable_form(f"the fields beside {FIELD} have more than {MAX_OTHER_FIELDS} bytes")
        if self._buffered >= self._pool.buffer_size:
            await self._flush()

    async def end(self) -> UploadWriter:
        """The upload, which now has the whole file. Raises InvalidRequest."""
        await self._written()
        self._check_complete()
        if self._upload is None:
            raise _bad_field(f"The form has no part named {FIELD}.")
        await self._flush()
        await self._written()
        return self._upload

    def abort(self) -> None:
        """Discard the upload, as soon as no thread writes to it any more."""
        if self._upload is None:
            return
        if self._writing is None or self._writing.done():
            self._upload.abort()
        else:
            self._writing.add_done_callback(self._abort_after)

    def _abort_after(self, writing: "asyncio.Task[None]") -> None:
        if not writing.cancelled():
            writing.exception()  # of a request that has ended
        assert self._upload is not None
        self._upload.abort()

    def _events(self, chunk: bytes) -> Iterator[MultipartSegment | bytes | None]:
        try:
            yield from self._parser.parse(chunk)
        except MultipartError as error:
            raise _unreadable_form(str(error)) from None

    def _check_complete(self) -> None:
        try:
            self._parser.close()
        except MultipartError:
            raise _unreadable_form("it ends before its last boundary") from None

    async def _begin_part(self, part: MultipartSegment) -> None:
        self._in_file = part.name == FIELD
        if self._in_file and self._upload is not None:
            raise _bad_field(f"The form has more than one part named {FIELD}.")
        if self._in_file:
            self._upload = await self._pool.run(self._open_upload, file_name(part), part.content_type)
        elif part.filename is not None:
            raise _bad_field(f"The file was sent as {_as_utf8(part.name or '')[:60]!r} instead of {FIELD!r}.")

    async def _flush(self) -> None:
        """Write what is buffered in a thread, while more is received. Raises what the write before raised."""
        await self._written()
        chunks, self._chunks, self._buffered = self._chunks, [], 0
        if self._upload is not None and chunks:
            self._writing = asyncio.create_task(self._pool.run(_write, self._upload, chunks))

    async def _written(self) -> None:
        """Wait until nothing is being written. Raises what the write raised."""
        writing = self._writing
        if writing is not None:
            await asyncio.shield(writing)  # of a request that is cancelled, too, the thread goes on
            self._writing = None


def _write(upload: UploadWriter, chunks: list[bytes]) -> None:
    upload.write(*chunks)


def file_name(part: MultipartSegment) -> str:
    """The part's file name as the client sent it, including folders; empty if there is none."""
    extended = _EXTENDED_NAME.search(part.header("Content-Disposition") or "")
    if extended:
        return _decode_extended(extended.group(1))
    unescaped = _UNESCAPED_NAME.search(part.header("Content-Disposition") or "")
    name = unescaped.group(1) if unescaped else part.filename or ""
    return _as_utf8(name.replace("%22", '"'))


def _decode_extended(value: str) -> str:
    """Decode RFC 8187: charset'language'percent-encoded, in UTF-8 or, by the older RFC 5987, ISO-8859-1.

    Other charsets are treated as UTF-8: some of Python's codecs fail or do something else entirely.
    """
    charset, _, encoded = decode_rfc2231(value)
    latin = (charset or "").lower() == "iso-8859-1"
    return unquote(encoded, encoding="iso-8859-1" if latin else "utf-8", errors="replace")


def _as_utf8(header: str) -> str:
    return header.encode("latin-1", "replace").decode("utf-8", "replace")


def _boundary(request: Request) -> str:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != "multipart/form-data" or not options.get("boundary"):
        raise InvalidRequest("The body is not a form with a file.", hint=_FORM_HINT)
    return str(options["boundary"])


def _unreadable_form(reason: str) -> InvalidRequest:
    return InvalidRequest(f"The form cannot be read: {reason}.", hint=_FORM_HINT)


def _bad_field(message: str) -> InvalidRequest:
    return InvalidRequest(message, hint=_FORM_HINT, details=[FieldProblem(FIELD, "one part with one file is required")])
