"""Which worker processes still beat, judged by counters and our own stopwatch alone: nobody's clocks are compared."""

from collections.abc import Iterable

from alphareel.service.worker.models import Executor


class Heartbeats:
    """What was seen of each executor's counter. ``now`` is always a reading of ``time.monotonic``."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}

    def note(self, executors: Iterable[Executor], *, now: float) -> None:
        """Take down where the counters of all executors stand."""
        seen = self._seen
        self._seen = {
            executor.id: seen[executor.id]
            if seen.get(executor.id, (None,))[0] == executor.beat
            else (executor.beat, now)
            for executor in executors
        }

    def forget(self) -> None:
        """Judge anew: a database that did not answer us took no beats either, so the time until now proves nothing."""
        self._seen = {}

    def silent(self, *, longer_than: float, now: float) -> list[tuple[str, int]]:
        """Executors whose counter has stood still for so many seconds, with where it stands."""
        return [(name, beat) for name, (beat, since) in self._seen.items() if now - since > longer_than]

    def beating(self, *, within: float, now: float) -> int:
        """How many executors moved their counter, or came, in the last seconds."""
        return len(self._seen) - len(self.silent(longer_than=within, now=now))
