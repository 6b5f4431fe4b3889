"""What the jobs need from outside, owned by us; adapters live in storage/, jobstore/ and queue/."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from alphareel.domain.clip import EngineFacts
from alphareel.domain.options import Options
from alphareel.jobs.job import ApiKey, Job, JobEvent, Output, Status, Upload


class BlobWriter(Protocol):
    """A blob being written; nothing of it can be seen under its key before ``commit``."""

    def write(self, data: bytes) -> None: ...

    def commit(self) -> None:
        """Make the blob durable (it survives power loss) and visible, in one step."""

    def abort(self) -> None:
        """Leave nothing behind; safe to call after ``commit`` and twice."""


class Blobs(Protocol):
    """Objects by key ('uploads/<id>.mp4', 'outputs/<job>/<attempt>/<name>'). Raises StorageFailed, NotFound."""

    def create(self, key: str) -> BlobWriter:
        """A writer for a new blob."""

    def put_file(self, key: str, path: Path) -> None:
        """Store the file durably; the file may be moved away."""

    def local(self, key: str) -> AbstractContextManager[Path]:
        """The blob as a local file while the context is open (a download where the store is remote)."""

    def size(self, key: str) -> int:
        """Bytes; NotFound when there is none."""

    def read(self, key: str, start: int, length: int) -> Iterator[bytes]:
        """``length`` bytes from ``start`` in bounded pieces."""

    def delete(self, key: str) -> None:
        """Remove; a missing key is no error."""

    def delete_prefix(self, prefix: str) -> None:
        """Remove every blob under the prefix ('outputs/<job>/')."""


@dataclass(frozen=True)
class NewJob:
    id: str
    key_id: str | None
    video_url: str
    options: Options
    webhook_url: str | None
    metadata: dict[str, Any]
    request_id: str | None
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    items: tuple[Job, ...]
    total: int


class JobStore(Protocol):
    """Our tables: the truth. Every method is one transaction; transitions are compare-and-set with an audit row."""

    def add_upload(self, upload: Upload) -> None: ...

    def upload(self, upload_id: str) -> Upload | None: ...

    def add_job(self, new: NewJob, *, start: bool, actor: str) -> Job:
        """Insert a draft, or (``start``) a pending job enqueued in the same transaction."""

    def start_job(
        self,
        job_id: str,
        *,
        options: Options,
        webhook_url: str | None,
        warnings: tuple[str, ...],
        actor: str,
        request_id: str | None,
    ) -> Job | None:
        """Created or failed -> pending with these options, enqueued in the same transaction; else None."""

    def job(self, job_id: str) -> Job | None: ...

    def jobs(self, key_id: str | None, *, statuses: tuple[Status, ...] | None, limit: int, offset: int) -> Page:
        """A key's jobs, newest first."""

    def events(self, job_id: str) -> tuple[JobEvent, ...]: ...

    def begin_attempt(self, job_id: str, *, run: int, actor: str) -> Job | None:
        """Pending or processing of this run -> processing with attempt + 1 (the fence); None if it moved on."""

    def set_progress(self, job_id: str, *, attempt: int, progress: float) -> bool:
        """Progress in percent (never lower than stored) if the attempt still is the current one, else False."""

    def complete(
        self,
        job_id: str,
        *,
        attempt: int,
        output: Output,
        engine: EngineFacts,
        warnings: tuple[str, ...],
        actor: str,
    ) -> bool:
        """Processing by this attempt -> completed; False if somebody else moved the job."""

    def fail(self, job_id: str, *, attempt: int | None, error: str, error_code: str, actor: str) -> bool:
        """-> failed, by this attempt, or by anybody when ``attempt`` is None; ``error`` is never empty."""

    def unfinished(self) -> tuple[Job, ...]:
        """Pending and processing jobs, for the reconciler."""

    def requeue(self, job_id: str, *, run: int, actor: str, reason: str) -> bool:
        """Enqueue a pending or processing job of this run again (its engine record was lost); audit row included."""

    def add_key(self, *, key_id: str, secret_sha256: str, fingerprint: str, client_id: str, note: str) -> ApiKey: ...

    def key_by_secret(self, secret_sha256: str) -> ApiKey | None: ...

    def keys(self) -> tuple[ApiKey, ...]: ...

    def setting(self, name: str) -> str | None:
        """A value that must be one for the whole installation, like the link-signing secret."""

    def set_setting_once(self, name: str, value: str) -> str:
        """Store unless there is one already; returns the stored value."""

    def is_ready(self) -> bool:
        """The database answers and its schema is current."""


class JobEngine(Protocol):
    """Durable execution: what was enqueued with a transaction that committed will run, at least once."""

    def launch(self) -> None:
        """Begin to execute queued jobs in this process."""

    def stop(self, *, grace_seconds: float) -> None:
        """Take nothing new, give running jobs so long, then leave them to others."""

    def recover_dead(self) -> int:
        """Give the jobs of executors that stopped beating back to the queue; returns how many executors."""


@dataclass(frozen=True)
class Fetched:
    path: Path
    filename: str
    content_type: str


class Fetcher(Protocol):
    """Outbound downloads, guarded: addresses checked and pinned, redirects re-checked, size and time bounded."""

    def fetch(self, url: str, target: Path, *, max_bytes: int) -> Fetched:
        """Download to ``target``. Raises FetchRefused, FetchFailed, FileTooLarge."""


class Clock(Protocol):
    def now(self) -> datetime:
        """Current time, UTC, aware."""


AsyncBytes = AsyncIterator[bytes]
