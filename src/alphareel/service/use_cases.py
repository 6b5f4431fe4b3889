"""What the wire may ask of the jobs, and the values it speaks in. The rules themselves are in ``service.py``."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from alphareel.domain.options import Tier
from alphareel.service.api_keys.admin import AdminService
from alphareel.service.billing.credits import PriceList
from alphareel.service.files.downloads import FileDownload
from alphareel.service.files.url_signer import Link
from alphareel.service.idempotency import IdempotentRequest
from alphareel.service.jobs.estimates import Estimate, Speed
from alphareel.service.jobs.models import ApiKey, Job, JobEvent, Upload
from alphareel.service.ports import Page
from alphareel.service.stats import ServiceStats
from alphareel.service.usage.service import CallEvent, KeyUsageBucket, Summary
from alphareel.service.webhooks.events import SerializeJob, Webhook
from alphareel.service.webhooks.service import WebhookTestResult


@dataclass(frozen=True)
class Principal:
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
    def admin(self) -> AdminService:
        """What operators do; whoever calls it has checked that it is one."""

    @property
    def prices(self) -> PriceList:
        """What a minute of video costs here."""

    def note_call(self, key_id: str, **facts: Any) -> None:
        """Remember an answered request; ``facts`` are the fields of ``usage.Call``. Never blocks."""

    def usage_summary(self, caller: Principal, *, days: int) -> Summary:
        """Sums over the caller's jobs and calls of the last days, 1-90. Raises InvalidRequest."""

    def usage_by_key(self, *, days: int, client_id: str | None) -> tuple[KeyUsageBucket, ...]:
        """Sums by day, key and model, of a client or of all, for operators. Raises InvalidRequest."""

    def usage_events(self, caller: Principal, *, limit: int) -> tuple[CallEvent, ...]:
        """The caller's latest calls, 1-100. Raises InvalidRequest."""

    def authenticate(self, secret: str | None) -> ApiKey:
        """The enabled key with this secret. Raises MissingApiKey, InvalidApiKey."""

    def check_quota_for(self, caller: Principal, size: int) -> None:
        """Raises StorageQuotaExceeded, StorageFull when so many bytes do not fit."""

    def check_uploads(self, caller: Principal) -> None:
        """Raises TooManyUploads, QueueFull while so many uploads wait that another one would be refused."""

    def begin_upload(self, caller: Principal, *, filename: str, declared_type: str | None) -> UploadSession:
        """Begin to receive a file; raises InvalidFileType at once for a type that can be no video and no image."""

    def begin_idempotent_upload(
        self,
        caller: Principal,
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
        self,
        caller: Principal,
        body: Mapping[str, Any],
        *,
        auto_start: bool | None = None,
        once: IdempotentRequest | None = None,
    ) -> Job:
        """A new job, queued unless the body (or ``auto_start``) asks for a draft.

        Raises InsufficientCredits, and for a ``once`` that came before Answered or IdempotencyConflict.
        """

    def estimate(self, caller: Principal, body: Mapping[str, Any]) -> tuple[Estimate, int | None]:
        """What a job with this body would come to, and the caller's balance (hundredths, None: unlimited).

        Raises InvalidRequest, ModelUnavailable.
        """

    def speeds(self) -> Mapping[Tier, Speed]:
        """How fast a worker of this installation is with each model. Raises Unavailable."""

    def start(
        self, caller: Principal, job_id: str, body: Mapping[str, Any], *, once: IdempotentRequest | None = None
    ) -> Job:
        """Queue a draft or a failed job; a queued or running one is returned as it is.

        Raises InvalidState, and what ``create`` raises.
        """

    def get(self, caller: Principal, job_id: str) -> Job:
        """The caller's job (any job for a caller without a key: the id is the capability). Raises NotFound."""

    def cancel(self, caller: Principal, job_id: str) -> Job:
        """The job, ended; its compute stops within seconds. Twice is as good as once. Raises InvalidState, NotFound."""

    def delete(self, caller: Principal, job_id: str) -> None:
        """Cancel it when it runs, and remove its files and what the caller wrote. Raises NotFound."""

    def webhooks(self, caller: Principal, job_id: str) -> tuple[Webhook, ...]:
        """The job's webhooks with every attempt, oldest first. Raises NotFound."""

    def resend_webhook(self, caller: Principal, job_id: str, webhook_id: str) -> Webhook:
        """Send it once more, now, under the same id. Raises NotFound."""

    def test_webhook(self, caller: Principal, body: Mapping[str, Any], *, present: SerializeJob) -> WebhookTestResult:
        """Send a made-up event and wait for the answer. Raises InvalidRequest, Unavailable."""

    def delete_upload(self, caller: Principal, upload_id: str) -> None:
        """Raises InvalidState while a job that is not done uses it, NotFound."""

    def list(self, caller: Principal, *, limit: int, offset: int, status: str | None) -> Page:
        """The caller's jobs, newest first; ``limit`` 1-100. Raises InvalidRequest."""

    def events(self, caller: Principal, job_id: str) -> tuple[JobEvent, ...]: ...

    def download(self, caller: Principal, job_id: str) -> Job:
        """The job if its output is there. Raises JobNotCompleted, NotFound."""

    def output_link(self, job: Job) -> Link | None:
        """A fresh link; None while there is no output."""

    def preview_link(self, job: Job) -> Link | None:
        """To the newest small picture of a job that runs; None while there is none."""

    def upload_link(self, upload: Upload) -> Link: ...

    def deliver(self, blob: str, query: Mapping[str, str]) -> FileDownload:
        """What a link points at: ``blob`` is the path after '/files/'. Raises NotFound for a bad or expired link."""

    def mark_downloaded(self, blob: str) -> None:
        """A whole file went out; one that is to be kept for no time goes soon."""

    def health(self) -> Health: ...

    def census(self) -> ServiceStats:
        """What there is to count. Raises Unavailable."""
