"""What the jobs need from outside, owned by us; adapters live in storage/, jobstore/ and queue/."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from alphareel.domain.clip import EngineFacts
from alphareel.domain.options import Options
from alphareel.jobs.credits import Bill
from alphareel.jobs.job import ApiKey, Executor, Job, JobEvent, Output, Status, Step, Upload
from alphareel.jobs.repeats import Once


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
    bill: Bill | None = None
    retention_seconds: int | None = None
    test: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Page:
    items: tuple[Job, ...]
    total: int


class JobStore(Protocol):
    """The jobs, in our own tables: the truth.

    Every method is one transaction; a transition is a compare-and-set that writes its audit row in the same
    transaction. Every store raises Unavailable when the database does not answer.
    """

    def add_job(self, new: NewJob, *, start: bool, actor: str, once: Once | None = None) -> Job:
        """Insert a draft, or (``start``) a pending job, enqueued in the same transaction unless it has to wait.

        Raises InsufficientCredits, TooManyJobs, QueueFull; for a known ``once`` Answered, IdempotencyConflict,
        IdempotencyInProgress.
        """

    def start_job(
        self,
        job_id: str,
        *,
        options: Options,
        webhook_url: str | None,
        warnings: tuple[str, ...],
        video_url: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        uploads: tuple[str, ...] = (),
        retention_seconds: int | None = None,
        test: Mapping[str, Any] | None = None,
        actor: str,
        request_id: str | None,
        bill: Bill | None = None,
        once: Once | None = None,
    ) -> Job | None:
        """Created or failed -> pending with these options and uploads, in line as with ``add_job``; else None.

        ``video_url``, ``metadata``: None leaves what the job has.
        """

    def job(self, job_id: str) -> Job | None:
        """None also for a job that was deleted."""

    def jobs(
        self,
        key_id: str | None,
        *,
        others: tuple[str, ...] = (),
        statuses: tuple[Status, ...] | None,
        limit: int,
        offset: int,
    ) -> Page:
        """A key's jobs and those of ``others``, newest first."""

    def events(self, job_id: str) -> tuple[JobEvent, ...]: ...

    def begin_attempt(self, job_id: str, *, ticket: int, actor: str) -> Job | None:
        """Pending or processing with this ticket -> processing, attempt + 1 (the fence); None if it moved on."""

    def set_progress(self, job_id: str, *, attempt: int, progress: float, preview: str | None = None) -> bool:
        """Note a sign of life, the percent done (never lowered), and the blob of the newest preview, if there is any.

        False if the attempt is not current.
        """

    def reset_tries(self, job_id: str, *, ticket: int) -> None:
        """A part of the result is kept: executions before this one count as tries no more."""

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
        """Processing by this attempt -> completed; False if somebody else moved the job.

        Raises StorageQuotaExceeded, StorageFull when the result does not fit; then the job did not move.
        """

    def fail(
        self, job_id: str, *, attempt: int | None, error: str, error_code: str, actor: str, ticket: int | None = None
    ) -> bool:
        """-> failed, by this attempt, or by anybody when ``attempt`` is None; ``error`` is never empty.

        ``ticket``: only while the job holds this one.
        """

    def queue_fetch(self, job_id: str, *, ticket: int, actor: str) -> bool:
        """Pending or processing with this ticket -> processing, and hand it to the engine to fetch its files."""

    def begin_fetch(self, job_id: str, *, ticket: int, actor: str) -> Job | None:
        """Count a try at fetching its files; None unless it is processing with this ticket."""

    def queue_fetched(self, job_id: str, *, ticket: int, actor: str) -> bool:
        """Its files are in the store: hand it to the engine to be run, with no tries counted so far."""

    def leave_fetch(self, job_id: str, *, ticket: int) -> None:
        """A worker that stops in good order leaves this fetch, which then does not count as a try."""

    def hand_back(self, job_id: str, *, attempt: int, actor: str, reason: str) -> bool:
        """A worker that stops in good order leaves this attempt, which then does not count as a try."""

    def reserve_credits(self, job_id: str, *, attempt: int, seconds: float | None, most: float | None) -> bool:
        """Reserve for a running job whose length was unknown when it started; again is the same as once.

        ``seconds`` None: nobody can tell, so what ``most`` seconds cost is reserved, or all there is. False if the
        attempt is not current. Raises InsufficientCredits.
        """

    def unfinished(self) -> tuple[Job, ...]:
        """Pending and processing jobs that the engine has, for the reconciler."""

    def rehearsing(self) -> tuple[Job, ...]:
        """Pending and processing test jobs, which the engine never gets."""

    def admit_waiting(self) -> int:
        """Hand to the engine what waits although the limits leave room for it; how many.

        Every move of a job does so for its key; this finds what raised limits left outside.
        """

    def requeue(self, job_id: str, *, ticket: int, actor: str, reason: str) -> bool:
        """Hand a pending or processing job that holds this ticket to the engine once more, with the next ticket."""

    def is_ready(self) -> bool:
        """The database answers and its schema is current."""


class UploadStore(Protocol):
    """Records of accepted files; never changed. Uploads of one key with the same content share a blob."""

    def expect_blob(self, blob: str) -> None:
        """A blob is about to be written; unless ``add_upload`` follows, it is removed some time later."""

    def add_upload(self, upload: Upload) -> Upload:
        """The upload as recorded: with another blob than the expected one, where these bytes are kept already.

        Raises StorageQuotaExceeded, StorageFull; StorageFailed when its blob was not expected, or too long ago.
        """

    def add_copy(self, upload: Upload) -> Upload | None:
        """The same for bytes that are kept already, with what is known of them; None when they are not."""

    def upload(self, upload_id: str) -> Upload | None: ...


class KeyStore(Protocol):
    """API keys without their secrets, and values that are one for the whole installation."""

    def add_key(self, *, key_id: str, secret_sha256: str, fingerprint: str, client_id: str, note: str) -> ApiKey | None:
        """The new key; None when the id or the secret is taken."""

    def replace_secret(self, key_id: str, *, secret_sha256: str, fingerprint: str) -> bool:
        """Give a key another secret (its jobs stay its own); False when there is no such key."""

    def key_by_secret(self, secret_sha256: str) -> ApiKey | None:
        """The key with this secret, or whose secret it was before a rotation whose time of grace runs."""

    def keys(self) -> tuple[ApiKey, ...]: ...

    def key_ids(self, client_id: str) -> tuple[str, ...]:
        """Of all keys of a client."""

    def set_setting_once(self, name: str, value: str) -> str:
        """Store unless there is a value already; returns the stored value."""


class Executors(Protocol):
    """The worker processes that are alive, judged by a counter that each of them keeps moving."""

    def add_executor(self, executor_id: str, *, home: str) -> None: ...

    def beat(self, executor_id: str) -> bool:
        """Move the counter; False when somebody declared this executor dead."""

    def executors(self) -> tuple[Executor, ...]: ...

    def remove_executor(self, executor_id: str, *, beat: int | None = None) -> bool:
        """Declare it dead (only if its counter still stands at ``beat``, when given); True for one caller only."""

    def remove_home(self, home: str) -> int:
        """Declare every executor of a home dead; the caller holds the lock of that home."""


Outcome = dict[str, Any]
"""How an execution ended, as JSON: what ``execute`` hands to ``settle``."""


class JobBody(Protocol):
    """What the engine runs for a job, in two steps that it records; each may run more than once."""

    def execute(self, job_id: str, ticket: int) -> Outcome:
        """Make the result. Raises Unavailable only (the engine then tries again); everything else is an outcome."""

    def settle(self, job_id: str, ticket: int, outcome: Outcome) -> None:
        """Record the outcome with a compare-and-set. Raises Unavailable only."""

    def fetch(self, job_id: str, ticket: int) -> None:
        """Fetch the job's files and enqueue it to be run. Raises Unavailable only; may run more than once."""

    def help(self, job_id: str, ticket: int, mark: str, number: int) -> None:
        """Make a chunk of a job that another execution runs, if it is still wanted. Raises nothing."""

    def abandon(self) -> None:
        """Kill the running attempts and hand their jobs back; ``execute`` then never returns."""


class Helpers(Protocol):
    """Workers that have nothing else to do. Nothing depends on them: what they do not make, the job's own worker does.

    ``mark``: of the plan that the chunks are of (``jobs.chunks``). Raises Unavailable.
    """

    def offer(self, job_id: str, ticket: int, mark: str, numbers: Sequence[int]) -> None:
        """Let whoever is idle make these chunks, the first ones first; again is the same as once."""

    def withdraw(self, job_id: str, ticket: int, mark: str, numbers: Sequence[int]) -> None:
        """Nobody need begin with these any more."""


class JobEngine(Protocol):
    """Durable execution: what was enqueued with a transaction that committed will run, at least once."""

    def enqueue(
        self, connection: Any, job_id: str, ticket: int, step: Step = Step.RUN, key_id: str | None = None
    ) -> None:
        """Enqueue inside the caller's open transaction. ``key_id``: whose fetch it is; no key takes all places."""

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


class Offer(Protocol):
    """What this installation can make; asked before a job is accepted."""

    def check(self, options: Options) -> tuple[str, ...]:
        """Warnings: where another engine serves than the model is meant to be, and what that one ignores.

        Raises ModelUnavailable or InvalidRequest when no engine or format here can serve the options.
        """


class Clock(Protocol):
    def now(self) -> datetime:
        """Current time, UTC, aware."""
