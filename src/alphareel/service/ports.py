"""Interfaces that the services need and other packages implement: ``storage``, ``queue``, and fakes for tests."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from alphareel.domain.options import Options
from alphareel.service.billing.credits import Quote
from alphareel.service.jobs.attempts import AttemptResult
from alphareel.service.jobs.models import Job, Kind, Step
from alphareel.service.jobs.output_targets import Targets


class Blobs(Protocol):
    """Objects by key; ``files/blob_keys.py`` defines the keys. Raises StorageFailed, NotFound."""

    def put_file(self, key: str, path: Path) -> None:
        """Store the file durably (it survives power loss) and atomically; ``path`` may be moved."""

    def local(self, key: str) -> AbstractContextManager[Path]:
        """The blob as a local file while the context is open; a remote store downloads it."""

    def size(self, key: str) -> int:
        """Bytes. Raises NotFound."""

    def read(self, key: str, start: int, length: int) -> Iterator[bytes]:
        """At most ``length`` bytes from ``start``, in bounded pieces. Raises NotFound before the first piece."""

    def delete(self, key: str) -> None:
        """Delete the blob; a missing key is no error."""

    def delete_prefix(self, prefix: str) -> None:
        """Delete every blob under the prefix, which must end in a slash."""

    def sweep(self) -> None:
        """Delete the remains of interrupted writes; call it only while nothing is written."""

    def older(self, than: datetime) -> Iterator[str]:
        """Keys of all blobs that were written before ``than``."""

    def free(self) -> int | None:
        """Free space in bytes; None where it is unknown."""

    def is_ready(self) -> bool:
        """Whether the store can be reached and written."""

    def sign_puts(self, keys: Sequence[str], lifetime: timedelta) -> tuple[str, ...] | None:
        """URLs with which a client may PUT these blobs during ``lifetime``; None where the store cannot sign URLs."""

    def parts(self, prefix: str) -> tuple["StoredPart", ...]:
        """The blobs under a prefix that ends in a slash; none where ``sign_puts`` returns None."""


@dataclass(frozen=True)
class StoredPart:
    """A blob that a client put. ``etag`` as the store answered it."""

    key: str
    bytes: int
    etag: str


@dataclass(frozen=True)
class NewJob:
    """``guard`` gets the parent's rows of the same kind in the inserting transaction, and raises to refuse the row."""

    id: str
    key_id: str | None
    video_url: str
    options: Options
    webhook_url: str | None
    metadata: dict[str, Any]
    request_id: str | None
    warnings: tuple[str, ...]
    uploads: tuple[str, ...] = ()
    quote: Quote | None = None
    retention_seconds: int | None = None
    test: Mapping[str, Any] | None = None
    more_options: tuple[Options, ...] = ()
    keep_matte: bool = False
    kind: Kind = Kind.JOB
    parent_id: str | None = None
    batch_id: str | None = None
    task: Mapping[str, Any] | None = None
    targets: Targets = field(default=(), repr=False)
    guard: Callable[[tuple[Job, ...]], None] | None = None


class JobExists(Exception):
    """Raised by a ``guard``: another request has just inserted an equal row, ``job``."""

    def __init__(self, job: Job) -> None:
        super().__init__(job.id)
        self.job = job


@dataclass(frozen=True)
class Page:
    items: tuple[Job, ...]
    total: int


class JobBody(Protocol):
    """What the engine runs for a job. It records each step; each may run more than once."""

    def execute(self, job_id: str, ticket: int) -> AttemptResult:
        """Make the result. Raises Unavailable only, and the engine tries again; other errors are outcomes."""

    def settle(self, job_id: str, ticket: int, outcome: AttemptResult) -> None:
        """Record the outcome with a compare-and-set. Raises Unavailable only."""

    def fetch(self, job_id: str, ticket: int) -> None:
        """Fetch the job's files and enqueue it to be run. Raises Unavailable only."""

    def deliver(self, job_id: str, ticket: int) -> None:
        """Send the job's outputs to their targets and complete it. Raises Unavailable only."""

    def make_chunk(self, job_id: str, ticket: int, plan_hash: str, number: int) -> None:
        """Make a chunk of a job that another worker runs, if it is still needed. Raises nothing."""

    def abandon(self) -> None:
        """Kill the running attempts and release their jobs; ``execute`` then never returns."""


class ChunkQueue(Protocol):
    """Chunks for idle workers. Nothing depends on them: the job's own worker makes every chunk that they do not.

    ``plan_hash`` identifies the plan that the chunks belong to. Raises Unavailable.
    """

    def enqueue_chunks(self, job_id: str, ticket: int, plan_hash: str, numbers: Sequence[int]) -> None:
        """Let idle workers make these chunks, in this order. Idempotent."""

    def cancel_chunks(self, job_id: str, ticket: int, plan_hash: str, numbers: Sequence[int]) -> None:
        """Remove those that no worker has started."""


class JobEngine(Protocol):
    """Durable execution: what a committed transaction enqueued runs at least once."""

    def enqueue(
        self, connection: Any, job_id: str, ticket: int, step: Step = Step.RUN, key_id: str | None = None
    ) -> None:
        """Enqueue inside the caller's open transaction. ``key_id``: whose fetch it is; no key takes all slots."""

    def launch(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Start to execute queued jobs in this process; ``on_ready`` is called before the first one."""

    def stop(self, *, grace_seconds: float) -> None:
        """Start no other job, and wait for running ones at most for ``grace_seconds``."""

    def recover(self, living: Callable[[], Collection[str]]) -> int:
        """Requeue the jobs of executors that are not in ``living()``; returns how many executors lost jobs.

        ``living`` is called after the engine's records are read.
        """

    def pending(self, tickets: Sequence[tuple[str, int]]) -> frozenset[tuple[str, int]]:
        """Those of these (job, ticket) pairs that the engine runs or will run."""

    def holder(self, job_id: str, ticket: int) -> str | None:
        """The executor that runs it; None while none does."""

    def forget(self, *, before: datetime) -> int:
        """Delete records of executions that ended before then; returns how many."""


@dataclass(frozen=True)
class FetchedFile:
    path: Path
    filename: str
    content_type: str
    bytes: int


class Fetcher(Protocol):
    """Downloads guarded against SSRF: addresses are checked and pinned, redirects too; size and time are bounded."""

    def fetch(self, url: str, target: Path, *, max_bytes: int, tick: Callable[[], None] = lambda: None) -> FetchedFile:
        """Download to ``target``; ``tick`` is called repeatedly and may raise to abort.

        Raises FetchRefused, FetchFailed, FileTooLarge, StorageFailed.
        """


class FileSender(Protocol):
    """Sends files, guarded against SSRF as downloads are. It follows no redirect."""

    def send(
        self,
        url: str,
        headers: Mapping[str, str],
        pieces: Iterable[bytes],
        *,
        size: int,
        seconds: float,
        tick: Callable[[], None] = lambda: None,
    ) -> int:
        """PUT ``size`` bytes and return the status of the response; ``seconds``: for the whole exchange.

        ``tick`` is called repeatedly and may raise to abort. Raises FetchRefused, FetchFailed, and what ``pieces``
        raise.
        """


class JobCapabilities(Protocol):
    """What this installation can process; checked before a job is accepted."""

    def check(self, requested: Sequence[Options]) -> tuple[str, ...]:
        """Warnings about a substitute engine and the options that it ignores; ``requested``: of all outputs.

        Raises ModelUnavailable, InvalidRequest when no engine or format here supports the options.
        """

    def check_format(self, name: str) -> None:
        """Raises InvalidRequest for a format that is not installed here."""


class Clock(Protocol):
    def now(self) -> datetime:
        """The current time: aware, UTC."""
