"""How many jobs go before one that is queued: read from the same rows that admissions.py moves."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from alphareel.db.tables import jobs
from alphareel.service.jobs.models import Status
from alphareel.service.jobs.queue_limits import QueueSnapshot

_FRESH_SECONDS = 1.0

# As a literal, because SQLite uses the index of those who wait only for what it can read in the statement.
_IS_QUEUED = (jobs.c.status == sa.literal(Status.PENDING.value, literal_execute=True), jobs.c.test.is_(None))
_WAITS = (*_IS_QUEUED, jobs.c.admitted_at.is_(None))
_STANDS = (*_IS_QUEUED, jobs.c.admitted_at.is_not(None))


@dataclass(frozen=True)
class _Snapshot:
    """The line at a moment; ``places`` of the jobs that stood in it."""

    at: float
    line: QueueSnapshot
    places: Mapping[str, int]


class QueuePositionCache:
    """Tells places in the queue by a look at the line that is a second old at most: who polls is many."""

    def __init__(self) -> None:
        self._last: _Snapshot | None = None

    def forget(self) -> None:
        """Something moved, and whoever moved it wants to see it."""
        self._last = None

    def positions(self, c: sa.Connection, found: Sequence[sa.Row[Any]]) -> Mapping[str, int]:
        """Of those of these jobs that are queued; test jobs are not, they need no worker."""
        queued = [row for row in found if row.status == Status.PENDING and row.test is None]
        if not queued:
            return {}
        seen = self._look(c)
        ranks = _ranks(c, [row for row in queued if row.id not in seen.places])
        return {row.id: _position(row, seen, ranks.get(row.id)) for row in queued}

    def _look(self, c: sa.Connection) -> _Snapshot:
        last, now = self._last, time.monotonic()
        if last is None or now - last.at > _FRESH_SECONDS:
            self._last = last = _look(c, now)
        return last


def _position(row: sa.Row[Any], seen: _Snapshot, rank: int | None) -> int:
    """``rank`` is None for a job in line; one that was not seen there came since, to its end."""
    if rank is None:
        return seen.places.get(row.id, len(seen.places))
    return seen.line.position(row.key_id, rank)


def _look(c: sa.Connection, now: float) -> _Snapshot:
    first = sa.select(jobs.c.id, jobs.c.key_id).where(*_STANDS)
    standing = c.execute(first.order_by(jobs.c.admitted_at, jobs.c.queued_at, jobs.c.id)).all()
    limit_connections = sa.select(jobs.c.key_id, sa.func.count().label("number")).where(*_WAITS).group_by(jobs.c.key_id)
    waiting = {row.key_id: row.number for row in c.execute(limit_connections)}
    places = {row.id: place for place, row in enumerate(standing)}
    return _Snapshot(now, QueueSnapshot([row.key_id for row in standing], waiting), places)


def _ranks(c: sa.Connection, wanted: Sequence[sa.Row[Any]]) -> Mapping[str, int]:
    """How many of its own key wait before each of these, for those that wait."""
    if not wanted:
        return {}
    number = sa.func.row_number().over(partition_by=jobs.c.key_id, order_by=(jobs.c.queued_at, jobs.c.id))
    keys = {row.key_id for row in wanted}
    mine = sa.or_(jobs.c.key_id.in_(keys - {None}), jobs.c.key_id.is_(None) if None in keys else sa.false())
    ranked = sa.select(jobs.c.id, number.label("number")).where(*_WAITS, mine).subquery()
    chosen = sa.select(ranked).where(ranked.c.id.in_([row.id for row in wanted]))
    return {row.id: row.number - 1 for row in c.execute(chosen)}
