"""Resumable uploads: the tus protocol 1.0.0, and their state as JSON.

The routes of the protocol are not in the OpenAPI document: their bodies are not JSON, and tus clients know them.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from email.utils import format_datetime
from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect

from alphareel.domain.errors import (
    AlphareelError,
    FileTooLarge,
    InvalidRequest,
    MediaTypeUnsupported,
    VersionUnsupported,
    by_code,
)
from alphareel.http.auth import KeyPrincipal
from alphareel.http.body_timeouts import BodyTimeouts
from alphareel.http.context import ServicesOf, SettingsOf, context_of
from alphareel.http.errors import error_response, request_id
from alphareel.http.middleware.lingering_close import declared_length
from alphareel.http.middleware.tus import PATH
from alphareel.http.openapi import errors
from alphareel.http.request_body import body_chunks
from alphareel.http.schemas import tus as schemas
from alphareel.http.serializers import Serializers
from alphareel.http.thread_pools import UploadPool
from alphareel.service.principal import Principal
from alphareel.service.services import Services
from alphareel.service.tus.models import TusUpload
from alphareel.service.tus.protocol import (
    CHECKSUM_ALGORITHMS,
    CONTENT_TYPE,
    EXTENSIONS,
    VERSION,
    Checksum,
    parse_checksum,
    parse_number,
)
from alphareel.service.tus.service import TusWriter

router = APIRouter(prefix="/uploads/tus", tags=["uploads"])
options_router = APIRouter(prefix=PATH, tags=["uploads"])
"""Needs no key: clients send none with OPTIONS, and it tells nothing but the limits of this server."""


def _serializers(request: Request, services: ServicesOf, settings: SettingsOf) -> Serializers:
    return Serializers(request, services, settings)


SerializersOf = Annotated[Serializers, Depends(_serializers)]


@options_router.options("", include_in_schema=False)
@options_router.options("/{tus_id}", include_in_schema=False)  # all uploads alike
def describe_tus(settings: SettingsOf) -> Response:
    """Versions, extensions and limits of the protocol here."""
    headers = {
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(settings.limits.max_upload_bytes),
        "Tus-Checksum-Algorithm": ",".join(CHECKSUM_ALGORITHMS),
    }
    return JSONResponse({"success": True}, headers=headers)


@router.post("", include_in_schema=False)
async def create_tus(
    request: Request, principal: KeyPrincipal, services: ServicesOf, serializers: SerializersOf
) -> Response:
    """Begin a file; the body may already have its first bytes."""
    _check_version(request)
    headers = request.headers
    if "upload-defer-length" in headers:
        raise InvalidRequest("Upload-Defer-Length is not supported.", hint="Send Upload-Length.")
    length = parse_number("Upload-Length", headers.get("upload-length"))
    has_body = (declared_length(headers) or 0) > 0 or "transfer-encoding" in headers
    if has_body:
        _check_content_type(request)
    checksum = parse_checksum(headers.get("upload-checksum"))
    pool = context_of(request).upload_pool

    async def create() -> Response:
        metadata = headers.get("upload-metadata", "")
        tus = await pool.run(lambda: services.tus.create(principal, length=length, metadata=metadata))
        if has_body:
            try:
                tus = await _append(request, principal, services, tus.id, offset=0, checksum=checksum)
            except BaseException:  # the client does not know where to resume
                with contextlib.suppress(AlphareelError):
                    await pool.run(services.tus.terminate, principal, tus.id)
                raise
        answer = _headers(tus, serializers)
        return Response(status_code=201, headers={**answer, "Location": serializers.absolute_path(f"{PATH}/{tus.id}")})

    return await _answer(request, create)


@router.patch("/{tus_id}", include_in_schema=False)
async def append_tus(
    tus_id: str, request: Request, principal: KeyPrincipal, services: ServicesOf, serializers: SerializersOf
) -> Response:
    """Append the body at Upload-Offset."""
    pool = context_of(request).upload_pool
    await pool.run(services.tus.get, principal, tus_id)
    _check_version(request)
    _check_content_type(request)
    offset = parse_number("Upload-Offset", request.headers.get("upload-offset"))
    checksum = parse_checksum(request.headers.get("upload-checksum"))

    async def append() -> Response:
        tus = await _append(request, principal, services, tus_id, offset=offset, checksum=checksum)
        return Response(status_code=204, headers=_headers(tus, serializers))

    return await _answer(request, append)


@router.head("/{tus_id}", include_in_schema=False)
def get_tus_offset(
    tus_id: str, request: Request, principal: KeyPrincipal, services: ServicesOf, serializers: SerializersOf
) -> Response:
    """The offset at which to resume. For a file that was refused, the status of its error."""
    tus = services.tus.get(principal, tus_id)
    _check_version(request)
    if tus.error_code is not None:
        raise by_code(tus.error_code, tus.error or "The file was refused.")
    headers = {**_headers(tus, serializers), "Upload-Length": str(tus.length)}
    if tus.metadata:
        headers["Upload-Metadata"] = tus.metadata
    return Response(status_code=200, headers=headers)


@router.get("/{tus_id}", responses=errors(s404="No such upload, another key's, or expired"))
def get_tus(
    tus_id: str, principal: KeyPrincipal, services: ServicesOf, serializers: SerializersOf
) -> schemas.TusUpload:
    """The state of a resumable upload, and what it became."""
    return serializers.tus(services.tus.get(principal, tus_id))


@router.delete("/{tus_id}", include_in_schema=False)
def terminate_tus(tus_id: str, request: Request, principal: KeyPrincipal, services: ServicesOf) -> Response:
    """Delete the upload with all that was received."""
    services.tus.get(principal, tus_id)
    _check_version(request)
    services.tus.terminate(principal, tus_id)
    return Response(status_code=204)


async def _append(
    request: Request,
    principal: Principal,
    services: Services,
    tus_id: str,
    *,
    offset: int,
    checksum: Checksum | None,
) -> TusUpload:
    """Receive the body; once the file is complete, make it an upload, even if the client has disconnected."""
    context = context_of(request)
    pool = context.upload_pool
    size = declared_length(request.headers)
    writer = await pool.run(lambda: services.tus.append(principal, tus_id, offset=offset, size=size, checksum=checksum))
    if writer is None:
        return services.tus.get(principal, tus_id)
    renewal = asyncio.create_task(_renew(writer, services.tus.lock_seconds / 3))
    try:
        try:
            await _receive(request, writer, pool, BodyTimeouts.of_requests(context.settings.http))
        except InvalidRequest:
            await pool.run(writer.cut_off)
            raise
        except ClientDisconnect:
            await pool.run(writer.cut_off)
            if not writer.is_complete or checksum is not None:
                raise
        if writer.is_complete:
            probe = await pool.run(writer.start_probe)
            if probe is not None:
                await asyncio.wait([asyncio.wrap_future(probe)])
            await pool.run(writer.finish)
        return writer.tus
    finally:
        renewal.cancel()
        await pool.run(writer.close)


async def _receive(request: Request, writer: TusWriter, pool: UploadPool, timeouts: BodyTimeouts) -> None:
    buffer = bytearray()
    with pool.receiving():
        try:
            async for chunk in body_chunks(request, timeouts):
                buffer += chunk
                if len(buffer) >= pool.buffer_size:
                    data, buffer = bytes(buffer), bytearray()
                    await pool.run(writer.write, data)
        except (ClientDisconnect, InvalidRequest):
            if buffer:
                await pool.run(writer.write, bytes(buffer))
            raise
        await pool.run(writer.write, bytes(buffer))
        await pool.run(writer.end_body)


async def _renew(writer: TusWriter, seconds: float) -> None:
    """Keep the lock. Not in the pool for uploads, whose threads may all be busy."""
    while True:
        await asyncio.sleep(seconds)
        await run_sync(writer.renew)


async def _answer(request: Request, make: Callable[[], Awaitable[Response]]) -> Response:
    """The response; the protocol requires 413 for a file that is too large."""
    try:
        return await make()
    except FileTooLarge as error:
        request.state.error_code = error.code
        return error_response(error, request_id=request_id(request), status=413)


def _headers(tus: TusUpload, serializers: Serializers) -> dict[str, str]:
    headers = {
        "Upload-Offset": str(tus.offset),
        "Upload-Expires": format_datetime(tus.expires_at, usegmt=True),
        "Cache-Control": "no-store",
    }
    if tus.result is not None:
        upload = serializers.upload(tus.result)
        headers |= {"Video-Id": upload.video_id, "Video-Url": upload.video_url}
    return headers


def _check_version(request: Request) -> None:
    if (version := request.headers.get("tus-resumable")) != VERSION:
        message = (
            "The request has no Tus-Resumable." if version is None else f"Tus-Resumable {version[:20]!r} is unknown."
        )
        raise VersionUnsupported(message, hint=f"Send Tus-Resumable: {VERSION}.")


def _check_content_type(request: Request) -> None:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != CONTENT_TYPE:
        raise MediaTypeUnsupported("The body has another Content-Type.", hint=f"Send {CONTENT_TYPE}.")
