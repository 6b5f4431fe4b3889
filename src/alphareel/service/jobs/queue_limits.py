"""How many jobs may run and wait: limits as numbers, what they leave room for, whose turn it is, what is refused."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alphareel.domain.errors import QueueFull, TooManyJobs

PAUSE = 10.0  # seconds to wait before another try; clients of the contract wait no longer than 16


@dataclass(frozen=True)
class QueueLimits:
    """0 for no limit. A key may have limits of its own instead of the first two.

    ``running``: jobs of one key that run at a time, the rest of them wait. ``queued``: jobs of one key that wait.
    ``queued_in_all``: jobs of everybody that wait. ``ahead``: jobs of one key that stand in line at the workers; the
    next one joins when the last of them has begun, so that keys take turns however much one of them asks for.
    """

    running: int = 0
    queued: int = 0
    queued_in_all: int = 0
    ahead: int = 0

    def room(self, *, admitted: int, standing: int) -> int | None:
        """How many more jobs of a key may join the line; None for as many as there are.

        ``admitted``: those that stand in line or run, of which ``standing`` have not begun.
        """
        left = [most - used for most, used in ((self.running, admitted), (self.ahead, standing)) if most]
        return max(0, min(left)) if left else None

    def check(self, *, queued: int, queued_in_all: int) -> None:
        """Both counts with the job that asks. Raises TooManyJobs, QueueFull."""
        if self.queued and queued > self.queued:
            raise TooManyJobs(
                f"This key has {self.queued} jobs waiting, which is as many as it may have.",
                hint="Start the next one when one of them has begun.",
                retry_after=PAUSE,
            )
        if self.queued_in_all and queued_in_all > self.queued_in_all:
            raise QueueFull("The queue of this server is full.", hint="Wait as long as Retry-After says.")


@dataclass(frozen=True)
class QueueSnapshot:
    """Who is queued: the keys of the jobs that stand in line, first to last, and how many wait behind, by key.

    When a job in line begins, the next one of its key joins at the end. So each place in line is taken by jobs of
    one key for ever, and those at the places begin in turns.
    """

    standing: Sequence[str | None]
    waiting: Mapping[str | None, int]

    def position(self, key_id: str | None, rank: int) -> int:
        """How many jobs begin before a waiting one of this key that ``rank`` others of the key wait before.

        As things stand: jobs of other keys that come later may begin first, and a key that may run no more jobs at
        a time is taken to go on after those who stand in line now.
        """
        counts = Counter(self.standing)
        own = [place for place, key in enumerate(self.standing) if key == key_id] or [len(self.standing)]
        before = rank + counts[key_id]
        turn, token = divmod(before, len(own))
        now = Counter(self.standing[: own[token]])
        return before + sum(
            min(count + self.waiting.get(key, 0), turn * count + now[key])
            for key, count in counts.items()
            if key != key_id
        )
