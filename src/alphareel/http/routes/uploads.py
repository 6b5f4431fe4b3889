"""Uploads: receive and delete files."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from alphareel.domain.errors import FileTooLarge
from alphareel.http.auth import KeyPrincipal
from alphareel.http.body_timeouts import BodyTimeouts
from alphareel.http.context import ServicesOf, SettingsOf, context_of
from alphareel.http.idempotency import IdempotencyKey
from alphareel.http.middleware.lingering_close import declared_length
from alphareel.http.multipart import receive_file
from alphareel.http.openapi import errors, file_body, links
from alphareel.http.schemas import uploads as schemas
from alphareel.http.schemas.fields import Deleted
from alphareel.http.serializers import Serializers
from alphareel.service.idempotency import check_name
from alphareel.service.principal import Principal
from alphareel.service.services import Services
from alphareel.service.settings import MIB, Settings
from alphareel.service.uploads.models import Upload
from alphareel.service.uploads.service import UploadWriter

router = APIRouter(tags=["uploads"])

_FORM_OVERHEAD = MIB  # boundaries, part headers and small fields around the file


async def check_length(request: Request, settings: SettingsOf) -> None:
    """Refuse a body whose Content-Length is too large, before any of it is read."""
    length = declared_length(request.headers)
    if length is not None and length > settings.limits.max_upload_bytes + _FORM_OVERHEAD:
        limit = f"The limit is {settings.limits.max_upload_bytes / MIB:g} MiB."
        raise FileTooLarge(f"File too large: {length} bytes.", hint=limit)


def check_quota_for(request: Request, principal: Principal, services: Services) -> None:
    """Refuse a body whose Content-Length exceeds the storage quota of the principal."""
    declared = declared_length(request.headers) or 0
    services.uploads.check_quota(principal, max(1, declared - _FORM_OVERHEAD))


ContentLengthChecked = Annotated[None, Depends(check_length)]


async def receive(
    request: Request, principal: Principal, services: Services, settings: Settings, *, name: str | None = None
) -> schemas.Upload:
    """Stream the form's file into the service. ``name``: the idempotency key."""
    pool = context_of(request).upload_pool
    serializers = Serializers(request, services, settings)

    def render(upload: Upload) -> str:
        return serializers.upload(upload).model_dump_json()

    def begin(filename: str, declared_type: str | None) -> UploadWriter:
        if name is None:
            return services.uploads.begin(principal, filename=filename, declared_type=declared_type)
        return services.uploads.begin_idempotent(
            principal, filename=filename, declared_type=declared_type, name=check_name(name), render=render
        )

    services.uploads.check_queue(principal)
    await pool.run(check_quota_for, request, principal, services)
    timeouts = BodyTimeouts.of_requests(settings.http)
    return serializers.upload(await receive_file(request, begin, timeouts=timeouts, pool=pool))


@router.post(
    "/uploads",
    openapi_extra=file_body(),
    responses={**errors(s400="No video, too large, or no form"), **links("delete_upload", upload_id="video_id")},
)
async def upload_file(
    request: Request,
    principal: KeyPrincipal,
    _: ContentLengthChecked,
    services: ServicesOf,
    settings: SettingsOf,
    name: IdempotencyKey = None,
) -> schemas.Upload:
    """Upload a video (or an image for a background) as the form field `file`."""
    return await receive(request, principal, services, settings, name=name)


@router.delete(
    "/uploads/{upload_id}", responses=errors(s404="No such upload, or another key's", s409="In use by a job")
)
def delete_upload(upload_id: str, principal: KeyPrincipal, services: ServicesOf) -> Deleted:
    """Delete an upload; completed jobs keep their results."""
    services.uploads.delete(principal, upload_id)
    return Deleted(id=upload_id, message="Upload deleted")
