"""What the jobs need from outside, owned by us; adapters live in storage/, jobstore/ and queue/."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from alphareel.domain.options import Options
from alphareel.service.billing.credits import Quote
from alphareel.service.jobs.attempts import AttemptResult
from alphareel.service.jobs.models import Job, Step


class Blobs(Protocol):
    """Objects by key ('uploads/<id>.mp4', 'outputs/<job>/<attempt>/<name>', 'previews/...' likewise).

    Raises StorageFailed, NotFound.
    """

    def put_file(self, key: str, path: Path) -> None:
        """Store the file durably (it survives power loss) and make it visible in one step; ``path`` may be moved."""

    def local(self, key: str) -> AbstractContextManager[Path]:
        """The blob as a local file while the context is open (a download where the store is remote)."""

    def size(self, key: str) -> int:
        """Bytes; NotFound when there is none."""

    def read(self, key: str, start: int, length: int) -> Iterator[bytes]:
        """At most ``length`` bytes from ``start``, in bounded pieces; NotFound before the first piece."""

    def delete(self, key: str) -> None:
        """Remove; a missing key is no error."""

    def delete_prefix(self, prefix: str) -> None:
        """Remove every blob under the prefix ('outputs/<job>/'); it must end in a slash."""

    def sweep(self) -> None:
        """Remove what writes that never finished left behind; call it only while nobody writes."""

    def older(self, than: datetime) -> Iterator[str]:
        """Keys of all blobs that were written before then."""

    def free(self) -> int | None:
        """Bytes that still fit; None where nobody can tell."""

    def is_ready(self) -> bool:
        """The store can be reached and written."""


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
    uploads: tuple[str, ...] = ()
    quote: Quote | None = None
    retention_seconds: int | None = None
    test: Mapping[str, Any] | None = None


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
    """Durable execution: what was enqueued with a transaction that committed will run, at least once."""

    def enqueue(self, connection: Any, job_id: str, ticket: int, step: Step = Step.RUN) -> None:
        """Enqueue inside the caller's open transaction."""

    def launch(self) -> None:
        """Begin to execute queued jobs in this process."""

    def stop(self, *, grace_seconds: float) -> None:
        """Take nothing new and give running jobs so long to end."""

    def recover(self, living: Callable[[], Collection[str]]) -> int:
        """Give back to the queue what executors outside ``living()`` hold; asked after the engine's own records."""

    def pending(self, tickets: Sequence[tuple[str, int]]) -> frozenset[tuple[str, int]]:
        """Those of these (job, ticket) that the engine still is going to run or is running."""

    def holder(self, job_id: str, ticket: int) -> str | None:
        """The executor that runs it, None while nobody does."""

    def forget(self, *, before: datetime) -> int:
        """Drop records of executions that ended before then; returns how many."""


@dataclass(frozen=True)
class Fetched:
    path: Path
    filename: str
    content_type: str
    bytes: int


class Fetcher(Protocol):
    """Outbound downloads, guarded: addresses checked and pinned, redirects re-checked, size and time bounded."""

    def fetch(self, url: str, target: Path, *, max_bytes: int, tick: Callable[[], None] = lambda: None) -> Fetched:
        """Download to ``target``; ``tick`` is called on the way and may raise to give up.

        Raises FetchRefused, FetchFailed, FileTooLarge, StorageFailed.
        """


class JobCapabilities(Protocol):
    """What this installation can make; asked before a job is accepted."""

    def check(self, options: Options) -> tuple[str, ...]:
        """Warnings: where another engine serves than the model is meant to be, and what that one ignores.

        Raises ModelUnavailable or InvalidRequest when no engine or format here can serve the options.
        """


class Clock(Protocol):
    def now(self) -> datetime:
        """Current time, UTC, aware."""
