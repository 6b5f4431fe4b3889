"""Queue admission: which pending jobs the queue engine gets, and which wait because of their key's limits."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from alphareel.db.locks import advisory_lock
from alphareel.db.tables import jobs, keys
from alphareel.service.jobs.models import UNFINISHED, Status, Step
from alphareel.service.jobs.queue_limits import QueueLimits

Enqueue = Callable[[sa.Connection, str, int, Step, str | None], None]

_NOT_TEST = jobs.c.test.is_(None)  # test jobs need no worker, so no limit counts them
_WAITING = (jobs.c.status == Status.PENDING, jobs.c.admitted_at.is_(None), _NOT_TEST)

# Built once, because every job that is created, started or ended runs them.
_LIMITS = sa.select(keys.c.max_running_jobs, keys.c.max_queued_jobs).where(keys.c.id == sa.bindparam("key_id"))
_PENDING_IN_ALL = sa.select(sa.func.count()).select_from(jobs).where(_NOT_TEST, jobs.c.status == Status.PENDING)


def _of_key(statement: sa.Select[Any]) -> tuple[sa.Select[Any], sa.Select[Any]]:
    """``statement`` for the jobs of the key ``key_id``, and for those without a key."""
    return statement.where(jobs.c.key_id == sa.bindparam("key_id")), statement.where(jobs.c.key_id.is_(None))


_COUNTS = _of_key(
    sa.select(jobs.c.status, jobs.c.admitted_at.is_not(None).label("is_admitted"), sa.func.count().label("number"))
    .where(_NOT_TEST, jobs.c.status.in_(UNFINISHED))
    .group_by(jobs.c.status, sa.text("is_admitted"))
)
# Skip a job that another transaction has locked: it is about to change, and that transaction admits jobs too.
_OLDEST = _of_key(
    sa.select(jobs.c.id, jobs.c.ticket)
    .where(*_WAITING)
    .order_by(jobs.c.queued_at, jobs.c.id)
    .with_for_update(skip_locked=True)
)


class _KeyQueue(NamedTuple):
    """Jobs of one key. ``waiting`` ones are pending like ``admitted`` ones, but the queue engine does not have them."""

    waiting: int
    admitted: int
    running: int


@dataclass(frozen=True)
class QueueAdmission:
    """Applies the limits of keys to the queue.

    ``enqueue`` hands a job to the queue engine inside the caller's transaction. The caller must not hold the advisory
    lock of another key.
    """

    enqueue: Enqueue
    limits: QueueLimits

    def enqueue_or_wait(self, c: sa.Connection, row: sa.Row[Any], *, now: datetime) -> None:
        """Enqueue a job that was started, or let it wait if its key runs as many jobs as it may.

        Raises TooManyJobs, QueueFull; then the caller must not commit.
        """
        if row.test is not None:
            return
        if self.limits.queued_in_all:
            advisory_lock(c, "queue")
        limits = self._lock_key(c, row.key_id)
        counts = _count(c, row.key_id)
        total = c.execute(_PENDING_IN_ALL).scalar_one() if limits.queued_in_all else 0
        limits.check(queued=counts.waiting + counts.admitted, queued_in_all=total)
        self._fill(c, row.key_id, limits, counts, now=now)

    def most_queued(self, c: sa.Connection, key_id: str | None) -> int:
        """How many jobs of this key may wait at the same time when no other job waits; 0 for no limit."""
        limits = self._limits_of(c, key_id)
        return min(filter(None, (limits.queued, limits.queued_in_all)), default=0)

    def admit(self, c: sa.Connection, key_id: str | None, *, now: datetime) -> int:
        """Enqueue waiting jobs of this key, oldest first, as far as its limits allow; return how many."""
        limits = self._lock_key(c, key_id)
        return self._fill(c, key_id, limits, _count(c, key_id), now=now)

    def _lock_key(self, c: sa.Connection, key_id: str | None) -> QueueLimits:
        advisory_lock(c, f"queue of {key_id}")
        return self._limits_of(c, key_id)

    def _limits_of(self, c: sa.Connection, key_id: str | None) -> QueueLimits:
        row = c.execute(_LIMITS, {"key_id": key_id}).one_or_none()
        if row is None:
            return self.limits
        running, queued = row
        return replace(
            self.limits,
            running=self.limits.running if running is None else running,
            queued=self.limits.queued if queued is None else queued,
        )

    def _fill(
        self, c: sa.Connection, key_id: str | None, limits: QueueLimits, counts: _KeyQueue, *, now: datetime
    ) -> int:
        slots = limits.free_slots(admitted=counts.admitted + counts.running, not_started=counts.admitted)
        if slots == 0 or counts.waiting == 0:
            return 0
        rows = _execute(c, tuple(each.limit(slots) for each in _OLDEST), key_id).all()
        for job in rows:
            c.execute(sa.update(jobs).where(jobs.c.id == job.id).values(admitted_at=now))
            self.enqueue(c, job.id, job.ticket, Step.RUN, key_id)
        return len(rows)


def keys_with_waiting_jobs(c: sa.Connection) -> list[str | None]:
    return list(c.execute(sa.select(jobs.c.key_id).where(*_WAITING).distinct()).scalars())


def _count(c: sa.Connection, key_id: str | None) -> _KeyQueue:
    numbers = {(row.status, bool(row.is_admitted)): row.number for row in _execute(c, _COUNTS, key_id)}
    return _KeyQueue(
        waiting=numbers.get((Status.PENDING, False), 0),
        admitted=numbers.get((Status.PENDING, True), 0),
        running=numbers.get((Status.PROCESSING, False), 0) + numbers.get((Status.PROCESSING, True), 0),
    )


def _execute(c: sa.Connection, statements: tuple[sa.Select[Any], ...], key_id: str | None) -> sa.CursorResult[Any]:
    """The first one for a key, the second one for jobs without a key."""
    of_key, without_key = statements
    return c.execute(of_key, {"key_id": key_id}) if key_id is not None else c.execute(without_key)
