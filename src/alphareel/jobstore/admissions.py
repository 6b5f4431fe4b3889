"""Which of the accepted jobs stand in line at the workers, decided in the transaction that changes the answer."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from alphareel.jobs.admission import QueueLimits
from alphareel.jobs.job import Status, Step
from alphareel.jobstore.locks import hold
from alphareel.jobstore.tables import jobs, keys

Enqueue = Callable[[sa.Connection, str, int, Step, str | None], None]

_IS_REAL = jobs.c.test.is_(None)  # test jobs need no worker, so they count nowhere here
_WAITS = (jobs.c.status == Status.PENDING, jobs.c.admitted_at.is_(None), _IS_REAL)
_STANDS = (jobs.c.status == Status.PENDING, jobs.c.admitted_at.is_not(None))


@dataclass(frozen=True)
class Admissions:
    """``enqueue`` hands a job to the engine inside the caller's transaction, which holds no other key's lock."""

    enqueue: Enqueue
    limits: QueueLimits

    def join(self, c: sa.Connection, row: sa.Row[Any], *, now: datetime) -> None:
        """A job was started: let it in, or let it wait.

        Raises TooManyJobs, QueueFull, after which the transaction must not be committed.
        """
        if row.test is not None:
            return
        if self.limits.queued_in_all:
            hold(c, "queue")
        limits = self._hold_key(c, row.key_id)
        if limits.queued or limits.queued_in_all:
            everybody = _count(c, jobs.c.status == Status.PENDING) if limits.queued_in_all else 0
            mine = _count(c, _is_of(row.key_id), jobs.c.status == Status.PENDING) if limits.queued else 0
            limits.check(queued=mine, queued_in_all=everybody)
        self._fill(c, row.key_id, limits, now=now)

    def admit(self, c: sa.Connection, key_id: str | None, *, now: datetime) -> int:
        """Something of this key moved on: let in the next of its jobs, oldest first; how many."""
        return self._fill(c, key_id, self._hold_key(c, key_id), now=now)

    def _hold_key(self, c: sa.Connection, key_id: str | None) -> QueueLimits:
        hold(c, f"queue of {key_id}")
        wanted = sa.select(keys.c.max_running_jobs, keys.c.max_queued_jobs).where(keys.c.id == key_id)
        found = c.execute(wanted).one_or_none()
        if found is None:
            return self.limits
        running, queued = found
        return replace(
            self.limits,
            running=self.limits.running if running is None else running,
            queued=self.limits.queued if queued is None else queued,
        )

    def _fill(self, c: sa.Connection, key_id: str | None, limits: QueueLimits, *, now: datetime) -> int:
        standing = _count(c, _is_of(key_id), *_STANDS)
        runs = _count(c, _is_of(key_id), jobs.c.status == Status.PROCESSING)
        room = limits.room(admitted=standing + runs, standing=standing)
        oldest = sa.select(jobs.c.id, jobs.c.ticket).where(_is_of(key_id), *_WAITS)
        # A job that another transaction holds is about to leave, and that transaction comes here itself.
        chosen = oldest.order_by(jobs.c.queued_at, jobs.c.id).limit(room).with_for_update(skip_locked=True)
        found = c.execute(chosen).all()
        for job in found:
            c.execute(sa.update(jobs).where(jobs.c.id == job.id).values(admitted_at=now))
            self.enqueue(c, job.id, job.ticket, Step.RUN, key_id)
        return len(found)


def keys_that_wait(c: sa.Connection) -> list[str | None]:
    return list(c.execute(sa.select(jobs.c.key_id).where(*_WAITS).distinct()).scalars())


def _is_of(key_id: str | None) -> sa.ColumnElement[bool]:
    return jobs.c.key_id == key_id if key_id is not None else jobs.c.key_id.is_(None)


def _count(c: sa.Connection, *where: sa.ColumnElement[bool]) -> int:
    return int(c.execute(sa.select(sa.func.count()).select_from(jobs).where(_IS_REAL, *where)).scalar_one())
