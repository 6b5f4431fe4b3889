"""Runners: lease a task, renew, read its inputs, return its files, end it. Operators create and revoke them."""

import re
import time
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from alphareel.domain.errors import InvalidRequest, NotFound, StorageFailed
from alphareel.http.auth import Admin, RunnerOf, require_admin, require_runner
from alphareel.http.body_timeouts import BodyTimeouts
from alphareel.http.context import ServicesOf, SettingsOf, context_of
from alphareel.http.openapi import errors, json_body
from alphareel.http.ranges import Unsatisfiable
from alphareel.http.request_body import body_chunks, body_of
from alphareel.http.routes.files import range_not_satisfiable, requested_range, send_download
from alphareel.http.schemas import runners as schemas
from alphareel.service.files.downloads import FileDownload
from alphareel.service.files.signed_urls import FileGrant
from alphareel.service.runners.models import LEASE_SECONDS, RENEW_SECONDS, RunnerTask
from alphareel.service.runners.previews import MAX_BYTES
from alphareel.service.runners.service import ReturnedFileWriter, RunnerService

router = APIRouter(
    prefix="/v1/runners",
    tags=["runners"],
    dependencies=[Depends(require_runner)],
    responses=errors(s401="No runner token, or a wrong or revoked one"),
)
admin_router = APIRouter(
    prefix="/v1/admin/runners",
    tags=["admin"],
    dependencies=[Depends(require_admin)],
    responses=errors(s401="No admin token, or a wrong one"),
)

_WAIT = re.compile(r"(?:^|[,;\s])wait=(\d{1,3})(?:$|[,;\s])")
_MAX_WAIT = 20.0  # seconds; proxies end requests that are silent for longer than a minute
_LOOK_SECONDS = 0.5
_BAD_FIELD = errors(s400="A field cannot be accepted")
_NOT_HELD = errors(s404="This runner does not hold the task by this lease")
_BINARY: dict[str, Any] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}

_PICTURE: dict[str, Any] = {"image/webp": {"schema": {"type": "string", "format": "binary"}}}

RunnerCreateBody = Annotated[schemas.RunnerCreate, Depends(body_of(schemas.RunnerCreate))]
LeaseBody = Annotated[schemas.LeaseRequest, Depends(body_of(schemas.LeaseRequest))]
ProgressBody = Annotated[schemas.TaskProgress, Depends(body_of(schemas.TaskProgress))]
CompletionBody = Annotated[schemas.TaskCompletion, Depends(body_of(schemas.TaskCompletion))]
ReleaseBody = Annotated[schemas.TaskRelease, Depends(body_of(schemas.TaskRelease))]
LeaseQuery = Annotated[str, Query(min_length=1, max_length=64)]


@admin_router.get("")
def list_runners(services: ServicesOf) -> schemas.RunnerList:
    """Every runner, revoked ones included, oldest first."""
    return schemas.RunnerList(items=[schemas.Runner.of(runner) for runner in services.runner_admin.list_runners()])


@admin_router.post("", openapi_extra=json_body(schemas.RunnerCreate), responses=_BAD_FIELD)
def create_runner(operator: Admin, body: RunnerCreateBody, services: ServicesOf) -> schemas.CreatedRunner:
    """Create a runner; only this response contains its token."""
    return schemas.CreatedRunner.from_new(services.runner_admin.create(operator, name=body.name))


@admin_router.post("/{runner_id}/revoke", responses=errors(s404="No such runner"))
def revoke_runner(runner_id: str, operator: Admin, services: ServicesOf) -> schemas.UpdatedRunner:
    """End a runner's token and its leases at once. Its tasks run elsewhere."""
    return schemas.UpdatedRunner.of(services.runner_admin.revoke(operator, runner_id))


@router.post(
    "/lease",
    openapi_extra=json_body(schemas.LeaseRequest),
    responses={**_BAD_FIELD, **errors(s409="Another version of alphareel than this server's")},
)
async def lease_task(
    request: Request, runner: RunnerOf, body: LeaseBody, services: ServicesOf
) -> schemas.LeaseResponse:
    """Lease a task. With `Prefer: wait=20` the response comes as soon as there is one, at the latest after 20 s."""
    await run_in_threadpool(services.runners.note, runner, slots=body.slots, engines=body.engines, version=body.version)
    deadline = time.monotonic() + _requested_wait(request)
    while body.slots and not await request.is_disconnected():
        task = await run_in_threadpool(services.runners.lease, runner, slots=body.slots, engines=body.engines)
        if task is not None:
            try:
                return schemas.LeaseResponse(task=await run_in_threadpool(_described, task, services.runners))
            except (NotFound, StorageFailed):  # its job was deleted, or ended with its worker
                await run_in_threadpool(services.runners.drop, task)
                continue
        if time.monotonic() + _LOOK_SECONDS > deadline:
            break
        await anyio.sleep(_LOOK_SECONDS)
    return schemas.LeaseResponse(task=None)


@router.post("/tasks/{task_id}/progress", openapi_extra=json_body(schemas.TaskProgress), responses=_BAD_FIELD)
def report_task_progress(
    task_id: str, runner: RunnerOf, body: ProgressBody, services: ServicesOf
) -> schemas.LeaseState:
    """Renew the lease, and tell how far the task is. The response says whether it is still wanted."""
    is_held = services.runners.renew(runner, task_id, lease=body.lease, progress=body.progress())
    return schemas.LeaseState(cancel=not is_held)


@router.get(
    "/tasks/{task_id}/files/{name}",
    response_class=Response,
    responses={**_NOT_HELD, 200: {"description": "The file", "content": _BINARY}},
)
def get_task_input(
    *, task_id: str, name: str, lease: LeaseQuery, request: Request, runner: RunnerOf, services: ServicesOf
) -> Response:
    """An input of a leased task. Supports `Range`."""
    blob, blobs = services.runners.open_input(runner, task_id, name, lease=lease)
    download = FileDownload.of(FileGrant(blob, name, 0), blobs)
    try:
        part = requested_range(request, download.size, f'"{download.etag}"')
    except Unsatisfiable:
        return range_not_satisfiable(request, download.size)
    return send_download(request, download, part)


@router.put(
    "/tasks/{task_id}/files/{name}",
    openapi_extra={"requestBody": {"required": True, "content": _BINARY}},
    responses={**_BAD_FIELD, **_NOT_HELD},
)
async def put_task_output(
    *,
    task_id: str,
    name: str,
    lease: LeaseQuery,
    request: Request,
    runner: RunnerOf,
    services: ServicesOf,
    settings: SettingsOf,
) -> schemas.ReturnedFile:
    """Return a file of a leased task: the bytes alone are the body."""
    pool, runners = context_of(request).upload_pool, services.runners
    writer = await pool.run(lambda: runners.begin_file(runner, task_id, name, lease=lease))
    with writer, pool.receiving():
        await _receive(request, writer, BodyTimeouts.of_requests(settings.http))
        sha256 = await pool.run(lambda: runners.finish_file(runner, task_id, name, writer, lease=lease))
    return schemas.ReturnedFile(name=name, sha256=sha256)


@router.put(
    "/tasks/{task_id}/preview",
    openapi_extra={"requestBody": {"required": True, "content": _PICTURE}},
    responses={**_BAD_FIELD, **_NOT_HELD},
)
async def put_task_preview(
    *,
    task_id: str,
    lease: LeaseQuery,
    request: Request,
    runner: RunnerOf,
    services: ServicesOf,
    settings: SettingsOf,
) -> schemas.TaskAccepted:
    """Show how a leased task is going: a small WebP is the body. Only where its request asks for `previews`."""
    pool, data = context_of(request).upload_pool, b""
    async for piece in body_chunks(request, BodyTimeouts.of_requests(settings.http)):
        data += piece
        if len(data) > MAX_BYTES:
            raise InvalidRequest("The preview is too large.", hint=f"It may have {MAX_BYTES} bytes.")
    await pool.run(lambda: services.runners.show_preview(runner, task_id, data, lease=lease))
    return schemas.TaskAccepted()


@router.post(
    "/tasks/{task_id}/complete",
    openapi_extra=json_body(schemas.TaskCompletion),
    responses={**_BAD_FIELD, **_NOT_HELD},
)
def complete_task(task_id: str, runner: RunnerOf, body: CompletionBody, services: ServicesOf) -> schemas.TaskAccepted:
    """End a leased task with its result, once its files are returned, or with its error. The server verifies them."""
    services.runners.complete(runner, task_id, lease=body.lease, event=body.event)
    return schemas.TaskAccepted()


@router.post(
    "/tasks/{task_id}/release", openapi_extra=json_body(schemas.TaskRelease), responses={**_BAD_FIELD, **_NOT_HELD}
)
def release_task(task_id: str, runner: RunnerOf, body: ReleaseBody, services: ServicesOf) -> schemas.TaskAccepted:
    """Give a leased task back: it runs elsewhere."""
    services.runners.release(runner, task_id, lease=body.lease)
    return schemas.TaskAccepted()


def _described(task: RunnerTask, runners: RunnerService) -> schemas.TaskLease:
    return schemas.TaskLease(
        id=task.id,
        lease=task.lease or "",
        lease_seconds=LEASE_SECONDS,
        renew_seconds=RENEW_SECONDS,
        request=task.request,
        inputs=[schemas.RunnerFile(name=name, bytes=runners.input_size(task, name)) for name in task.inputs],
        outputs=list(task.outputs),
    )


async def _receive(request: Request, writer: ReturnedFileWriter, timeouts: BodyTimeouts) -> None:
    pool, pieces, buffered = context_of(request).upload_pool, list[bytes](), 0
    async for piece in body_chunks(request, timeouts):
        pieces.append(piece)
        buffered += len(piece)
        if buffered >= pool.buffer_size:
            await pool.run(writer.write, b"".join(pieces))
            pieces, buffered = [], 0
    await pool.run(writer.write, b"".join(pieces))
    if not writer.size:
        raise InvalidRequest("The body is empty.", hint="Send the bytes of the file.")


def _requested_wait(request: Request) -> float:
    """Seconds, of the header Prefer (RFC 7240)."""
    found = _WAIT.search(request.headers.get("prefer", ""))
    return min(_MAX_WAIT, float(found[1])) if found else 0.0
