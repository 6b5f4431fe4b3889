"""Everything that a runner may do with its token: lease a task, read its inputs, return its files, end it."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from alphareel import __version__
from alphareel.domain.clip import Progress
from alphareel.domain.errors import (
    FileTooLarge,
    InvalidRequest,
    InvalidRunnerToken,
    InvalidState,
    MissingRunnerToken,
    NotFound,
    StorageFailed,
    StorageFull,
)
from alphareel.service.api_keys.service import digest
from alphareel.service.files import blob_keys
from alphareel.service.ports import Blobs
from alphareel.service.runners.models import ReturnedFile, Runner, RunnerTask
from alphareel.service.runners.previews import check_preview
from alphareel.service.settings import GIB, StorageSettings
from alphareel.service.worker.events import ErrorEvent, InvalidMessage, RunResult, event_from_values

if TYPE_CHECKING:
    from alphareel.db.runners import RunnerStore

_MAX_TOKEN_LENGTH = 1000
_MAX_FILE_BYTES = 256 * GIB
_CHECKED_BYTES = 64 * 1024 * 1024  # of a file, after which the free space is looked at again


class RunnerService:
    """Every method but ``authenticate`` needs the lease: a task that was taken back is not there for its runner."""

    def __init__(self, store: RunnerStore, blobs: Blobs, settings: StorageSettings) -> None:
        self._store = store
        self._blobs = blobs
        self._settings = settings

    def authenticate(self, token: str | None) -> Runner:
        """The runner with this token. Raises MissingRunnerToken, InvalidRunnerToken."""
        if not token:
            raise MissingRunnerToken("The request has no runner token.", hint="Send it in the header X-Runner-Token.")
        runner = self._store.runner_by_secret(digest(token)) if len(token) <= _MAX_TOKEN_LENGTH else None
        if runner is None or runner.revoked_at is not None:
            raise InvalidRunnerToken("Invalid runner token", hint="Ask an operator of this server for a new one.")
        return runner

    def note(self, runner: Runner, *, slots: int, engines: Sequence[str], version: str) -> None:
        """Record what the runner can do. Raises InvalidState for another version than this server's."""
        if version != __version__:
            raise InvalidState(
                f"The runner has version {version[:64]} of alphareel, and this server {__version__}.",
                hint="Install the same version on both.",
            )
        self._store.note_runner(runner.id, slots=slots, engines=engines, version=version)

    def lease(self, runner: Runner, *, slots: int, engines: Sequence[str]) -> RunnerTask | None:
        """A task for this runner, if one waits now."""
        return self._store.lease(runner, engines=engines, version=__version__, slots=slots)

    def input_size(self, task: RunnerTask, name: str) -> int:
        """Bytes. Raises NotFound."""
        return self._blobs.size(task.inputs[name])

    def renew(self, runner: Runner, task_id: str, *, lease: str, progress: Mapping[str, Any] | None) -> bool:
        """Keep the lease; False when the task is not wanted any more. Raises InvalidRequest."""
        if progress is not None and not isinstance(_event({"event": "progress", **progress}), Progress):
            raise _bad_event()
        return self._store.renew(runner.id, task_id, lease=lease, progress=progress)

    def open_input(self, runner: Runner, task_id: str, name: str, *, lease: str) -> tuple[str, Blobs]:
        """The blob of an input of a leased task, and where it is. Raises NotFound."""
        task = self._leased(runner, task_id, lease)
        if name not in task.inputs:
            raise NotFound("The task has no such file.", hint="The lease names its files.")
        return task.inputs[name], self._blobs

    def begin_file(self, runner: Runner, task_id: str, name: str, *, lease: str) -> ReturnedFileWriter:
        """Begin to receive an output of a leased task. Raises NotFound, StorageFull."""
        task = self._leased(runner, task_id, lease)
        if name not in task.outputs:
            raise NotFound("The task has no such output.", hint="The lease names its outputs.")
        return ReturnedFileWriter(self._settings)

    def finish_file(self, runner: Runner, task_id: str, name: str, writer: ReturnedFileWriter, *, lease: str) -> str:
        """Store what was received; its SHA-256. Raises NotFound when the lease was taken back meanwhile."""
        task = self._leased(runner, task_id, lease)
        key = f"{blob_keys.returned_prefix(task.job_id, task.id)}{lease}/{name}"
        file = ReturnedFile(key, writer.size, writer.close())
        self._blobs.put_file(key, writer.path)
        if not self._store.add_file(runner.id, task_id, lease=lease, name=name, file=file):
            self._blobs.delete(key)
            raise _not_leased()
        return file.sha256

    def show_preview(self, runner: Runner, task_id: str, data: bytes, *, lease: str) -> None:
        """Let the job show the newest preview of a leased task. Raises InvalidRequest, NotFound, StorageFull."""
        task = self._leased(runner, task_id, lease)
        if task.request.get("previews") is None:
            raise NotFound("Nobody asked for previews of this task.", hint="The request of the task says who does.")
        check_preview(data)
        with ReturnedFileWriter(self._settings) as writer:
            writer.write(data)
            prefix = f"{blob_keys.returned_prefix(task.job_id, task.id)}{lease}/"
            file = ReturnedFile(f"{prefix}{uuid.uuid4().hex}.webp", writer.size, writer.close())
            self._blobs.put_file(file.blob, writer.path)
        is_newest = self._store.set_preview(runner.id, task_id, lease=lease, preview=file)
        gone = task.preview if is_newest else file
        if gone is not None:
            self._blobs.delete(gone.blob)
        if not is_newest:
            raise _not_leased()

    def complete(self, runner: Runner, task_id: str, *, lease: str, event: Mapping[str, Any]) -> None:
        """End the task with the last event of its child process. Raises InvalidRequest, NotFound."""
        self._leased(runner, task_id, lease)
        if not isinstance(_event(event), RunResult | ErrorEvent):
            raise _bad_event()
        if not self._store.end_task(runner.id, task_id, lease=lease, outcome=event):
            raise _not_leased()

    def drop(self, task: RunnerTask) -> None:
        """Take a task away whose inputs cannot be read: it ends, or runs elsewhere."""
        self._store.remove_task(task.id)

    def release(self, runner: Runner, task_id: str, *, lease: str) -> None:
        """Give the task back because the runner stops. Raises NotFound."""
        if not self._store.release(runner.id, task_id, lease=lease):
            raise _not_leased()

    def _leased(self, runner: Runner, task_id: str, lease: str) -> RunnerTask:
        task = self._store.leased_task(runner.id, task_id, lease=lease)
        if task is None:
            raise _not_leased()
        return task


class ReturnedFileWriter:
    """Receives a file into a temporary one. Use it as a context, which removes what is left.

    Raises StorageFull, StorageFailed, FileTooLarge.
    """

    def __init__(self, settings: StorageSettings) -> None:
        self._min_free = settings.min_free_bytes
        self.size = 0
        self._checked = 0
        self._digest = hashlib.sha256()
        settings.incoming.mkdir(parents=True, exist_ok=True)
        self.path: Path = settings.incoming / f"returned-{uuid.uuid4().hex}"
        self._check_space()
        self._file = self.path.open("xb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > _MAX_FILE_BYTES:
            raise FileTooLarge("The file is larger than any output.", hint="Report it: this is a bug.")
        if self.size - self._checked > _CHECKED_BYTES:
            self._check_space()
            self._checked = self.size
        self._digest.update(data)
        try:
            self._file.write(data)
        except OSError as error:
            raise StorageFailed(f"The file cannot be written: {error.strerror or error}.") from error

    def close(self) -> str:
        """The SHA-256 of the whole file."""
        self._file.close()
        return self._digest.hexdigest()

    def _check_space(self) -> None:
        if self._min_free and shutil.disk_usage(self.path.parent).free < self._min_free:
            raise StorageFull("The disk of this server is almost full.", hint="Try again later.")


def _event(values: Mapping[str, Any]) -> object:
    try:
        return event_from_values(values)
    except InvalidMessage:
        raise _bad_event() from None


def _bad_event() -> InvalidRequest:
    return InvalidRequest("This is no event that can be sent here.", hint="Use the runner of this server's version.")


def _not_leased() -> NotFound:
    return NotFound("This runner does not hold the task.", hint="Lease another one.")
