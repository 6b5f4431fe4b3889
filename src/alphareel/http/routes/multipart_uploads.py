"""Multipart uploads: the parts of a file go straight to the bucket."""

from typing import Annotated

import anyio
from fastapi import APIRouter, Depends, Request

from alphareel.http.auth import KeyPrincipal
from alphareel.http.context import ServicesOf, SettingsOf, context_of
from alphareel.http.multipart import finish_upload
from alphareel.http.openapi import errors, json_body
from alphareel.http.request_body import body_of
from alphareel.http.schemas import multipart_uploads as schemas
from alphareel.http.schemas.fields import Deleted
from alphareel.http.schemas.uploads import Upload as UploadSchema
from alphareel.http.serializers import Serializers
from alphareel.service.uploads import multipart
from alphareel.service.uploads.models import Upload

router = APIRouter(prefix="/uploads/multipart", tags=["uploads"])

_NOT_FOUND = errors(
    s404="No such multipart upload, or another key's", s409="It is not open any more", s423="It is being completed"
)


def _to_schema(
    serializers: Serializers, upload_and_targets: tuple[multipart.MultipartUpload, tuple[multipart.PartTarget, ...]]
) -> schemas.MultipartUpload:
    begun, targets = upload_and_targets
    return schemas.MultipartUpload(
        upload_id=begun.id,
        filename=begun.filename,
        bytes=begun.bytes,
        part_size=begun.part_bytes,
        parts=[schemas.PartTarget.model_validate(target) for target in targets],
        complete_url=serializers.absolute_path(f"/v1/uploads/multipart/{begun.id}/complete"),
        expires_at=begun.expires_at,
    )


@router.post(
    "",
    openapi_extra=json_body(schemas.MultipartCreate),
    responses=errors(s400="Too large, no room, or the server stores files on a disk"),
)
def create_multipart_upload(
    request: Request,
    principal: KeyPrincipal,
    body: Annotated[schemas.MultipartCreate, Depends(body_of(schemas.MultipartCreate))],
    services: ServicesOf,
    settings: SettingsOf,
) -> schemas.MultipartUpload:
    """Begin an upload whose parts are sent straight to the bucket, one PUT each, in any order and in parallel."""
    upload_and_targets = services.multipart_uploads.create(principal, filename=body.filename, size=body.bytes)
    return _to_schema(Serializers(request, services, settings), upload_and_targets)


@router.get("/{multipart_id}", responses=_NOT_FOUND)
def get_multipart_upload(
    multipart_id: str, request: Request, principal: KeyPrincipal, services: ServicesOf, settings: SettingsOf
) -> schemas.MultipartUpload:
    """An open multipart upload, with fresh URLs of the parts that did not arrive yet."""
    upload_and_targets = services.multipart_uploads.get(principal, multipart_id)
    return _to_schema(Serializers(request, services, settings), upload_and_targets)


@router.post(
    "/{multipart_id}/complete",
    openapi_extra=json_body(schemas.MultipartCompletion),
    responses={**errors(s400="A part is missing or differs, or the file is no video"), **_NOT_FOUND},
)
async def complete_multipart_upload(
    multipart_id: str,
    request: Request,
    principal: KeyPrincipal,
    body: Annotated[schemas.MultipartCompletion, Depends(body_of(schemas.MultipartCompletion))],
    *,
    services: ServicesOf,
    settings: SettingsOf,
) -> UploadSchema:
    """Make an upload of the parts, like `POST /v1/uploads`. Repeating it returns the same upload."""
    pool, service = context_of(request).upload_pool, services.multipart_uploads
    receipts = [multipart.PartReceipt(part.number, part.etag) for part in body.parts]
    received = await pool.run(service.begin_completion, principal, multipart_id, receipts)
    if not isinstance(received, Upload):
        try:
            received = await finish_upload(request, received, pool)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await pool.run(service.reopen, multipart_id)
            raise
    return Serializers(request, services, settings).upload(received)


@router.delete("/{multipart_id}", responses=_NOT_FOUND)
def abort_multipart_upload(multipart_id: str, principal: KeyPrincipal, services: ServicesOf) -> Deleted:
    """Abort a multipart upload and delete its parts. Repeating this changes nothing."""
    services.multipart_uploads.abort(principal, multipart_id)
    return Deleted(id=multipart_id, message="Multipart upload aborted")
