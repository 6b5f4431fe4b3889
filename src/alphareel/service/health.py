"""How the service is: database, storage and workers, watched by threads, so that asking never waits for any of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alphareel.domain.errors import AlphareelError
from alphareel.service.ports import Blobs
from alphareel.service.worker.heartbeats import Heartbeats
from alphareel.telemetry.logging import get_logger

if TYPE_CHECKING:
    from alphareel.db.jobs import JobStore
    from alphareel.db.workers import ExecutorStore

SILENT_SECONDS = 8.0
"""A worker that did not beat for so long does not count; it beats every two seconds."""

_DATABASE_SECONDS = 1.0
_STORAGE_SECONDS = 5.0
_LATE_SECONDS = 5.0


@dataclass(frozen=True)
class Health:
    """``worker``: at least one worker process sends heartbeats; ``space``: the disks have room for uploads."""

    database: bool
    storage: bool
    worker: bool
    space: bool = True


@dataclass
class _Check:
    """One question and its newest answer. ``asked``: when a question began that has no answer yet."""

    name: str
    ask: Callable[[], bool]
    pause: float
    well: bool | None = None
    asked: float | None = None

    def answer(self) -> bool:
        """False also while the answer is overdue: what hangs is not well."""
        asked = self.asked
        return bool(self.well) and (asked is None or time.monotonic() - asked < _LATE_SECONDS)

    def look(self) -> None:
        self.asked = time.monotonic()
        try:
            well = self.ask()
        except AlphareelError:
            well = False
        except Exception:  # noqa: BLE001  # without this thread nobody would look again
            get_logger(__name__).exception("health check failed", check=self.name)
            well = False
        if well != self.well and (self.well is not None or not well):
            tell = get_logger(__name__).info if well else get_logger(__name__).error
            tell("health changed", check=self.name, well=well)
        self.well, self.asked = well, None


class HealthMonitor:
    """Looks every few seconds once it was started; without that, whenever it is asked."""

    def __init__(
        self, *, jobs: JobStore, executors: ExecutorStore, blobs: Blobs, has_space: Callable[[], bool] = lambda: True
    ) -> None:
        self._jobs = jobs
        self._executors = executors
        self._beats = Heartbeats()
        self._database = _Check("database", self._look_at_database, _DATABASE_SECONDS)
        self._storage = _Check("storage", blobs.is_ready, _STORAGE_SECONDS)
        self._space = _Check("space", has_space, _STORAGE_SECONDS)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        for check in (self._database, self._storage, self._space):
            thread = threading.Thread(target=self._run, args=(check,), name=f"health-{check.name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Begin no other look; one that hangs ends with the process."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=_LATE_SECONDS)

    def check(self) -> Health:
        self._look_unless_started()
        database = self._database.answer()
        worker = database and self.beating() > 0
        return Health(database, self._storage.answer(), worker, self._space.answer())

    def beating(self) -> int:
        """Worker processes that beat, whichever machine they run on."""
        return self._beats.beating(within=SILENT_SECONDS, now=time.monotonic())

    def workers(self) -> int:
        """The same, looked up now unless a thread does."""
        self._look_unless_started()
        return self.beating()

    def _look_unless_started(self) -> None:
        if not self._threads:
            self._database.look()
            self._storage.look()
            self._space.look()

    def _look_at_database(self) -> bool:
        began = time.monotonic()
        try:
            current = self._jobs.is_ready()
            executors = self._executors.executors()
        except AlphareelError:
            self._beats.forget()
            raise
        if time.monotonic() - began > _LATE_SECONDS:
            self._beats.forget()
        self._beats.note(executors, now=time.monotonic())
        return current

    def _run(self, check: _Check) -> None:
        while not self._stopping.is_set():
            check.look()
            self._stopping.wait(check.pause)
