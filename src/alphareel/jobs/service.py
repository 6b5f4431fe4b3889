"""Use cases of the service, as HTTP and the command see them: rules here, storage and queue behind the ports."""

from collections.abc import Mapping
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
    """A signed, expiring address of a blob. ``path`` is absolute on this server ('/files/...?exp=..&sig=..')."""

    url: str
    expires_at: datetime


class UploadSession(Protocol):
    """One upload in flight; leaves nothing behind unless ``finish`` returned."""

    def write(self, data: bytes) -> None:
        """Append; raises FileTooLarge past the limit."""

    def finish(self) -> Upload:
        """Identify by content, make durable, record. Raises InvalidFileType, BadVideo, FileTooLarge."""

    def abort(self) -> None:
        """Forget it; safe after ``finish`` and twice."""


class UseCases(Protocol):
    """What the wire may ask. Every refusal is one of ``domain.errors``."""

    def authenticate(self, secret: str | None) -> ApiKey: ...

    def begin_upload(self, caller: Caller, *, filename: str, declared_type: str | None) -> UploadSession: ...

    def create(self, caller: Caller, body: Mapping[str, Any], *, auto_start: bool | None = None) -> Job: ...

    def start(self, caller: Caller, job_id: str, body: Mapping[str, Any]) -> Job: ...

    def get(self, caller: Caller, job_id: str) -> Job: ...

    def list(self, caller: Caller, *, limit: int, offset: int, status: str | None) -> Page: ...

    def events(self, caller: Caller, job_id: str) -> tuple[JobEvent, ...]: ...

    def output_link(self, job: Job) -> Link | None: ...

    def upload_link(self, upload: Upload) -> Link: ...
