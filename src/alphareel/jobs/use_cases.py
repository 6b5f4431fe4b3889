"""What the wire may ask of the jobs, and the values it speaks in. The rules themselves are in ``service.py``."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from alphareel.domain.options import Tier
from alphareel.jobs.admin import Administration
from alphareel.jobs.census import Census
from alphareel.jobs.credits import Prices
from alphareel.jobs.deliveries import Delivery
from alphareel.jobs.estimates import Estimate, Speed
from alphareel.jobs.job import ApiKey, Job, JobEvent, Upload
from alphareel.jobs.linker import Link
from alphareel.jobs.ports import Page
from alphareel.jobs.repeats import Once
from alphareel.jobs.usage import CallEvent, KeyTally, Summary
from alphareel.jobs.webhook_desk import Trial
from alphareel.jobs.webhooks import Present, Webhook


@dataclass(frozen=True)
class Caller:
    """Who asks: the key (None on the legacy routes, which need none) and the request id.

    ``address``: where a caller without a key comes from, as it counts for limits.
    """

    key: ApiKey | None
    request_id: str
    address: str = ""


@dataclass(frozen=True)
class Health:
    """``worker``: a worker process beats. ``space``: the disks have room for uploads. All of them true is healthy."""

    database: bool
    storage: bool
    worker: bool
    space: bool = True


class UploadSession(Protocol):
    """One upload in flight; leaves nothing behind unless ``finish`` returned."""

    def write(self, data: bytes) -> None:
        """Append; raises FileTooLarge, StorageQuotaExceeded, StorageFull past a limit, StorageFailed on a full disk."""

    def start_probe(self) -> "Future[Any] | None":
        """Nothing more comes: have the file examined. None where there is nothing to wait for before ``finish``.

        Raises InvalidFileType for an empty file, TooManyUploads, QueueFull.
        """

    def finish(self) -> Upload:
        """Make durable and record; waits for the probe first. Raises InvalidFileType, BadVideo, FileTooLarge.

        Raises Unavailable when the file could not be examined for reasons of ours, and what ``start_probe`` raises.
        """

    def abort(self) -> None:
        """Forget it; safe after ``finish`` and twice."""


class UseCases(Protocol):
    """What the wire may ask. Every refusal is one of ``domain.errors``; every method may block."""

    @property
    def admin(self) -> Administration:
        """What operators do; whoever calls it has checked that it is one."""

    @property
    def prices(self) -> Prices:
        """What a minute of video costs here."""

    def note_call(self, key_id: str, **facts: Any) -> None:
        """Remember an answered request; ``facts`` are the fields of ``usage.Call``. Never blocks."""

    def usage_summary(self, caller: Caller, *, days: int) -> Summary:
        """Sums over the caller's jobs and calls of the last days, 1-90. Raises InvalidRequest."""

    def usage_by_key(self, *, days: int, client_id: str | None) -> tuple[KeyTally, ...]:
        """Sums by day, key and model, of a client or of all, for operators. Raises InvalidRequest."""

    def usage_events(self, caller: Caller, *, limit: int) -> tuple[CallEvent, ...]:
        """The caller's latest calls, 1-100. Raises InvalidRequest."""

    def authenticate(self, secret: str | None) -> ApiKey:
        """The enabled key with this secret. Raises MissingApiKey, InvalidApiKey."""

    def check_room(self, caller: Caller, size: int) -> None:
        """Raises StorageQuotaExceeded, StorageFull when so many bytes do not fit."""

    def check_uploads(self, caller: Caller) -> None:
        """Raises TooManyUploads, QueueFull while so many uploads wait that another one would be refused."""

    def begin_upload(self, caller: Caller, *, filename: str, declared_type: str | None) -> UploadSession:
        """Begin to receive a file; raises InvalidFileType at once for a type that can be no video and no image."""

    def begin_upload_once(
        self,
        caller: Caller,
        *,
        filename: str,
        declared_type: str | None,
        name: str,
        render: Callable[[Upload], str],
    ) -> UploadSession:
        """The same under a name: its ``finish`` raises Answered when this file came before.

        Raises IdempotencyInProgress.
        """

    def create(
        self, caller: Caller, body: Mapping[str, Any], *, auto_start: bool | None = None, once: Once | None = None
    ) -> Job:
        """A new job, queued unless the body (or ``auto_start``) asks for a draft.

        Raises InsufficientCredits, and for a ``once`` that came before Answered or IdempotencyConflict.
        """

    def estimate(self, caller: Caller, body: Mapping[str, Any]) -> tuple[Estimate, int | None]:
        """What a job with this body would come to, and the caller's balance (hundredths, None: unlimited).

        Raises InvalidRequest, ModelUnavailable.
        """

    def speeds(self) -> Mapping[Tier, Speed]:
        """How fast a worker of this installation is with each model. Raises Unavailable."""

    def start(self, caller: Caller, job_id: str, body: Mapping[str, Any], *, once: Once | None = None) -> Job:
        """Queue a draft or a failed job; a queued or running one is returned as it is.

        Raises InvalidState, and what ``create`` raises.
        """

    def get(self, caller: Caller, job_id: str) -> Job:
        """The caller's job (any job for a caller without a key: the id is the capability). Raises NotFound."""

    def cancel(self, caller: Caller, job_id: str) -> Job:
        """The job, ended; its compute stops within seconds. Twice is as good as once. Raises InvalidState, NotFound."""

    def delete(self, caller: Caller, job_id: str) -> None:
        """Cancel it when it runs, and remove its files and what the caller wrote. Raises NotFound."""

    def webhooks(self, caller: Caller, job_id: str) -> tuple[Webhook, ...]:
        """The job's webhooks with every attempt, oldest first. Raises NotFound."""

    def resend_webhook(self, caller: Caller, job_id: str, webhook_id: str) -> Webhook:
        """Send it once more, now, under the same id. Raises NotFound."""

    def test_webhook(self, caller: Caller, body: Mapping[str, Any], *, present: Present) -> Trial:
        """Send a made-up event and wait for the answer. Raises InvalidRequest, Unavailable."""

    def delete_upload(self, caller: Caller, upload_id: str) -> None:
        """Raises InvalidState while a job that is not done uses it, NotFound."""

    def list(self, caller: Caller, *, limit: int, offset: int, status: str | None) -> Page:
        """The caller's jobs, newest first; ``limit`` 1-100. Raises InvalidRequest."""

    def events(self, caller: Caller, job_id: str) -> tuple[JobEvent, ...]: ...

    def download(self, caller: Caller, job_id: str) -> Job:
        """The job if its output is there. Raises JobNotCompleted, NotFound."""

    def output_link(self, job: Job) -> Link | None:
        """A fresh link; None while there is no output."""

    def preview_link(self, job: Job) -> Link | None:
        """To the newest small picture of a job that runs; None while there is none."""

    def upload_link(self, upload: Upload) -> Link: ...

    def deliver(self, blob: str, query: Mapping[str, str]) -> Delivery:
        """What a link points at: ``blob`` is the path after '/files/'. Raises NotFound for a bad or expired link."""

    def note_delivered(self, blob: str) -> None:
        """A whole file went out; one that is to be kept for no time goes soon."""

    def health(self) -> Health: ...

    def census(self) -> Census:
        """What there is to count. Raises Unavailable."""
