"""The first step of a job whose files lie elsewhere: they are fetched into our store, while other jobs run.

It has a queue of its own and takes no place of a running job (docs/decisions/0026-fetch-queue.md).
"""

import contextlib
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from alphareel import observe, traces
from alphareel.domain.errors import AlphareelError, InternalError, Unavailable, WorkerCrashed
from alphareel.jobs.inputs import SOURCE, Inputs
from alphareel.jobs.job import TERMINAL, Job
from alphareel.jobs.leftovers import Leftovers, workspace
from alphareel.jobs.ports import Fetcher, JobStore
from alphareel.jobs.reporter import Overtaken, Stopping, Watch, park

_LOOK_SECONDS = 0.5

Examine = Callable[[Path, Callable[[], None]], None]
"""Looks into a fetched file, in a process of its own. Raises BadVideo where that alone takes too long.

It calls what it is given at least twice a second, which may raise to end it.
"""


@dataclass(frozen=True)
class FetchingRules:
    """``workspace``, ``owner``, ``max_tries`` and ``max_deaths`` as in WorkRules."""

    workspace: Path
    owner: str
    max_bytes: int
    max_tries: int
    max_deaths: int
    retry_seconds: float


class Fetching:
    """``stopping``: the worker stops, and what is not done is left to another."""

    def __init__(
        self,
        name: str,
        *,
        jobs: JobStore,
        inputs: Inputs,
        fetcher: Fetcher,
        examine: Examine,
        rules: FetchingRules,
        stopping: threading.Event,
    ) -> None:
        self._name = name
        self._jobs = jobs
        self._inputs = inputs
        self._leftovers = Leftovers(jobs, inputs.blobs)
        self._fetcher = fetcher
        self._examine = examine
        self._rules = rules
        self._stopping = stopping
        self._winding_down = threading.Event()
        self._running: dict[str, Job] = {}

    def hand_over(self, job_id: str, ticket: int) -> bool:
        """Leave a job whose files are not here yet to the fetch queue; False when it needs nothing fetched."""
        job = self._jobs.job(job_id)
        if job is None or job.status in TERMINAL or job.ticket != ticket or not self._is_incomplete(job):
            return False
        return self._jobs.queue_fetch(job_id, ticket=ticket, actor=self._name)

    def fetch(self, job_id: str, ticket: int) -> None:
        """Fetch what is missing and queue the job to be run, or fail it. Raises Unavailable only."""
        with observe.bound(job_id=job_id):
            while True:
                if self._stopping.is_set():
                    park()
                job = self._jobs.begin_fetch(job_id, ticket=ticket, actor=self._name)
                if job is None:  # it ended, or was fetched already
                    self._leftovers.clear_up(job_id)
                    return
                error = self._traced_try(job)
                if error is None:
                    self._wait_for_start(job)
                    return
                if not error.retryable or job.tries >= self._rules.max_tries:
                    self._fail(job, error)
                    return
                observe.log(__name__).warning("fetch failed", error=str(error))
                self._stopping.wait(self._rules.retry_seconds * 2 ** (job.tries - 1))

    def wind_down(self) -> None:
        """Fetches that are done need not wait for their jobs to start."""
        self._winding_down.set()

    def abandon(self) -> None:
        """The worker stops: what it leaves does not count as a try."""
        for job in list(self._running.values()):
            with contextlib.suppress(Unavailable):
                self._jobs.leave_fetch(job.id, ticket=job.ticket)

    def _is_incomplete(self, job: Job) -> bool:
        try:
            return bool(self._inputs.missing(job))
        except AlphareelError:  # the attempt meets the same error, and reports it
            return False

    def _traced_try(self, job: Job) -> AlphareelError | None:
        with traces.span("fetch", parent=job.traceparent, kind="consumer", job_id=job.id) as span:
            error = self._try(job)
            if span is not None and error is not None:
                span.fail(error.code)
            return error

    def _try(self, job: Job) -> AlphareelError | None:
        """Why it failed; None when the job was handed on, by us or by somebody else."""
        self._running[job.id] = job
        try:
            if job.tries > self._rules.max_deaths:
                return WorkerCrashed(
                    f"Its worker died {self._rules.max_deaths} times while it fetched the job's files."
                )
            self._fetch_missing(job)
            self._hand_on(job)
        except Overtaken:
            self._leftovers.clear_up(job.id)
        except Stopping:
            park()
        except Unavailable:
            raise
        except AlphareelError as error:
            return error
        except Exception as error:  # noqa: BLE001  # a fault of ours fails this job and no other
            observe.log(__name__).exception("fetch broke")
            return InternalError(f"Fetching failed: {type(error).__name__}.")
        finally:
            del self._running[job.id]
        return None

    def _hand_on(self, job: Job) -> None:
        if not self._jobs.queue_fetched(job.id, ticket=job.ticket, actor=self._name):
            raise Overtaken

    def _fetch_missing(self, job: Job) -> None:
        watch = Watch(self._jobs, job, self._stopping)

        def tick() -> None:
            watch(None)

        with workspace(
            self._rules.workspace / f"{self._rules.owner}.{job.id}.fetch.{uuid.uuid4().hex[:8]}".removeprefix(".")
        ) as folder:
            for name, wanted in self._inputs.missing(job).items():
                path = self._fetcher.fetch(wanted.url, folder / name, max_bytes=self._rules.max_bytes, tick=tick).path
                if name == SOURCE:
                    self._examine(path, tick)
                self._inputs.keep(job, name, path)

    def _fail(self, job: Job, error: AlphareelError) -> None:
        told = {"error": str(error), "error_code": error.code}
        self._jobs.fail(job.id, attempt=job.attempt, ticket=job.ticket, actor=self._name, **told)
        self._leftovers.clear_up(job.id)

    def _wait_for_start(self, job: Job) -> None:
        """Keep the place in the queue until the job starts, which bounds how many files wait in the store."""
        while not self._winding_down.wait(_LOOK_SECONDS):
            with contextlib.suppress(Unavailable):
                found = self._jobs.job(job.id)
                if found is None or found.status in TERMINAL or found.attempt != job.attempt:
                    return


def examine_nothing(path: Path, tick: Callable[[], None]) -> None:
    """For sources that need no look."""
