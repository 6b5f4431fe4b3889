"""Files on their way in."""

from typing import Annotated, cast

from fastapi import APIRouter, Depends, Request

from alphareel.domain.errors import FileTooLarge
from alphareel.http import schemas
from alphareel.http.auth import ConfigOf, KeyCaller, ServiceOf
from alphareel.http.config import MIB, HttpConfig
from alphareel.http.forms import receive_file
from alphareel.http.idempotency import NameHeader
from alphareel.http.linger import declared_length
from alphareel.http.openapi import errors, file_body, links
from alphareel.http.pools import UploadPool
from alphareel.http.views import Views
from alphareel.jobs.job import Upload
from alphareel.jobs.repeats import check_name
from alphareel.jobs.use_cases import Caller, UploadSession, UseCases

router = APIRouter(tags=["uploads"])

_FORM_OVERHEAD = MIB  # boundaries, part headers and small fields around the file


async def check_length(request: Request, config: ConfigOf) -> None:
    """Refuse a body that says itself that it is too long, before any of it is read."""
    length = declared_length(request.headers)
    if length is not None and length > config.max_upload_bytes + _FORM_OVERHEAD:
        limit = f"The limit is {config.max_upload_bytes / MIB:g} MiB."
        raise FileTooLarge(f"File too large: {length} bytes.", hint=limit)


def check_room(request: Request, caller: Caller, service: UseCases) -> None:
    """Refuse a body that says itself that it does not fit into what the caller may keep."""
    declared = declared_length(request.headers) or 0
    service.check_room(caller, max(1, declared - _FORM_OVERHEAD))


FitsOnPaper = Annotated[None, Depends(check_length)]


async def receive(
    request: Request, caller: Caller, service: UseCases, config: HttpConfig, *, name: str | None = None
) -> schemas.Upload:
    """Stream the form's file into the service, under a ``name`` only once."""
    pool = cast(UploadPool, request.app.state.upload_pool)
    views = Views(request, service, config)

    def render(upload: Upload) -> str:
        return views.upload(upload).model_dump_json()

    def begin(filename: str, declared_type: str | None) -> UploadSession:
        if name is None:
            return service.begin_upload(caller, filename=filename, declared_type=declared_type)
        return service.begin_upload_once(
            caller, filename=filename, declared_type=declared_type, name=check_name(name), render=render
        )

    service.check_uploads(caller)
    await pool.run(check_room, request, caller, service)
    return views.upload(await receive_file(request, begin, patience=config.patience, pool=pool))


@router.post(
    "/uploads",
    openapi_extra=file_body(),
    responses={**errors(s400="No video, too large, or no form"), **links("delete_upload", upload_id="video_id")},
)
async def upload_file(
    request: Request,
    caller: KeyCaller,
    _: FitsOnPaper,
    service: ServiceOf,
    config: ConfigOf,
    name: NameHeader = None,
) -> schemas.Upload:
    """Upload a video (or an image for a background) as the form field `file`."""
    return await receive(request, caller, service, config, name=name)


@router.delete(
    "/uploads/{upload_id}", responses=errors(s404="No such upload, or another key's", s409="In use by a job")
)
def delete_upload(upload_id: str, caller: KeyCaller, service: ServiceOf) -> schemas.Deleted:
    """Remove an upload; jobs that are done keep their results."""
    service.delete_upload(caller, upload_id)
    return schemas.Deleted(id=upload_id, message="Upload deleted")
