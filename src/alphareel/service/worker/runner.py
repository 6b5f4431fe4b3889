"""Runs one job: cut its source in a child process, publish, settle. No step trusts that it is alone."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphareel import __version__
from alphareel.domain.clip import EngineFacts, Limits
from alphareel.domain.errors import (
    AlphareelError,
    InternalError,
    NotFound,
    OutOfMemory,
    StorageFailed,
    StorageFull,
    StorageQuotaExceeded,
    Unavailable,
    WorkerCrashed,
)
from alphareel.domain.options import Options, Tier, to_json
from alphareel.service.billing.credits import billed_seconds, paid_seconds
from alphareel.service.files import blob_keys, signed_urls
from alphareel.service.jobs.models import Billing, Job, Output, Status
from alphareel.service.ports import AttemptResult, Blobs, ChunkQueue, Fetcher
from alphareel.service.uploads import source_urls
from alphareel.service.uploads.resolver import UploadResolver
from alphareel.service.uploads.source_urls import SourceUrl
from alphareel.service.worker import child_process, chunks
from alphareel.service.worker.child_process import ResourceLimits
from alphareel.service.worker.chunks import ChunkStore, Plan, make_chunk, make_chunks
from alphareel.service.worker.cleanup import JobCleanup, workspace
from alphareel.service.worker.fetching import Examine, InputFetcher, InputFetcherConfig, examine_nothing
from alphareel.service.worker.inputs import BACKGROUND, SOURCE, Inputs
from alphareel.service.worker.previews import stills
from alphareel.service.worker.progress import (
    AttemptSuperseded,
    CancellationCheck,
    ProgressReporter,
    WorkerStopping,
    park,
)
from alphareel.telemetry.logging import get_logger, log_context
from alphareel.telemetry.tracing import record_span, start_span

if TYPE_CHECKING:
    from alphareel.db.jobs import JobStore


@dataclass(frozen=True)
class WorkerConfig:
    """``workspace``: folder for files of running attempts, in folders whose names begin with ``owner``.

    ``pipeline``: module whose ``run`` makes results.

    ``max_tries``: executions before a failure that may pass is taken as final. ``max_deaths``: executions before a
    job is given up whose worker or process was killed each time. Both count from the last chunk that was finished.
    ``chunk_seconds``: length of the chunks in which long clips are made, 0 for none.
    """

    workspace: Path
    limits: Limits
    confinement: ResourceLimits
    models_dir: Path | None = None
    engines: Mapping[Tier, Sequence[str]] = field(default_factory=dict)
    threads: int | None = None
    max_tries: int = 3
    max_deaths: int = 6
    chunk_seconds: float = 0.0
    retry_seconds: float = 2.0
    pipeline: str = "alphareel.pipeline.run"
    owner: str = ""

    @property
    def fetching(self) -> InputFetcherConfig:
        most = self.limits.max_bytes
        return InputFetcherConfig(self.workspace, self.owner, most, self.max_tries, self.max_deaths, self.retry_seconds)


class Worker:
    """JobBody over the ports. ``name`` is the actor in the audit log."""

    def __init__(
        self,
        name: str,
        *,
        jobs: JobStore,
        blobs: Blobs,
        sources: UploadResolver,
        fetcher: Fetcher,
        rules: WorkerConfig,
        helpers: ChunkQueue | None = None,
        examine: Examine = examine_nothing,
    ) -> None:
        self._name = name
        self._helpers = helpers
        self._jobs = jobs
        self._blobs = blobs
        self._inputs = Inputs(blobs, sources)
        self._cleanup = JobCleanup(jobs, blobs)
        self._rules = rules
        self._stopping = threading.Event()
        self._fetching = InputFetcher(
            name,
            jobs=jobs,
            inputs=self._inputs,
            fetcher=fetcher,
            examine=examine,
            rules=rules.fetching,
            stopping=self._stopping,
        )
        self._running: dict[str, Job] = {}

    def execute(self, job_id: str, ticket: int) -> AttemptResult:
        save_memory = False
        with self._named(job_id):
            while True:
                if self._stopping.is_set():
                    park()
                if self._fetching.hand_over(job_id, ticket):
                    return _GONE
                job = self._jobs.begin_attempt(job_id, ticket=ticket, actor=self._name)
                if job is None:
                    self._cleanup.clear_up(job_id)
                    return _GONE
                outcome = self._traced_attempt(job, save_memory=save_memory)
                if outcome == _GONE:
                    self._cleanup.clear_up(job_id)
                if outcome["kind"] != "failed":
                    return outcome
                tries = self._tries(job)
                if reason := self._reason_to_requeue(outcome, tries):
                    self._jobs.requeue(job.id, ticket=job.ticket, actor=self._name, reason=reason)
                    return _GONE
                if outcome["error_code"] == OutOfMemory.code and not save_memory:
                    save_memory = True
                elif outcome["stalled"] or not outcome["retryable"] or tries >= self._rules.max_tries:
                    return outcome
                get_logger(__name__).warning("attempt failed", attempt=job.attempt, error=outcome["error"])
                self._stopping.wait(self._rules.retry_seconds * 2 ** (tries - 1))

    def _reason_to_requeue(self, outcome: AttemptResult, tries: int) -> str | None:
        """Why other jobs get their turn before the next try."""
        if outcome["was_killed"] and tries < self._rules.max_deaths:
            return "its process was killed"
        return "it made no progress" if outcome["stalled"] and tries < _MOST_STALLS else None

    def _tries(self, job: Job) -> int:
        """As they count now: chunks may have been finished since this attempt began."""
        found = self._jobs.job(job.id)
        return job.tries if found is None else max(1, found.tries)

    def settle(self, job_id: str, ticket: int, outcome: AttemptResult) -> None:  # noqa: ARG002
        with self._named(job_id):
            if outcome["kind"] == "done":
                self._deliver(job_id, outcome)
            elif outcome["kind"] == "failed":
                error, code = outcome["error"], outcome["error_code"]
                self._jobs.fail(job_id, attempt=outcome["attempt"], error=error, error_code=code, actor=self._name)
            self._cleanup.clear_up(job_id)

    def fetch(self, job_id: str, ticket: int) -> None:
        self._fetching.fetch(job_id, ticket)

    def help(self, job_id: str, ticket: int, mark: str, number: int) -> None:
        try:
            with self._named(job_id):
                job = self._jobs.job(job_id)
                if job is not None and job.status is Status.PROCESSING and job.ticket == ticket:
                    self._help(job, mark, number)
                    self._cleanup.clear_up(job_id)  # it may have ended while the chunk was on its way to the store
        except (AttemptSuperseded, WorkerStopping):
            return
        except AlphareelError as error:  # the job's own worker will come to this chunk, and judge it
            get_logger(__name__).warning("chunk was not made", job_id=job_id, error=str(error))
        except Exception:  # noqa: BLE001
            get_logger(__name__).exception("help broke", job_id=job_id)

    @contextmanager
    def _named(self, job_id: str) -> Iterator[None]:
        """Every line that is logged inside tells which job, request and upload it belongs to. Raises Unavailable."""
        job = self._jobs.job(job_id)
        with log_context(job_id=job_id, **({} if job is None else _names(job))):
            yield

    def _help(self, job: Job, mark: str, number: int) -> None:
        shelf = self._shelf(job, mark)
        plan = shelf.plan()
        if plan is None or plan.version != __version__ or shelf.facts(number) is not None:
            return
        with ExitStack() as opened:
            folder = opened.enter_context(self._workspace(f"{job.id}.{job.attempt}.{number}"))
            watch = CancellationCheck(self._jobs, job, self._stopping)
            order = self._order(job, self._source(job, opened), self._options(job, opened), folder, previews=None)
            make_chunk(order, plan, number, shelf, run=self._run, tick=watch)

    def _shelf(self, job: Job, mark: str) -> ChunkStore:
        """A finished chunk shows that the job gets on: only deaths after it count against it."""

        def kept() -> None:
            with contextlib.suppress(Unavailable):
                self._jobs.reset_tries(job.id, ticket=job.ticket)

        suffix = Path(blob_keys.result_name(job.options.output_format)).suffix
        return ChunkStore(self._blobs, job.id, mark, suffix=suffix, kept=kept)

    def drain(self) -> None:
        """The engine is about to stop: nothing that is done need wait for anything."""
        self._fetching.drain()

    def abandon(self) -> None:
        self._stopping.set()
        self._fetching.abandon()
        for job in list(self._running.values()):
            with contextlib.suppress(Unavailable):
                self._jobs.release_attempt(job.id, attempt=job.attempt, actor=self._name, reason="the worker stopped")

    def _traced_attempt(self, job: Job, *, save_memory: bool) -> AttemptResult:
        with start_span("attempt", parent=job.traceparent, kind="consumer", job_id=job.id, attempt=job.attempt) as span:
            if span is not None and job.tries == 1:
                began = max(
                    e.at for e in self._jobs.events(job.id) if e.to_status is Status.PENDING is not e.from_status
                )
                record_span("queue", began=began, seconds=((job.progress_at or began) - began).total_seconds())
            outcome = self._attempt(job, save_memory=save_memory)
            if span is not None and outcome["kind"] == "failed":
                span.fail(outcome["error_code"])
            return outcome

    def _attempt(self, job: Job, *, save_memory: bool) -> AttemptResult:
        self._running[job.id] = job
        try:
            return self._make(job, save_memory=save_memory)
        except AttemptSuperseded:
            return _GONE
        except WorkerStopping:
            park()
        except Unavailable:
            raise  # the database's fault, not the job's: the engine tries again
        except AlphareelError as error:
            return _failure(job, error)
        except Exception as error:  # noqa: BLE001  # a fault of ours fails this job and no other
            get_logger(__name__).exception("attempt broke", attempt=job.attempt)
            return _failure(job, InternalError(f"Processing failed: {type(error).__name__}."))
        finally:
            del self._running[job.id]

    def _make(self, job: Job, *, save_memory: bool) -> AttemptResult:
        """``save_memory``: with one thread and few frames at a time, because the attempt before had too little."""
        if job.tries > self._rules.max_deaths:
            raise WorkerCrashed(
                f"Its worker died {self._rules.max_deaths} times while it processed this job without any progress."
            )
        with ExitStack() as opened:
            folder = opened.enter_context(self._workspace(f"{job.id}.{job.attempt}"))
            pictures = opened.enter_context(stills(self._blobs, job, folder / "previews"))
            reporter = ProgressReporter(self._jobs, job, self._stopping, pictures)
            with start_span("obtain"):
                source = self._source(job, opened)
            job = self._reserve(job, source, reporter)
            order = self._order(job, source, self._options(job, opened), folder, previews=pictures.folder)
            if save_memory:
                order |= {"threads": 1, "save_memory": True}
            result = self._run(order, reporter)
            if (plan := result.get("plan")) is not None:
                result = self._make_chunks(job, order, Plan(**plan), reporter)
            with start_span("publish"):
                return self._publish(job, Path(order["target"]), result)

    def _make_chunks(
        self, job: Job, order: Mapping[str, Any], plan: Plan, reporter: ProgressReporter
    ) -> dict[str, Any]:
        """The result of a long clip, in one go after all where damage swallows a chunk and leaves enough of the whole.

        What was made before this attempt, or is made by others, is not made again.
        """
        began, confinement = time.monotonic(), self._rules.confinement

        def run(piece: Mapping[str, Any], tick: child_process.Tick) -> dict[str, Any]:
            """The time that a job may take is that of all its children."""
            return self._run(piece, tick, replace(confinement, spent_seconds=time.monotonic() - began))

        shelf = self._shelf(job, plan.mark)
        if self._helpers is not None:
            shelf.put_plan(plan, Path(order["target"]).parent)
        try:
            with chunks.distributed(self._helpers, job, plan):
                return make_chunks(order, plan, shelf, run=run, tick=reporter)
        except chunks.FALL_BACK_TO_SINGLE_PASS as error:
            get_logger(__name__).warning("made in one go, not in chunks", error=str(error))
            return run({**order, "chunk_seconds": 0}, reporter)

    def _run(
        self, order: Mapping[str, Any], tick: child_process.Tick, confinement: ResourceLimits | None = None
    ) -> dict[str, Any]:
        """In a child process, which is confined and so tells us alone how long each stage worked."""
        with start_span("child") as span:
            began = datetime.now(UTC)
            result = child_process.run(order, confinement or self._rules.confinement, tick=tick)
            if span is not None and "stages" in result:
                span.tell(frames=result["frames"], engine=result["engine"]["name"])
                for stage, seconds in result["stages"].items():
                    record_span(stage, began=began, seconds=seconds)
            return result

    def _workspace(self, name: str) -> AbstractContextManager[Path]:
        return workspace(self._rules.workspace / f"{self._rules.owner}.{name}".removeprefix("."))

    def _source(self, job: Job, opened: ExitStack) -> Path:
        return self._local(job, SOURCE, source_urls.source(job.video_url), opened)

    def _options(self, job: Job, opened: ExitStack) -> Options:
        """The job's options, with what stands behind the subject at hand."""
        behind = source_urls.background(job.options)
        if behind is None:
            return job.options
        return source_urls.with_local_background(job.options, self._local(job, BACKGROUND, behind, opened))

    def _local(self, job: Job, name: str, wanted: SourceUrl, opened: ExitStack) -> Path:
        """One of the job's files, here as long as ``opened`` is open."""
        try:
            return opened.enter_context(self._blobs.local(self._inputs.blob(job, name, wanted)))
        except NotFound as error:
            if self._inputs.missing(job):
                raise StorageFailed("A file that was fetched for the job is gone from the store.") from error
            raise

    def _reserve(self, job: Job, source: Path, reporter: ProgressReporter) -> Job:
        """Reserve credits for a clip whose length nobody knew when its job was started. Raises InsufficientCredits.

        Returns the job as it is then.
        """
        if job.price is None or job.billing_status is not Billing.NOT_BILLED:
            return job
        order = {"task": "identify", "source": str(source), "limits": asdict(self._rules.limits)}
        length = child_process.run(order, self._rules.confinement, tick=reporter)["seconds"]
        seconds = billed_seconds(job.options, length)
        most = billed_seconds(job.options, self._rules.limits.max_seconds or None)
        if not self._jobs.reserve_credits(job.id, attempt=job.attempt, seconds=seconds, most=most):
            raise AttemptSuperseded
        found = self._jobs.job(job.id)
        if found is None:
            raise AttemptSuperseded
        return replace(job, billing_status=found.billing_status, credits=found.credits)

    def _order(
        self, job: Job, source: Path, options: Options, folder: Path, *, previews: Path | None
    ) -> dict[str, Any]:
        return {
            "task": "run",
            "pipeline": self._rules.pipeline,
            "source": str(source),
            "target": str(folder / blob_keys.result_name(options.output_format)),
            "previews": None if previews is None else str(previews),
            "options": to_json(options),
            "limits": asdict(self._rules.limits),
            "models_dir": str(self._rules.models_dir) if self._rules.models_dir else None,
            "engines": self._rules.engines.get(options.model),
            "threads": self._rules.threads,
            "chunk_seconds": self._rules.chunk_seconds,
            "paid_seconds": paid_seconds(job),
        }

    def _publish(self, job: Job, target: Path, result: Mapping[str, Any]) -> AttemptResult:
        key = f"{blob_keys.output_prefix(job.id, job.attempt)}{target.name}"
        self._blobs.put_file(key, target)
        facts = {field.name: result[field.name] for field in fields(Output) if field.name in result}
        return {
            "kind": "done",
            "attempt": job.attempt,
            "output": asdict(Output(**{**facts, "blob": key})),
            "engine": result["engine"],
            "warnings": list(dict.fromkeys((*job.warnings, *result["warnings"]))),
        }

    def _deliver(self, job_id: str, outcome: AttemptResult) -> None:
        """Name this attempt's file the output, unless another won; the losers' files go."""
        attempt, output = outcome["attempt"], Output(**outcome["output"])
        won = self._complete(job_id, outcome, output)
        stored = None if won else self._jobs.job(job_id)
        if won or (stored is not None and stored.output == output):  # the latter: this step ran before, and won then
            losers = range(1, attempt)
        else:
            losers = range(attempt, attempt + 1)
        for loser in losers:
            self._cleanup.discard(blob_keys.output_prefix(job_id, loser))

    def _complete(self, job_id: str, outcome: AttemptResult, output: Output) -> bool:
        try:
            return self._jobs.complete(
                job_id,
                attempt=outcome["attempt"],
                output=output,
                engine=EngineFacts(**outcome["engine"]),
                warnings=tuple(outcome["warnings"]),
                actor=self._name,
            )
        except (StorageQuotaExceeded, StorageFull) as error:
            attempt, code = outcome["attempt"], error.code
            self._jobs.fail(job_id, attempt=attempt, error=str(error), error_code=code, actor=self._name)
            return False


def _names(job: Job) -> dict[str, str | None]:
    """What ties a line of the log to the client's requests."""
    return {"request_id": job.request_id, "video_id": signed_urls.upload_id(job.video_url)}


_GONE: AttemptResult = {"kind": "gone"}
_MOST_STALLS = 2  # a machine may have been too busy once; then it is the file's fault


def _failure(job: Job, error: AlphareelError) -> AttemptResult:
    return {
        "kind": "failed",
        "attempt": job.attempt,
        "error": str(error),
        "error_code": error.code,
        "retryable": error.retryable,
        "was_killed": isinstance(error, child_process.Killed),
        "stalled": isinstance(error, child_process.Stalled),
    }
