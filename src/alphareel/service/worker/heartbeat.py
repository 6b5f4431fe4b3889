"""Heartbeats of worker processes: sending them, and telling which processes still send them.

A heartbeat moves a counter in the database. Liveness is judged by the counters and the monotonic clock of the
observer alone; clocks of different machines are never compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from alphareel.service.periodic import PeriodicTask
from alphareel.service.worker.models import Executor

if TYPE_CHECKING:
    from alphareel.db.workers import ExecutorStore


class Heartbeat:
    """Sends the heartbeats of this worker process, in a thread of its own so that nothing delays them.

    ``on_evicted`` is called when another process declared this executor dead; ``on_outage`` after a heartbeat that
    the database did not take at once.
    """

    def __init__(
        self,
        executor_id: str,
        executors: ExecutorStore,
        *,
        on_evicted: Callable[[], None],
        on_outage: Callable[[], None] = lambda: None,
        seconds: float = 2.0,
    ) -> None:
        self._executor_id = executor_id
        self._executors = executors
        self._on_evicted = on_evicted
        self._task = PeriodicTask("heartbeat", self.beat, seconds=seconds, on_outage=on_outage)

    def start(self) -> None:
        """The executor must be on record."""
        self._task.start()

    def stop(self) -> None:
        self._task.stop()

    def beat(self) -> None:
        """Raises Unavailable."""
        if not self._executors.beat(self._executor_id):
            self._on_evicted()


class HeartbeatMonitor:
    """What was seen of each executor's counter. ``now`` is always a reading of ``time.monotonic``."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}

    def update(self, executors: Iterable[Executor], *, now: float) -> None:
        """Record the counters of all executors."""
        counters = self._seen
        self._seen = {
            executor.id: counters[executor.id]
            if counters.get(executor.id, (None,))[0] == executor.beat
            else (executor.beat, now)
            for executor in executors
        }

    def reset(self) -> None:
        """Start over after an outage: the database took no heartbeats either, so the time until now proves nothing."""
        self._seen = {}

    def silent(self, *, longer_than: float, now: float) -> list[tuple[str, int]]:
        """Executors whose counter has not moved for this many seconds, with its value."""
        return [(name, beat) for name, (beat, since) in self._seen.items() if now - since > longer_than]

    def count_alive(self, *, within: float, now: float) -> int:
        """How many executors moved their counter, or started, in the last ``within`` seconds."""
        return len(self._seen) - len(self.silent(longer_than=within, now=now))
