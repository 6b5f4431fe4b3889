"""Queue admission: which pending jobs the queue engine gets, and which wait because of their key's limits."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from alphareel.db.locks import advisory_lock
from alphareel.db.tables import jobs, keys
from alphareel.service.jobs.models import Status, Step
from alphareel.service.jobs.queue_limits import QueueLimits

Enqueue = Callable[[sa.Connection, str, int, Step, str | None], None]

_NOT_TEST = jobs.c.test.is_(None)  # test jobs need no worker, so no limit counts them
_WAITING = (jobs.c.status == Status.PENDING, jobs.c.admitted_at.is_(None), _NOT_TEST)
_ADMITTED = (jobs.c.status == Status.PENDING, jobs.c.admitted_at.is_not(None))


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
        if limits.queued or limits.queued_in_all:
            total = _count(c, jobs.c.status == Status.PENDING) if limits.queued_in_all else 0
            own = _count(c, _is_of(row.key_id), jobs.c.status == Status.PENDING) if limits.queued else 0
            limits.check(queued=own, queued_in_all=total)
        self._fill(c, row.key_id, limits, now=now)

    def admit(self, c: sa.Connection, key_id: str | None, *, now: datetime) -> int:
        """Enqueue waiting jobs of this key, oldest first, as far as its limits allow; return how many."""
        return self._fill(c, key_id, self._lock_key(c, key_id), now=now)

    def _lock_key(self, c: sa.Connection, key_id: str | None) -> QueueLimits:
        advisory_lock(c, f"queue of {key_id}")
        row = c.execute(
            sa.select(keys.c.max_running_jobs, keys.c.max_queued_jobs).where(keys.c.id == key_id)
        ).one_or_none()
        if row is None:
            return self.limits
        running, queued = row
        return replace(
            self.limits,
            running=self.limits.running if running is None else running,
            queued=self.limits.queued if queued is None else queued,
        )

    def _fill(self, c: sa.Connection, key_id: str | None, limits: QueueLimits, *, now: datetime) -> int:
        queued = _count(c, _is_of(key_id), *_ADMITTED)
        running = _count(c, _is_of(key_id), jobs.c.status == Status.PROCESSING)
        slots = limits.free_slots(admitted=queued + running, not_started=queued)
        oldest = sa.select(jobs.c.id, jobs.c.ticket).where(_is_of(key_id), *_WAITING)
        # Skip a job that another transaction has locked: it is about to change, and that transaction admits jobs too.
        admitted = oldest.order_by(jobs.c.queued_at, jobs.c.id).limit(slots).with_for_update(skip_locked=True)
        rows = c.execute(admitted).all()
        for job in rows:
            c.execute(sa.update(jobs).where(jobs.c.id == job.id).values(admitted_at=now))
            self.enqueue(c, job.id, job.ticket, Step.RUN, key_id)
        return len(rows)


def keys_with_waiting_jobs(c: sa.Connection) -> list[str | None]:
    return list(c.execute(sa.select(jobs.c.key_id).where(*_WAITING).distinct()).scalars())


def _is_of(key_id: str | None) -> sa.ColumnElement[bool]:
    return jobs.c.key_id == key_id if key_id is not None else jobs.c.key_id.is_(None)


def _count(c: sa.Connection, *where: sa.ColumnElement[bool]) -> int:
    return int(c.execute(sa.select(sa.func.count()).select_from(jobs).where(_NOT_TEST, *where)).scalar_one())
