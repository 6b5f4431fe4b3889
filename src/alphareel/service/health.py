"""Health of the database, the storage and the workers, checked by threads so that a request never waits for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alphareel.domain.errors import AlphareelError, Unavailable
from alphareel.service.periodic import PeriodicTask
from alphareel.service.ports import Blobs
from alphareel.service.worker.heartbeat import HeartbeatMonitor
from alphareel.telemetry.logging import get_logger

if TYPE_CHECKING:
    from alphareel.db.jobs import JobStore
    from alphareel.db.workers import ExecutorStore

SILENT_SECONDS = 8.0
"""A worker without a heartbeat for so long does not count; it sends one every two seconds."""

_DATABASE_SECONDS = 1.0
_STORAGE_SECONDS = 5.0
_LATE_SECONDS = 5.0


@dataclass(frozen=True)
class Health:
    database: bool
    storage: bool
    #: At least one worker process sends heartbeats.
    worker: bool
    #: The disks have room for uploads.
    space: bool = True
    #: Why the database takes no writes although it answers.
    write_error: Unavailable | None = None


@dataclass
class _Check:
    """One question and its newest answer."""

    name: str
    ask: Callable[[], bool]
    #: Seconds between two questions.
    pause: float
    is_ok: bool | None = None
    #: When a question began that has no answer yet.
    asked_at: float | None = None

    def answer(self) -> bool:
        """False also while a check is overdue: a dependency that hangs is not healthy."""
        asked_at = self.asked_at
        return bool(self.is_ok) and (asked_at is None or time.monotonic() - asked_at < _LATE_SECONDS)

    def run(self) -> None:
        self.asked_at = time.monotonic()
        try:
            is_ok = self.ask()
        except AlphareelError:
            is_ok = False
        except Exception:  # noqa: BLE001  # a bug in one check must not hide the others
            get_logger(__name__).exception("health check failed", check=self.name)
            is_ok = False
        if is_ok != self.is_ok and (self.is_ok is not None or not is_ok):
            log = get_logger(__name__).info if is_ok else get_logger(__name__).error
            log("health changed", check=self.name, well=is_ok)
        self.is_ok, self.asked_at = is_ok, None


class HealthMonitor:
    """Checks every few seconds once it is started; without that, whenever it is asked."""

    def __init__(
        self, *, jobs: JobStore, executors: ExecutorStore, blobs: Blobs, has_space: Callable[[], bool] = lambda: True
    ) -> None:
        self._jobs = jobs
        self._executors = executors
        self._heartbeats = HeartbeatMonitor()
        self._database = _Check("database", self._check_database, _DATABASE_SECONDS)
        self._storage = _Check("storage", blobs.is_ready, _STORAGE_SECONDS)
        self._space = _Check("space", has_space, _STORAGE_SECONDS)
        self._tasks: list[PeriodicTask] = []

    def start(self) -> None:
        """Start a thread for each check, so that one that hangs delays no other."""
        for check in self._checks():
            self._tasks.append(PeriodicTask(f"health-{check.name}", check.run, seconds=check.pause))
            self._tasks[-1].start()

    def stop(self) -> None:
        """Stop the threads; one that hangs ends with the process."""
        for task in self._tasks:
            task.drain()
        for task in self._tasks:
            task.stop(timeout=_LATE_SECONDS)

    def check(self) -> Health:
        self._run_unless_started()
        write_error = self._jobs.write_error  # of requests too, which notice before the next check
        database = self._database.answer() and write_error is None
        worker = database and self.count_alive() > 0
        return Health(database, self._storage.answer(), worker, self._space.answer(), write_error)

    def count_alive(self) -> int:
        """Worker processes that send heartbeats, on any machine."""
        return self._heartbeats.count_alive(within=SILENT_SECONDS, now=time.monotonic())

    def workers(self) -> int:
        """The same, checked now unless a thread does."""
        self._run_unless_started()
        return self.count_alive()

    def _checks(self) -> tuple[_Check, ...]:
        return self._database, self._storage, self._space

    def _run_unless_started(self) -> None:
        if not self._tasks:
            for check in self._checks():
                check.run()

    def _check_database(self) -> bool:
        began = time.monotonic()
        try:
            is_current = self._jobs.is_ready()
            executors = self._executors.executors()
        except AlphareelError:
            self._heartbeats.reset()
            raise
        if time.monotonic() - began > _LATE_SECONDS:
            self._heartbeats.reset()
        self._heartbeats.update(executors, now=time.monotonic())
        return is_current
