"""Queue positions: how many jobs are ahead of a pending one, counted over the rows that ``queue.py`` admits."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    """The queue at time ``at`` (monotonic seconds).

    ``positions``: of the admitted jobs, by their id. ``ranks``: by key, of those keys that were asked for: for each
    waiting job by its id, how many jobs of the key wait ahead of it.
    """

    at: float
    queue: QueueSnapshot
    positions: Mapping[str, int]
    ranks: dict[str | None, Mapping[str, int]] = field(default_factory=dict)

    def rank(self, row: sa.Row[Any]) -> int | None:
        """None if the job is not among the waiting ones that were read."""
        return self.ranks.get(row.key_id, {}).get(row.id)


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
        waiting = [row for row in queued if row.admitted_at is None and row.id not in snapshot.positions]
        if unknown := {row.key_id for row in waiting if snapshot.rank(row) is None}:
            snapshot.ranks.update(_read_ranks(c, unknown))
        ranks = {row.id: snapshot.rank(row) for row in waiting}
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
    queue = c.execute(_QUEUE).all()
    waiting = {row.key_id: row.number for row in c.execute(_WAITING_BY_KEY)}
    positions = {row.id: position for position, row in enumerate(queue)}
    return _Snapshot(now, QueueSnapshot([row.key_id for row in queue], waiting), positions)


def _read_ranks(c: sa.Connection, keys: set[str | None]) -> dict[str | None, Mapping[str, int]]:
    """For each key: for each of its waiting jobs, how many of them are ahead."""
    ranks: defaultdict[str | None, dict[str, int]] = defaultdict(dict)
    for job_id, key_id in c.execute(_WAITING_OF_KEYS, {"keys": list(keys - {None}), "anonymous": None in keys}):
        ranks[key_id][job_id] = len(ranks[key_id])
    return dict(ranks)


# Built once, because many clients poll.
_QUEUE = sa.select(jobs.c.id, jobs.c.key_id).where(*_ADMITTED).order_by(jobs.c.admitted_at, jobs.c.queued_at, jobs.c.id)
_WAITING_BY_KEY = sa.select(jobs.c.key_id, sa.func.count().label("number")).where(*_WAITING).group_by(jobs.c.key_id)
_WAITING_OF_KEYS = (
    sa.select(jobs.c.id, jobs.c.key_id)
    .where(
        *_WAITING,
        sa.or_(
            jobs.c.key_id.in_(sa.bindparam("keys", expanding=True)),
            sa.and_(jobs.c.key_id.is_(None), sa.bindparam("anonymous", type_=sa.Boolean)),
        ),
    )
    .order_by(jobs.c.queued_at, jobs.c.id)
)
