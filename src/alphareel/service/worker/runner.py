"""Runs one job: makes its result in a child process, stores it, records the outcome.

Every step works also when another worker runs the same job at the same time.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from alphareel import __version__
from alphareel.domain.clip import EngineFacts
from alphareel.domain.errors import (
    AlphareelError,
    InternalError,
    OutOfMemory,
    StorageFailed,
    Unavailable,
    WorkerCrashed,
)
from alphareel.service.billing.credits import billed_seconds
from alphareel.service.files import signed_urls
from alphareel.service.jobs.attempts import AttemptCompleted, AttemptDropped, AttemptFailed, AttemptResult
from alphareel.service.jobs.models import Billing, Job, Kind, Status
from alphareel.service.net.put import GuardedSender
from alphareel.service.ports import Blobs, ChunkQueue, Fetcher, FileSender
from alphareel.service.settings import Settings
from alphareel.service.uploads import source_urls
from alphareel.service.uploads.resolver import UploadResolver
from alphareel.service.worker import child_process, chunks
from alphareel.service.worker.child_process import SPAWNED, Children, ResourceLimits
from alphareel.service.worker.chunks import ChunkStore, make_chunk, make_chunks
from alphareel.service.worker.cleanup import JobCleanup
from alphareel.service.worker.deliverer import OutputDeliverer
from alphareel.service.worker.events import Plan, RunResult
from alphareel.service.worker.fetcher import InputFetcher, InspectFetched, skip_inspection
from alphareel.service.worker.inputs import SOURCE, Inputs
from alphareel.service.worker.job_tasks import JobTasks, requested_outputs
from alphareel.service.worker.previews import attempt_previews
from alphareel.service.worker.progress import (
    AttemptSuperseded,
    CancellationCheck,
    ProgressReporter,
    WorkerStopping,
    block_until_exit,
)
from alphareel.service.worker.publisher import ResultPublisher
from alphareel.service.worker.remote import LocalBlobs, RemoteTasks
from alphareel.service.worker.storage_pause import StoragePause
from alphareel.service.worker.tasks import JoinTask, RunTask, SplitTask
from alphareel.telemetry.logging import get_logger, log_context
from alphareel.telemetry.tracing import record_span, set_span_error, span_attributes, start_span

if TYPE_CHECKING:
    from alphareel.db.jobs import JobStore

_MAX_STALLS = 2  # the machine may have been too busy once; after that it is the file's fault


class Worker:
    """Implements JobBody.

    ``name`` is the actor in the audit log; names of work folders begin with ``owner``. ``on_completed`` gets each job
    that has completed, more than once after a crash.
    """

    def __init__(
        self,
        name: str,
        *,
        jobs: JobStore,
        blobs: Blobs,
        uploads: UploadResolver,
        fetcher: Fetcher,
        settings: Settings,
        owner: str = "",
        chunk_queue: ChunkQueue | None = None,
        inspect_fetched: InspectFetched = skip_inspection,
        children: Children = SPAWNED,
        on_completed: Callable[[Job], None] = lambda _: None,
        sender: FileSender | None = None,
        remote: RemoteTasks | None = None,
    ) -> None:
        self._name = name
        self._on_completed = on_completed
        self._children = children
        self._remote = remote
        self._jobs = jobs
        self._blobs = blobs
        self._inputs = Inputs(blobs, uploads)
        self._cleanup = JobCleanup(jobs, blobs)
        self._tasks = JobTasks(self._inputs, settings)
        self._publisher = ResultPublisher(name, jobs=jobs, blobs=blobs, cleanup=self._cleanup)
        self._settings = settings
        self._resource_limits = ResourceLimits.of_jobs(settings.worker)
        self._owner = owner
        self._chunk_queue = chunk_queue
        self._stopping = threading.Event()
        self._storage = StoragePause(blobs, settings.storage)
        self._input_fetcher = InputFetcher(
            name,
            jobs=jobs,
            inputs=self._inputs,
            fetcher=fetcher,
            inspect_fetched=inspect_fetched,
            settings=settings,
            owner=owner,
            stopping=self._stopping,
            storage=self._storage,
        )
        self._deliverer = OutputDeliverer(
            name,
            jobs=jobs,
            blobs=blobs,
            sender=sender or GuardedSender(settings.fetch),
            settings=settings.delivery,
            worker=settings.worker,
            stopping=self._stopping,
            on_completed=on_completed,
        )
        self._running: dict[str, Job] = {}

    def execute(self, job_id: str, ticket: int) -> AttemptResult:
        save_memory = False
        with self._job_log_context(job_id):
            while True:
                if self._stopping.is_set():
                    block_until_exit()
                if self._deliverer.move_to_delivery_queue(job_id, ticket):
                    return AttemptDropped()
                if self._input_fetcher.move_to_fetch_queue(job_id, ticket):
                    return AttemptDropped()
                job = self._jobs.begin_attempt(job_id, ticket=ticket, actor=self._name)
                if job is None:
                    self._cleanup.remove_leftovers(job_id)
                    return AttemptDropped()
                outcome = self._traced_attempt(job, save_memory=save_memory)
                if isinstance(outcome, AttemptDropped):
                    self._cleanup.remove_leftovers(job_id)
                if not isinstance(outcome, AttemptFailed):
                    return outcome
                tries = self._tries(job)
                if self._give_back(job, outcome, tries):
                    return AttemptDropped()
                if outcome.error_code == OutOfMemory.code and not save_memory:
                    save_memory = True
                elif outcome.stalled or not outcome.retryable or tries >= self._settings.worker.max_tries:
                    return outcome
                get_logger(__name__).warning("attempt failed", attempt=job.attempt, error=outcome.error)
                self._stopping.wait(self._settings.worker.retry_seconds * 2 ** (tries - 1))

    def _give_back(self, job: Job, outcome: AttemptFailed, tries: int) -> bool:
        """Queue the job again where another attempt should not follow at once; False where this worker goes on."""
        give_back = partial(self._jobs.requeue, job.id, ticket=job.ticket, actor=self._name)
        if self._storage.is_to_blame(outcome.error_code):
            get_logger(__name__).warning("attempt failed", attempt=job.attempt, error=outcome.error)
            give_back(reason="its result cannot be stored", counts=False)
            self._storage.wait()  # the slot takes no other job meanwhile
            return True
        reason = self._reason_to_requeue(outcome, tries)
        if reason is not None:
            give_back(reason=reason)
        return reason is not None

    def _reason_to_requeue(self, outcome: AttemptFailed, tries: int) -> str | None:
        """Why other jobs run before the next try; None where the next try, if any, follows at once."""
        if outcome.was_killed and tries < self._settings.worker.max_deaths:
            return "its process was killed"
        return "it made no progress" if outcome.stalled and tries < _MAX_STALLS else None

    def _tries(self, job: Job) -> int:
        """The current count: chunks finished during this attempt reset it."""
        current = self._jobs.job(job.id)
        return job.tries if current is None else max(1, current.tries)

    def settle(self, job_id: str, ticket: int, outcome: AttemptResult) -> None:  # noqa: ARG002
        with self._job_log_context(job_id):
            match outcome:
                case AttemptCompleted():
                    self._publisher.complete(job_id, outcome)
                    if (job := self._jobs.job(job_id)) is not None and job.status is Status.COMPLETED:
                        self._on_completed(job)
                case AttemptFailed(attempt=attempt, error=error, error_code=code):
                    self._jobs.fail(job_id, attempt=attempt, error=error, error_code=code, actor=self._name)
            self._cleanup.remove_leftovers(job_id)

    def fetch(self, job_id: str, ticket: int) -> None:
        self._input_fetcher.fetch(job_id, ticket)

    def deliver(self, job_id: str, ticket: int) -> None:
        self._deliverer.deliver(job_id, ticket)

    def make_chunk(self, job_id: str, ticket: int, plan_hash: str, number: int) -> None:
        try:
            with self._job_log_context(job_id):
                job = self._jobs.job(job_id)
                if job is not None and job.status is Status.PROCESSING and job.ticket == ticket:
                    self._make_chunk(job, plan_hash, number)
                    self._cleanup.remove_leftovers(job_id)  # the job may have ended before the chunk was stored
        except (AttemptSuperseded, WorkerStopping):
            return
        except AlphareelError as error:  # the job's own worker makes this chunk too, and reports the error
            get_logger(__name__).warning("chunk was not made", job_id=job_id, error=str(error))
        except Exception:  # noqa: BLE001
            get_logger(__name__).exception("chunk broke", job_id=job_id)

    @contextmanager
    def _job_log_context(self, job_id: str) -> Iterator[None]:
        """Add the job, request and upload to every line that is logged inside. Raises Unavailable."""
        job = self._jobs.job(job_id)
        with log_context(job_id=job_id, **({} if job is None else _log_fields(job))):
            yield

    def _make_chunk(self, job: Job, plan_hash: str, number: int) -> None:
        store = self._chunk_store(job, plan_hash)
        plan = store.plan()
        if plan is None or plan.version != __version__ or store.facts(number) is not None:
            return
        with LocalBlobs(self._blobs) as opened:
            folder = opened.enter_context(self._workspace(f"{job.id}.{job.attempt}.{number}"))
            check = CancellationCheck(self._jobs, job, self._stopping)
            task = self._tasks.run_task(job, self._tasks.source(job, opened), opened, folder, previews=None)

            def run(part: RunTask | JoinTask, tick: child_process.Tick) -> RunResult:
                return self._run(job, part, opened, tick, engine=plan.engine)

            make_chunk(task, plan, number, store, run=run, tick=check)

    def _chunk_store(self, job: Job, plan_hash: str) -> ChunkStore:
        """Each finished chunk is progress: only deaths after it count against the job. It counts as stored."""

        def add_chunk(size: int) -> None:
            with contextlib.suppress(Unavailable):
                self._jobs.add_chunk(job.id, ticket=job.ticket, size=size)

        suffixes = chunks.chunk_suffixes(requested_outputs(job, job.requested, Path()))
        return ChunkStore(self._blobs, job.id, plan_hash, suffixes=suffixes, on_stored=add_chunk)

    def drain(self) -> None:
        """Prepare for the engine to stop: finished work waits for nothing any more."""
        self._input_fetcher.drain()
        self._storage.drain()

    def abandon(self) -> None:
        self._stopping.set()
        self._input_fetcher.abandon()
        self._deliverer.abandon()
        for job in list(self._running.values()):
            with contextlib.suppress(Unavailable):
                self._jobs.release_attempt(job.id, attempt=job.attempt, actor=self._name, reason="the worker stopped")

    def _traced_attempt(self, job: Job, *, save_memory: bool) -> AttemptResult:
        with start_span("attempt", parent=job.traceparent, kind="consumer", job_id=job.id, attempt=job.attempt) as span:
            if span.is_recording() and job.tries == 1:
                queued_at = max(
                    e.at for e in self._jobs.events(job.id) if e.to_status is Status.PENDING is not e.from_status
                )
                wait = (job.progress_at or queued_at) - queued_at
                record_span("queue", began=queued_at, seconds=wait.total_seconds())
            outcome = self._attempt(job, save_memory=save_memory)
            if isinstance(outcome, AttemptFailed):
                set_span_error(span, outcome.error_code)
            return outcome

    def _attempt(self, job: Job, *, save_memory: bool) -> AttemptResult:
        self._running[job.id] = job
        try:
            return self._make_result(job, save_memory=save_memory)
        except AttemptSuperseded:
            return AttemptDropped()
        except WorkerStopping:
            block_until_exit()
        except Unavailable:
            raise  # the database's fault, not the job's: the engine tries again
        except AlphareelError as error:
            return _failure(job, error)
        except Exception as error:  # noqa: BLE001  # a bug must fail this job and no other
            get_logger(__name__).exception("attempt broke", attempt=job.attempt)
            return _failure(job, InternalError(f"Processing failed: {type(error).__name__}."))
        finally:
            del self._running[job.id]

    def _make_result(self, job: Job, *, save_memory: bool) -> AttemptCompleted:
        """``save_memory``: use one thread and few frames, because the attempt before ran out of memory."""
        max_deaths = self._settings.worker.max_deaths
        if job.tries > max_deaths:
            raise WorkerCrashed(f"Its worker died {max_deaths} times while it processed this job without any progress.")
        with LocalBlobs(self._blobs) as opened:
            folder = opened.enter_context(self._workspace(f"{job.id}.{job.attempt}"))
            previews = opened.enter_context(attempt_previews(self._blobs, job, folder / "previews"))
            reporter = ProgressReporter(self._jobs, job, self._stopping, previews)
            with start_span("obtain"):
                source = self._tasks.source(job, opened)
            if job.kind is Kind.PROOF:
                return self._prove(job, source, folder, reporter)
            if job.kind is Kind.ANALYSIS:
                return self._analyze(job, source, opened, folder, reporter)
            job = self._reserve_credits(job, source, reporter)
            task = self._tasks.run_task(job, source, opened, folder, previews=previews.folder)
            if save_memory:
                task = replace(task, threads=1, save_memory=True)
            # Before the run: a database that is away at its end must not cost it.
            source_blob = self._inputs.blob(job, SOURCE, source_urls.source(job.video_url))
            run = self._run_or_split(job, task, opened, reporter)
            with start_span("publish"):
                return self._publisher.store_run(job, task, run, source_blob)

    def _prove(self, job: Job, source: Path, folder: Path, reporter: ProgressReporter) -> AttemptCompleted:
        task = self._tasks.proof_task(job, source, folder)
        with self._slot(reporter):
            proof = child_process.run(task, self._resource_limits, tick=reporter, children=self._children)
        return self._publisher.store_proof(job, task, proof)

    def _analyze(
        self, job: Job, source: Path, opened: LocalBlobs, folder: Path, reporter: ProgressReporter
    ) -> AttemptCompleted:
        task = self._tasks.analyze_task(job, source, opened, folder)
        with self._slot(reporter):
            analysis = child_process.run(task, self._resource_limits, tick=reporter, children=self._children)
        return self._publisher.store_analysis(job, task, analysis)

    def _run_or_split(self, job: Job, task: RunTask, opened: LocalBlobs, reporter: ProgressReporter) -> RunResult:
        if not self._settings.worker.chunk_seconds or task.corrections or task.previous:
            return self._run(job, task, opened, reporter)
        only_plan = self._remote is not None and self._remote.are_wanted(task)
        with self._child_span() as record, nullcontext() if only_plan else self._slot(reporter):
            split = SplitTask(task, self._settings.worker.chunk_seconds, only_plan)
            outcome = child_process.run(split, self._resource_limits, tick=reporter, children=self._children)
            if isinstance(outcome, RunResult):
                record(outcome)
        if isinstance(outcome, RunResult):
            return outcome
        if not outcome.chunks:
            return self._run(job, task, opened, reporter)
        return self._make_chunks(job, task, outcome, opened, reporter)

    def _make_chunks(
        self, job: Job, task: RunTask, plan: Plan, opened: LocalBlobs, reporter: ProgressReporter
    ) -> RunResult:
        """Make the result of a long clip, reusing chunks that earlier attempts or other workers made.

        Falls back to a single pass when a chunk cannot be decoded: the whole clip may still have enough good frames.
        """
        began, limits = time.monotonic(), self._resource_limits

        def run(part: RunTask | JoinTask, tick: child_process.Tick) -> RunResult:
            """All children of a job share its time."""
            left = replace(limits, spent_seconds=time.monotonic() - began)
            engine = plan.engine if isinstance(part, RunTask) and part.chunk is not None else None
            return self._run(job, part, opened, tick, left, engine=engine)

        store = self._chunk_store(job, plan.plan_hash)
        if self._chunk_queue is not None:
            store.put_plan(plan, task.outputs[0].path.parent)
        try:
            with chunks.distributed(self._chunk_queue, job, plan):
                return make_chunks(task, plan, store, run=run, tick=reporter)
        except chunks.FALL_BACK_TO_SINGLE_PASS as error:
            get_logger(__name__).warning("made in one go, not in chunks", error=str(error))
            return run(task, reporter)

    def _run(
        self,
        job: Job,
        task: RunTask | JoinTask,
        opened: LocalBlobs,
        tick: child_process.Tick,
        limits: ResourceLimits | None = None,
        *,
        engine: EngineFacts | None = None,
    ) -> RunResult:
        """Run the task here or on a runner. ``engine``: what must make it, where that is known."""
        allowed = limits or self._resource_limits

        def run_here(task: RunTask | JoinTask) -> RunResult:
            return child_process.run(task, allowed, tick=tick, children=self._children)

        with self._child_span() as record:
            if self._remote is None or isinstance(task, JoinTask):
                with self._slot(tick):
                    run = run_here(task)
            else:
                run = self._remote.run(job, task, opened.keys, allowed, tick, run_here=run_here, engine=engine)
            record(run)
            return run

    def _slot(self, tick: child_process.Tick) -> AbstractContextManager[None]:
        """What this machine may do at a time; without runners the engine sees to that."""
        return nullcontext() if self._remote is None else self._remote.slot(tick)

    @contextmanager
    def _child_span(self) -> Iterator[Callable[[RunResult], None]]:
        """Trace a child process. The child cannot send spans itself, so its result says how long each stage worked."""
        with start_span("child") as span:
            began = datetime.now(UTC)

            def record(run: RunResult) -> None:
                if run.stages:
                    span.set_attributes(
                        span_attributes(frames=run.results[0].frames, engine=run.results[0].engine.name)
                    )
                    for stage, seconds in run.stages.items():
                        record_span(stage, began=began, seconds=seconds)

            yield record

    @contextmanager
    def _workspace(self, name: str) -> Iterator[Path]:
        """Raises StorageFailed."""
        with ExitStack() as opened:
            path = self._settings.storage.work / f"{self._owner}.{name}".removeprefix(".")
            try:
                folder = opened.enter_context(self._children.workspace(path))
            except OSError as error:
                raise StorageFailed(
                    f"The work folder cannot be written: {error.strerror or error}.",
                    hint="Check its free space and permissions.",
                ) from error
            yield folder

    def _reserve_credits(self, job: Job, source: Path, reporter: ProgressReporter) -> Job:
        """Reserve credits when the length of the clip was unknown at the start; returns the job as it is then.

        Raises InsufficientCredits.
        """
        if job.price is None or job.billing_status is not Billing.NOT_BILLED:
            return job
        length = child_process.run(
            self._tasks.inspect_task(source), self._resource_limits, tick=reporter, children=self._children
        ).seconds
        seconds = billed_seconds(job.options, length)
        max_seconds = billed_seconds(job.options, self._settings.limits.max_seconds or None)
        if not self._jobs.reserve_credits(job.id, attempt=job.attempt, seconds=seconds, most=max_seconds):
            raise AttemptSuperseded
        current = self._jobs.job(job.id)
        if current is None:
            raise AttemptSuperseded
        return replace(job, billing_status=current.billing_status, credits=current.credits)


def _log_fields(job: Job) -> dict[str, str | None]:
    return {"request_id": job.request_id, "video_id": signed_urls.upload_id(job.video_url)}


def _failure(job: Job, error: AlphareelError) -> AttemptFailed:
    return AttemptFailed(
        attempt=job.attempt,
        error=str(error),
        error_code=error.code,
        retryable=error.retryable,
        was_killed=isinstance(error, child_process.Killed),
        stalled=isinstance(error, child_process.Stalled),
    )
