"""Fetches the input files of a job from URLs into the store, while other jobs run.

This step has its own queue and uses no slot of a running job (docs/decisions/0026-fetch-queue.md).
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from alphareel.domain.errors import AlphareelError, InternalError, Unavailable, WorkerCrashed
from alphareel.service.jobs.models import TERMINAL, Job
from alphareel.service.ports import Fetcher
from alphareel.service.settings import Settings
from alphareel.service.worker.cleanup import JobCleanup, workspace
from alphareel.service.worker.inputs import SOURCE, Inputs
from alphareel.service.worker.progress import AttemptSuperseded, CancellationCheck, WorkerStopping, block_until_exit
from alphareel.service.worker.storage_pause import StoragePause
from alphareel.telemetry.logging import get_logger, log_context
from alphareel.telemetry.tracing import set_span_error, start_span

if TYPE_CHECKING:
    from alphareel.db.jobs import JobStore

_POLL_SECONDS = 0.5

InspectFetched = Callable[[Path, Callable[[], None]], None]
"""Inspects a fetched file in a child process. Raises BadVideo when the inspection takes too long.

Calls its second argument at least twice a second; that may raise to end the inspection.
"""


class InputFetcher:
    """``owner`` as in Worker. ``stopping`` is set when the worker stops; other workers then do unfinished fetches."""

    def __init__(
        self,
        name: str,
        *,
        jobs: JobStore,
        inputs: Inputs,
        fetcher: Fetcher,
        inspect_fetched: InspectFetched,
        settings: Settings,
        owner: str,
        stopping: threading.Event,
        storage: StoragePause,
    ) -> None:
        self._name = name
        self._jobs = jobs
        self._inputs = inputs
        self._cleanup = JobCleanup(jobs, inputs.blobs)
        self._fetcher = fetcher
        self._inspect_fetched = inspect_fetched
        self._settings = settings
        self._owner = owner
        self._stopping = stopping
        self._storage = storage
        self._draining = threading.Event()
        self._running: dict[str, Job] = {}

    def move_to_fetch_queue(self, job_id: str, ticket: int) -> bool:
        """Move a job whose files must be fetched first to the fetch queue; False when nothing is missing."""
        job = self._jobs.job(job_id)
        if job is None or job.status in TERMINAL or job.ticket != ticket or not self._is_incomplete(job):
            return False
        return self._jobs.queue_fetch(job_id, ticket=ticket, actor=self._name)

    def fetch(self, job_id: str, ticket: int) -> None:
        """Fetch the missing files and queue the job to be run, or fail it; queue it again where nothing can be stored.

        Raises Unavailable only.
        """
        with log_context(job_id=job_id):
            while True:
                if self._stopping.is_set():
                    block_until_exit()
                job = self._jobs.begin_fetch(job_id, ticket=ticket, actor=self._name)
                if job is None:  # it has ended, or was fetched already
                    self._cleanup.remove_leftovers(job_id)
                    return
                error = self._traced_try(job)
                if error is None:
                    self._wait_for_start(job)
                    return
                if self._storage.is_to_blame(error.code):
                    reason = "its files cannot be stored"
                    self._jobs.requeue(job.id, ticket=job.ticket, actor=self._name, reason=reason, counts=False)
                    self._storage.wait()
                    return
                if not error.retryable or job.tries >= self._settings.worker.max_tries:
                    self._fail(job, error)
                    return
                get_logger(__name__).warning("fetch failed", error=str(error))
                self._stopping.wait(self._settings.worker.retry_seconds * 2 ** (job.tries - 1))

    def drain(self) -> None:
        """Stop letting finished fetches wait for their jobs to start."""
        self._draining.set()

    def abandon(self) -> None:
        """Release the running fetches, which then do not count as tries."""
        for job in list(self._running.values()):
            with contextlib.suppress(Unavailable):
                self._jobs.uncount_try(job.id, ticket=job.ticket)

    def _is_incomplete(self, job: Job) -> bool:
        try:
            return bool(self._inputs.missing(job))
        except AlphareelError:  # the attempt meets the same error, and reports it
            return False

    def _traced_try(self, job: Job) -> AlphareelError | None:
        with start_span("fetch", parent=job.traceparent, kind="consumer", job_id=job.id) as span:
            error = self._try(job)
            if error is not None:
                set_span_error(span, error.code)
            return error

    def _try(self, job: Job) -> AlphareelError | None:
        """The error; None when the job is queued to be run, or another worker has it."""
        self._running[job.id] = job
        try:
            if job.tries > self._settings.worker.max_deaths:
                return WorkerCrashed(
                    f"Its worker died {self._settings.worker.max_deaths} times while it fetched the job's files."
                )
            self._fetch_missing(job)
            self._queue_run(job)
        except AttemptSuperseded:
            self._cleanup.remove_leftovers(job.id)
        except WorkerStopping:
            block_until_exit()
        except Unavailable:
            raise
        except AlphareelError as error:
            return error
        except Exception as error:  # noqa: BLE001  # a bug must fail this job and no other
            get_logger(__name__).exception("fetch broke")
            return InternalError(f"Fetching failed: {type(error).__name__}.")
        finally:
            del self._running[job.id]
        return None

    def _queue_run(self, job: Job) -> None:
        if not self._jobs.queue_fetched(job.id, ticket=job.ticket, actor=self._name):
            raise AttemptSuperseded

    def _fetch_missing(self, job: Job) -> None:
        check = CancellationCheck(self._jobs, job, self._stopping)

        def tick() -> None:
            check(None)

        with workspace(
            self._settings.storage.work / f"{self._owner}.{job.id}.fetch.{uuid.uuid4().hex[:8]}".removeprefix(".")
        ) as folder:
            for name, url in self._inputs.missing(job).items():
                path, max_bytes = folder / name, self._settings.limits.max_upload_bytes
                if not self._inputs.copy_linked(url, path, max_bytes=max_bytes, tick=tick):
                    path = self._fetcher.fetch(url.url, path, max_bytes=max_bytes, tick=tick).path
                if name == SOURCE:
                    self._inspect_fetched(path, tick)
                self._inputs.store(job, name, path)

    def _fail(self, job: Job, error: AlphareelError) -> None:
        self._jobs.fail(
            job.id,
            attempt=job.attempt,
            ticket=job.ticket,
            actor=self._name,
            error=str(error),
            error_code=error.code,
        )
        self._cleanup.remove_leftovers(job.id)

    def _wait_for_start(self, job: Job) -> None:
        """Hold the slot until the job starts, which bounds how many fetched files wait in the store."""
        while not self._draining.wait(_POLL_SECONDS):
            with contextlib.suppress(Unavailable):
                current = self._jobs.job(job.id)
                if current is None or current.status in TERMINAL or current.attempt != job.attempt:
                    return


def skip_inspection(path: Path, tick: Callable[[], None]) -> None:
    """Accepts every file."""
