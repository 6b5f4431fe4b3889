"""Finds dead workers and lost jobs, and queues the jobs again. Every worker process runs one reconciler."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from alphareel.service.jobs.models import Job, Status
from alphareel.service.periodic import PeriodicTask
from alphareel.service.ports import Clock, JobEngine
from alphareel.service.worker.heartbeat import HeartbeatMonitor
from alphareel.telemetry.logging import get_logger

if TYPE_CHECKING:
    from alphareel.db.jobs import JobStore
    from alphareel.db.workers import ExecutorStore


@dataclass(frozen=True)
class ReconcilerConfig:
    """Times in seconds."""

    #: Between two checks for dead executors.
    reap: float = 5.0
    #: Between two checks of all unfinished jobs.
    reconcile: float = 60.0
    #: An executor whose heartbeat counter stops for so long is dead.
    dead: float = 30.0
    #: A running job without a sign of life for so long is stuck.
    stuck: float = 3600.0
    #: Tries of a job before it is given up.
    max_deaths: int = 6
    #: How long the engine keeps records of finished executions.
    history: timedelta = timedelta(days=1)


class Reconciler:
    """``executor_id``: this process, which never declares itself dead."""

    def __init__(
        self,
        executor_id: str,
        *,
        jobs: JobStore,
        executors: ExecutorStore,
        engine: JobEngine,
        clock: Clock,
        config: ReconcilerConfig,
    ) -> None:
        self._executor_id = executor_id
        self._jobs = jobs
        self._executors = executors
        self._engine = engine
        self._clock = clock
        self._config = config
        self._heartbeats = HeartbeatMonitor()
        self._signs_of_life: dict[str, tuple[object, float]] = {}
        self.reap_task = PeriodicTask("reap", self.reap, seconds=config.reap, on_outage=self.reset)
        self.reconcile_task = PeriodicTask(
            "reconcile", self.reconcile, seconds=config.reconcile, run_at_start=False, on_outage=self.reset
        )

    def start(self) -> None:
        """The engine must be launched."""
        self.reap_task.start()
        self.reconcile_task.start()

    def drain(self) -> None:
        """Begin no other check: the engine of this process is about to stop."""
        self.reap_task.drain()
        self.reconcile_task.drain()

    def stop(self) -> None:
        self.reap_task.stop()
        self.reconcile_task.stop()

    def reap(self) -> None:
        """Declare silent executors dead, then give their jobs back to the queue. This order fences them first."""
        for executor_id, beat in self._silent_executors():
            if self._executors.remove_executor(executor_id, beat=beat):
                get_logger(__name__).warning("executor declared dead", executor=executor_id)
        if recovered := self._engine.recover(self._living):
            get_logger(__name__).warning("jobs of dead executors queued again", executors=recovered)

    def reconcile(self) -> None:
        """Queue again every unfinished job that the engine lost, and evict the worker of every stuck job."""
        unfinished = self._jobs.unfinished()
        stuck = self._stuck(unfinished)
        pending = self._engine.pending([(job.id, job.ticket) for job in unfinished])
        for job in unfinished:
            if (job.id, job.ticket) not in pending:
                self._requeue_lost(job)
            elif job.id in stuck:
                self._evict_holder(job)
        self._jobs.admit_waiting()
        self._engine.forget(before=self._clock.now() - self._config.history)

    def reset(self) -> None:
        """Start over after an outage of the database, in which no executor could send a heartbeat."""
        self._heartbeats.reset()
        self._signs_of_life = {}

    def _living(self) -> set[str]:
        return {executor.id for executor in self._executors.executors()}

    def _silent_executors(self) -> list[tuple[str, int]]:
        others = [executor for executor in self._executors.executors() if executor.id != self._executor_id]
        now = time.monotonic()
        self._heartbeats.update(others, now=now)
        return self._heartbeats.silent(longer_than=self._config.dead, now=now)

    def _stuck(self, unfinished: Iterable[Job]) -> set[str]:
        """Running jobs without progress for too long, by the monotonic clock."""
        now = time.monotonic()
        signs = {job.id: (job.attempt, job.progress_at) for job in unfinished if job.status is Status.PROCESSING}
        seen = self._signs_of_life
        self._signs_of_life = {
            name: seen[name] if seen.get(name, (None,))[0] == sign else (sign, now) for name, sign in signs.items()
        }
        return {name for name, (_, since) in self._signs_of_life.items() if now - since > self._config.stuck}

    def _requeue_lost(self, job: Job) -> None:
        """Queue a lost job again, or fail it after too many tries."""
        actor = self._executor_id
        if job.tries < self._config.max_deaths:
            self._jobs.requeue(job.id, ticket=job.ticket, actor=actor, reason="the engine lost it")
            return
        error = f"The job was given up after {job.tries} tries that ended without a result. Start it again to retry."
        # with its attempt, so that a job that another worker started meanwhile is left alone
        self._jobs.fail(job.id, attempt=job.attempt, error=error, error_code="worker_crashed", actor=actor)

    def _evict_holder(self, job: Job) -> None:
        """Declare the job's worker dead: it exits at its next heartbeat, and its jobs go back to the queue."""
        holder = self._engine.holder(job.id, job.ticket)
        if holder is not None and self._executors.remove_executor(holder):
            get_logger(__name__).warning("executor of a stuck job declared dead", executor=holder, job_id=job.id)
