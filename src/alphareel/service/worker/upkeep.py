"""What a worker process does beside its jobs: prove that it lives, notice who does not, mend what disagrees."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from alphareel.domain.errors import Unavailable
from alphareel.service.jobs.models import Job, Status
from alphareel.service.ports import Clock, JobEngine
from alphareel.service.worker.heartbeats import Heartbeats
from alphareel.telemetry.logging import get_logger

if TYPE_CHECKING:
    from alphareel.db.jobs import JobStore
    from alphareel.db.workers import ExecutorStore

_LATE_SECONDS = 10.0  # a task that took so long waited for the database


@dataclass(frozen=True)
class UpkeepSettings:
    """Seconds. ``beat``: between two signs of our own life; ``look``: between two looks at others.

    ``dead``: how long a counter may stand still; ``stuck``: how long a running job may show no life.
    """

    beat: float = 2.0
    look: float = 5.0
    dead: float = 30.0
    reconcile: float = 60.0
    stuck: float = 3600.0
    max_deaths: int = 6
    forget: timedelta = timedelta(days=1)


class Upkeep:
    """Two threads of every worker process, so that no look at others delays a beat.

    ``on_evicted`` is called when somebody else declared this executor dead.
    """

    def __init__(
        self,
        executor_id: str,
        *,
        jobs: JobStore,
        executors: ExecutorStore,
        engine: JobEngine,
        clock: Clock,
        rules: UpkeepSettings,
        on_evicted: Callable[[], None],
    ) -> None:
        self._me = executor_id
        self._jobs = jobs
        self._executors = executors
        self._engine = engine
        self._clock = clock
        self._rules = rules
        self._exit_evicted = on_evicted
        self._beats = Heartbeats()
        self._signs: dict[str, tuple[object, float]] = {}
        self._draining = False
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._beat_on, name="heartbeat", daemon=True),
            threading.Thread(target=self._run, name="upkeep", daemon=True),
        ]

    def start(self) -> None:
        """The executor must be on record, and the engine launched."""
        for thread in self._threads:
            thread.start()

    def drain(self) -> None:
        """From now on only prove that this executor lives: its engine is about to stop."""
        self._draining = True

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def beat(self) -> None:
        if not self._executors.beat(self._me):
            self._exit_evicted()

    def reap(self) -> None:
        """Declare dead whose counter stands still, then take back what the dead hold; the order fences them first."""
        for executor_id, beat in self._overdue():
            if self._executors.remove_executor(executor_id, beat=beat):
                get_logger(__name__).warning("executor declared dead", executor=executor_id)
        if recovered := self._engine.recover(self._living):
            get_logger(__name__).warning("jobs of dead executors queued again", executors=recovered)

    def reconcile(self) -> None:
        """Mend every unfinished job that the engine lost, or that is held by a worker without a sign of life."""
        unfinished = self._jobs.unfinished()
        stuck = self._stuck(unfinished)
        pending = self._engine.pending([(job.id, job.ticket) for job in unfinished])
        for job in unfinished:
            if (job.id, job.ticket) not in pending:
                self._requeue_lost(job)
            elif job.id in stuck:
                self._release(job)
        self._jobs.admit_waiting()
        self._engine.forget(before=self._clock.now() - self._rules.forget)

    def _living(self) -> set[str]:
        return {executor.id for executor in self._executors.executors()}

    def _overdue(self) -> list[tuple[str, int]]:
        """Executors whose counter has stood still for too long by our own clock; nobody's clocks are compared."""
        others = [executor for executor in self._executors.executors() if executor.id != self._me]
        now = time.monotonic()
        self._beats.note(others, now=now)
        return self._beats.silent(longer_than=self._rules.dead, now=now)

    def _stuck(self, unfinished: Iterable[Job]) -> set[str]:
        """Running jobs whose last sign of life is the same for too long by our own stopwatch: a clock may be set."""
        now = time.monotonic()
        signs = {job.id: (job.attempt, job.progress_at) for job in unfinished if job.status is Status.PROCESSING}
        self._signs = {
            name: self._signs[name] if self._signs.get(name, (None,))[0] == sign else (sign, now)
            for name, sign in signs.items()
        }
        return {name for name, (_, since) in self._signs.items() if now - since > self._rules.stuck}

    def _requeue_lost(self, job: Job) -> None:
        """Queue a lost job again, or fail it when that was tried often enough."""
        if job.tries < self._rules.max_deaths:
            self._jobs.requeue(job.id, ticket=job.ticket, actor=self._me, reason="the engine lost it")
            return
        error = f"The job was given up after {job.tries} tries that ended without a result. Start it again to retry."
        # named by its attempt, so that a job that another worker took meanwhile is left alone
        self._jobs.fail(job.id, attempt=job.attempt, error=error, error_code="worker_crashed", actor=self._me)

    def _release(self, job: Job) -> None:
        """Declare the holder dead: it exits at its next beat, and what it held goes back to the queue."""
        holder = self._engine.holder(job.id, job.ticket)
        if holder is not None and self._executors.remove_executor(holder):
            get_logger(__name__).warning("executor of a stuck job declared dead", executor=holder, job_id=job.id)

    def _forget(self) -> None:
        """While the database hung nobody could tell it that he lives, so that time counts against no one."""
        self._beats.forget()
        self._signs = {}

    def _beat_on(self) -> None:
        while not self._stopping.is_set():
            self._attempt(self.beat)
            self._stopping.wait(self._rules.beat)

    def _run(self) -> None:
        reconciled = time.monotonic()
        while not self._stopping.is_set():
            if not self._draining:
                self._attempt(self.reap)
                if time.monotonic() - reconciled >= self._rules.reconcile:
                    reconciled = time.monotonic()
                    self._attempt(self.reconcile)
            self._stopping.wait(self._rules.look)

    def _attempt(self, task: Callable[[], None]) -> None:
        began = time.monotonic()
        try:
            task()
            if time.monotonic() - began > _LATE_SECONDS:
                self._forget()
        except Unavailable:
            self._forget()
            get_logger(__name__).warning("upkeep waits for the database", task=task.__name__)
        except Exception:  # noqa: BLE001  # the next round tries again; without this thread nobody would
            get_logger(__name__).exception("upkeep failed", task=task.__name__)
