"""Queue positions: how many jobs are ahead of a pending one, counted over the rows that ``queue.py`` admits."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from alphareel.db.tables import jobs
from alphareel.service.jobs.models import Status
from alphareel.service.jobs.queue_limits import QueueSnapshot

_MAX_AGE_SECONDS = 1.0

# A literal and not a parameter: SQLite uses a partial index only if the statement itself contains the condition.
_IS_QUEUED = (jobs.c.status == sa.literal(Status.PENDING.value, literal_execute=True), jobs.c.test.is_(None))
_WAITING = (*_IS_QUEUED, jobs.c.admitted_at.is_(None))
_ADMITTED = (*_IS_QUEUED, jobs.c.admitted_at.is_not(None))


@dataclass(frozen=True)
class _Snapshot:
    """The queue at time ``at`` (monotonic seconds). ``positions``: of the admitted jobs, by their id."""

    at: float
    queue: QueueSnapshot
    positions: Mapping[str, int]


class QueuePositionCache:
    """Computes queue positions from a snapshot that is at most one second old, because many callers poll."""

    def __init__(self) -> None:
        self._last: _Snapshot | None = None

    def forget(self) -> None:
        """Drop the snapshot after a transition, so that its caller sees the effect."""
        self._last = None

    def positions(self, c: sa.Connection, rows: Sequence[sa.Row[Any]]) -> Mapping[str, int]:
        """Positions (0: next) by job id of those rows that are queued. Test jobs are not; they need no worker."""
        queued = [row for row in rows if row.status == Status.PENDING and row.test is None]
        if not queued:
            return {}
        snapshot = self._snapshot(c)
        ranks = _ranks(c, [row for row in queued if row.id not in snapshot.positions])
        return {row.id: _position(row, snapshot, ranks.get(row.id)) for row in queued}

    def _snapshot(self, c: sa.Connection) -> _Snapshot:
        last, now = self._last, time.monotonic()
        if last is None or now - last.at > _MAX_AGE_SECONDS:
            self._last = last = _take_snapshot(c, now)
        return last


def _position(row: sa.Row[Any], snapshot: _Snapshot, rank: int | None) -> int:
    """``rank``: None for an admitted job. One that is not in the snapshot was admitted since, at the end."""
    if rank is None:
        return snapshot.positions.get(row.id, len(snapshot.positions))
    return snapshot.queue.position(row.key_id, rank)


def _take_snapshot(c: sa.Connection, now: float) -> _Snapshot:
    admitted = sa.select(jobs.c.id, jobs.c.key_id).where(*_ADMITTED)
    queue = c.execute(admitted.order_by(jobs.c.admitted_at, jobs.c.queued_at, jobs.c.id)).all()
    counts = sa.select(jobs.c.key_id, sa.func.count().label("number")).where(*_WAITING).group_by(jobs.c.key_id)
    waiting = {row.key_id: row.number for row in c.execute(counts)}
    positions = {row.id: position for position, row in enumerate(queue)}
    return _Snapshot(now, QueueSnapshot([row.key_id for row in queue], waiting), positions)


def _ranks(c: sa.Connection, rows: Sequence[sa.Row[Any]]) -> Mapping[str, int]:
    """For each waiting job: how many jobs of its own key wait ahead of it."""
    if not rows:
        return {}
    keys = {row.key_id for row in rows}
    values = {"keys": list(keys - {None}), "anonymous": None in keys, "ids": [row.id for row in rows]}
    return {row.id: row.number - 1 for row in c.execute(_RANKS, values)}


def _make_ranks() -> sa.Select[Any]:
    """The number of each waiting job of the ``ids`` among those of its key; built once, because many clients poll."""
    number = sa.func.row_number().over(partition_by=jobs.c.key_id, order_by=(jobs.c.queued_at, jobs.c.id))
    anonymous = sa.and_(jobs.c.key_id.is_(None), sa.bindparam("anonymous", type_=sa.Boolean))
    same_keys = sa.or_(jobs.c.key_id.in_(sa.bindparam("keys", expanding=True)), anonymous)
    ranked = sa.select(jobs.c.id, number.label("number")).where(*_WAITING, same_keys).subquery()
    return sa.select(ranked).where(ranked.c.id.in_(sa.bindparam("ids", expanding=True)))


_RANKS = _make_ranks()
