"""Signed links: delivers results and uploads, whole or in part."""

import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.responses import StreamingResponse

from alphareel.domain.errors import InvalidRequest
from alphareel.http.context import ServicesOf, context_of
from alphareel.http.errors import error_response, request_id
from alphareel.http.openapi import errors
from alphareel.http.ranges import Range, Unsatisfiable, matches_etag, parse_range
from alphareel.service.files.downloads import FileDownload
from alphareel.service.services import Services

router = APIRouter(tags=["files"])

_CACHE_SECONDS = 3600
_CHUNK = 64 * 1024  # bytes; bounds what a slow reader leaves in the write buffer of its connection

# A page of any site may use a file whose signed link it has: to draw it on a canvas, or as a WebGL texture. No
# credentials are involved: the link itself grants access.
_CROSS_ORIGIN = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Accept-Ranges, Content-Length, Content-Range, Content-Disposition, ETag",
    "Cross-Origin-Resource-Policy": "cross-origin",
}

_BYTES: dict[str, Any] = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


@router.get(
    "/files/{blob:path}",
    response_class=Response,
    responses={
        **errors(s404="No such file, or the link is forged or expired", s416="The range is outside of the file"),
        200: {"description": "The file", **_BYTES},
        206: {"description": "The requested range", **_BYTES},
        304: {"description": "Unchanged since the response with this ETag"},
    },
)
@router.head("/files/{blob:path}", include_in_schema=False, response_class=Response)
def get_file(blob: str, request: Request, services: ServicesOf) -> Response:
    """A file by its signed link, which needs no key. Supports `Range`, `If-Range`, `If-None-Match`."""
    download = services.files.open_download(blob, dict(request.query_params))
    etag = f'"{download.etag}"'
    if matches_etag(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=_headers(request, download, etag))
    try:
        part = requested_range(request, download.size, etag)
    except Unsatisfiable:
        return range_not_satisfiable(request, download.size)
    return send_download(request, download, part, services)


@router.options("/files/{blob:path}", include_in_schema=False)  # noqa: FAST003  # all paths alike
def preflight_file() -> Response:
    """Lets pages of any site send conditional requests and ranges. Only GET says whether a link is valid."""
    allowed = {
        "Access-Control-Allow-Methods": "GET, HEAD",
        "Access-Control-Allow-Headers": "Range, If-Range, If-None-Match, If-Modified-Since",
        "Access-Control-Max-Age": "86400",
    }
    return JSONResponse({"success": True}, headers={**_CROSS_ORIGIN, **allowed})


def requested_range(request: Request, size: int, etag: str) -> Range | None:
    """None for the whole file. Range applies only to GET (RFC 9110, 14.2)."""
    if request.method != "GET" or request.headers.get("if-range", etag) != etag:
        return None
    return parse_range(request.headers.get("range", ""), size)


def send_download(
    request: Request, download: FileDownload, part: Range | None, services: Services | None = None
) -> Response:
    """The response with a file or a part of it. ``services``: of the link, if a whole file counts as downloaded."""
    headers = _headers(request, download, f'"{download.etag}"')
    whole = Range(0, download.size)
    selected = part or whole
    if part:
        headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{download.size}"
    headers["Content-Length"] = str(selected.length)
    status = 206 if part else 200
    if request.method == "HEAD" or not selected.length:
        return Response(status_code=status, headers=headers, media_type=download.content_type)
    content = _stream(download, selected) if part or not services else _stream_whole(download, selected, services)
    return StreamingResponse(content, status_code=status, headers=headers, media_type=download.content_type)


async def _stream_whole(download: FileDownload, whole: Range, services: Services) -> AsyncIterator[bytes]:
    """Only whole files count as downloaded: players request the end of a file before its beginning."""
    async for chunk in _stream(download, whole):
        yield chunk
    await run_in_threadpool(services.files.mark_downloaded, download.blob)


async def _stream(download: FileDownload, part: Range) -> AsyncIterator[bytes]:
    blocks = download.read(part.start, part.length)
    try:
        async for block in iterate_in_threadpool(blocks):
            for offset in range(0, len(block), _CHUNK):
                yield block[offset : offset + _CHUNK]
    finally:
        with contextlib.suppress(AttributeError):  # only generators have close()
            blocks.close()  # type: ignore[attr-defined]


def _cache_control(request: Request) -> str:
    """A CDN may keep the file as well, but not for longer than its link is valid."""
    if context_of(request).settings.http.cdn_url is None or "exp" not in request.query_params:
        return f"private, max-age={_CACHE_SECONDS}"
    left = int(request.query_params["exp"]) - int(time.time())
    return f"public, max-age={max(0, min(_CACHE_SECONDS, left))}"


def _headers(request: Request, download: FileDownload, etag: str) -> dict[str, str]:
    ascii_name = "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "_" for c in download.name)
    encoded_name = quote(download.name, safe="")
    return {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        **_CROSS_ORIGIN,
        "Cache-Control": _cache_control(request),
        "Content-Disposition": f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{encoded_name}",
        "X-Content-Type-Options": "nosniff",
    }


def range_not_satisfiable(request: Request, size: int) -> Response:
    error = InvalidRequest(f"The range is outside of the file, which has {size} bytes.")
    response = error_response(error, request_id=request_id(request), status=416)
    response.headers.update(_CROSS_ORIGIN)
    response.headers["Content-Range"] = f"bytes */{size}"
    return response
