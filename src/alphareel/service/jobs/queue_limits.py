"""Limits on running and queued jobs, and the estimate of a job's position in the queue."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alphareel.domain.errors import QueueFull, TooManyJobs

RETRY_SECONDS = 10.0  # for Retry-After; RemoveBGVideo's clients wait no longer than 16


@dataclass(frozen=True)
class QueueLimits:
    """0 for no limit. A key may have its own limits instead of the first two."""

    #: Jobs of one key that run at the same time.
    running: int = 0
    #: Jobs of one key that wait.
    queued: int = 0
    #: Jobs of all keys that wait.
    queued_in_all: int = 0
    #: Admitted jobs of one key that have not started. The next job is admitted when one of them starts, so that keys
    #: take turns however many jobs one of them has.
    ahead: int = 0

    def free_slots(self, *, admitted: int, not_started: int) -> int | None:
        """How many more jobs of a key may be admitted; None for no limit.

        ``admitted``: admitted jobs of the key, of which ``not_started`` have not started.
        """
        left = [limit - used for limit, used in ((self.running, admitted), (self.ahead, not_started)) if limit]
        return max(0, min(left)) if left else None

    def check(self, *, queued: int, queued_in_all: int) -> None:
        """Both counts include the new job. Raises TooManyJobs, QueueFull."""
        if self.queued and queued > self.queued:
            raise TooManyJobs(
                f"This key has {self.queued} jobs waiting, which is as many as it may have.",
                hint="Start the next one when one of them has begun.",
                retry_after=RETRY_SECONDS,
            )
        if self.queued_in_all and queued_in_all > self.queued_in_all:
            raise QueueFull("The queue of this server is full.", hint="Wait as long as Retry-After says.")


@dataclass(frozen=True)
class QueueSnapshot:
    """The keys of the admitted jobs that have not started, in order, and the number of other waiting jobs by key.

    When an admitted job starts, the next one of its key is appended. So the keys keep their places in a rotation.
    """

    admitted: Sequence[str | None]
    waiting: Mapping[str | None, int]

    def position(self, key_id: str | None, rank: int) -> int:
        """How many jobs start before a waiting job of this key with ``rank`` waiting jobs of the key before it.

        An estimate: later jobs of other keys may overtake, and keys at their concurrency limit are assumed to resume
        last.
        """
        counts = Counter(self.admitted)
        own = [index for index, key in enumerate(self.admitted) if key == key_id] or [len(self.admitted)]
        before = rank + counts[key_id]
        turn, token = divmod(before, len(own))
        now = Counter(self.admitted[: own[token]])
        return before + sum(
            min(count + self.waiting.get(key, 0), turn * count + now[key])
            for key, count in counts.items()
            if key != key_id
        )
