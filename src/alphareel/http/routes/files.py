"""Signed links: results and uploads on their way out, whole or in part."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.responses import StreamingResponse

from alphareel.domain.errors import InvalidRequest
from alphareel.http.context import ServicesOf
from alphareel.http.errors import error_response, request_id
from alphareel.http.openapi import errors
from alphareel.http.ranges import Range, Unsatisfiable, parse_range
from alphareel.service.files.downloads import FileDownload
from alphareel.service.services import Services

router = APIRouter(tags=["files"])

_SLICE = 64 * 1024  # bytes written at once: what a slow reader leaves in the buffer of its connection

_BYTES: dict[str, Any] = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


@router.get(
    "/files/{blob:path}",
    response_class=Response,
    responses={
        **errors(s404="No such file, or the link is forged or expired", s416="The range lies outside of the file"),
        200: {"description": "The file", **_BYTES},
        206: {"description": "The range that was asked for", **_BYTES},
        304: {"description": "Not changed since the answer with this ETag"},
    },
)
@router.head("/files/{blob:path}", include_in_schema=False, response_class=Response)
def get_file(blob: str, request: Request, services: ServicesOf) -> Response:
    """A file by its signed link; the signature is the permission. Takes `Range`, `If-Range`, `If-None-Match`."""
    delivery = services.files.open_download(blob, dict(request.query_params))
    etag = f'"{delivery.etag}"'
    known = request.headers.get("if-none-match", "")
    if etag in known or known.strip() == "*":
        return Response(status_code=304, headers=_headers(delivery, etag))
    try:
        part = _wanted(request, delivery.size, etag)
    except Unsatisfiable:
        return _outside(request, delivery.size)
    return _send(request, services, delivery, part)


def _wanted(request: Request, size: int, etag: str) -> Range | None:
    """Ranges mean something for GET alone (RFC 9110, 14.2)."""
    if request.method != "GET" or request.headers.get("if-range", etag) != etag:
        return None
    return parse_range(request.headers.get("range", ""), size)


def _send(request: Request, services: Services, delivery: FileDownload, part: Range | None) -> Response:
    headers = _headers(delivery, f'"{delivery.etag}"')
    whole = Range(0, delivery.size)
    wanted = part or whole
    if part:
        headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{delivery.size}"
    headers["Content-Length"] = str(wanted.length)
    status = 206 if part else 200
    if request.method == "HEAD" or not wanted.length:
        return Response(status_code=status, headers=headers, media_type=delivery.content_type)
    content = _stream(delivery, wanted) if part else _stream_whole(delivery, wanted, services)
    return StreamingResponse(content, status_code=status, headers=headers, media_type=delivery.content_type)


async def _stream_whole(delivery: FileDownload, whole: Range, services: Services) -> AsyncIterator[bytes]:
    """Parts do not count as a delivery: players ask for the end of a file before its beginning."""
    async for piece in _stream(delivery, whole):
        yield piece
    await run_in_threadpool(services.files.mark_downloaded, delivery.blob)


async def _stream(delivery: FileDownload, part: Range) -> AsyncIterator[bytes]:
    pieces = delivery.read(part.start, part.length)
    try:
        async for piece in iterate_in_threadpool(pieces):
            for at in range(0, len(piece), _SLICE):
                yield piece[at : at + _SLICE]
    finally:
        with contextlib.suppress(AttributeError):  # an iterator that is no generator holds nothing open
            pieces.close()  # type: ignore[attr-defined]


def _headers(delivery: FileDownload, etag: str) -> dict[str, str]:
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "_" for c in delivery.name)
    return {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=3600",
        "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(delivery.name, safe='')}",
        "X-Content-Type-Options": "nosniff",
    }


def _outside(request: Request, size: int) -> Response:
    error = InvalidRequest(f"The range lies outside of the file, which has {size} bytes.")
    response = error_response(error, request_id=request_id(request), status=416)
    response.headers["Content-Range"] = f"bytes */{size}"
    return response
