"""Use cases of the service, as HTTP and the command see them: rules here, storage and queue behind the ports."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from alphareel.jobs.job import ApiKey, Job, JobEvent, Upload
from alphareel.jobs.ports import Page


@dataclass(frozen=True)
class Caller:
    """Who asks: the key (None on the legacy routes, which need none) and the request id."""

    key: ApiKey | None
    request_id: str


@dataclass(frozen=True)
class Link:
    """A signed, expiring address of a blob: absolute on this server ('/files/...?exp=..&name=..&sig=..')."""

    url: str
    expires_at: datetime


class Delivery(Protocol):
    """A blob whose link was found good, ready to be sent. ``etag`` is opaque and never changes for a link's blob."""

    size: int
    name: str
    content_type: str
    etag: str

    def read(self, start: int, length: int) -> Iterator[bytes]:
        """At most ``length`` bytes from ``start``, in bounded pieces."""


@dataclass(frozen=True)
class Health:
    """``worker``: a worker process beats. All three true is healthy."""

    database: bool
    storage: bool
    worker: bool


class UploadSession(Protocol):
    """One upload in flight; leaves nothing behind unless ``finish`` returned."""

    def write(self, data: bytes) -> None:
        """Append; raises FileTooLarge past the limit, StorageFailed on a full disk."""

    def finish(self) -> Upload:
        """Identify by content, make durable, record. Raises InvalidFileType, BadVideo, FileTooLarge."""

    def abort(self) -> None:
        """Forget it; safe after ``finish`` and twice."""


class UseCases(Protocol):
    """What the wire may ask. Every refusal is one of ``domain.errors``; every method may block."""

    def authenticate(self, secret: str | None) -> ApiKey:
        """The enabled key with this secret. Raises MissingApiKey, InvalidApiKey."""

    def begin_upload(self, caller: Caller, *, filename: str, declared_type: str | None) -> UploadSession:
        """Begin to receive a file; raises InvalidFileType at once for a type that can be no video and no image."""

    def create(self, caller: Caller, body: Mapping[str, Any], *, auto_start: bool | None = None) -> Job:
        """A new job, queued unless the body (or ``auto_start``) asks for a draft."""

    def start(self, caller: Caller, job_id: str, body: Mapping[str, Any]) -> Job:
        """Queue a draft or a failed job; a queued or running one is returned as it is. Raises InvalidState."""

    def get(self, caller: Caller, job_id: str) -> Job:
        """The caller's job (any job for a caller without a key: the id is the capability). Raises NotFound."""

    def list(self, caller: Caller, *, limit: int, offset: int, status: str | None) -> Page:
        """The caller's jobs, newest first; ``limit`` 1-100. Raises InvalidRequest."""

    def events(self, caller: Caller, job_id: str) -> tuple[JobEvent, ...]: ...

    def download(self, caller: Caller, job_id: str) -> Job:
        """The job if its output is there. Raises JobNotCompleted, NotFound."""

    def output_link(self, job: Job) -> Link | None:
        """A fresh link; None while there is no output."""

    def upload_link(self, upload: Upload) -> Link: ...

    def deliver(self, blob: str, query: Mapping[str, str]) -> Delivery:
        """What a link points at: ``blob`` is the path after '/files/'. Raises NotFound for a bad or expired link."""

    def health(self) -> Health: ...
