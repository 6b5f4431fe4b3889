"""The one way a job changes its state: compare, set, and append to the audit log, in the caller's transaction."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from alphareel import observe
from alphareel.jobs.credits import Bill
from alphareel.jobs.job import Status, sources
from alphareel.jobstore import billing
from alphareel.jobstore.tables import job_events, jobs


@dataclass(frozen=True)
class Move:
    """A wish: to this state, if the job is in a state that leads there and all of ``where`` holds.

    ``bill``: what the run that begins with it costs a client who pays.
    """

    to: Status
    actor: str
    reason: str
    request_id: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    where: tuple[sa.ColumnElement[bool], ...] = ()
    bill: Bill | None = None


def apply(c: sa.Connection, job_id: str, move: Move, *, now: datetime) -> sa.Row[Any] | None:
    """The row after the move and what it does to credits; None when the job is not where the move starts.

    Then nothing changed. Raises InsufficientCredits, after which the transaction must not be committed.
    """
    held = (jobs.c.id == job_id, jobs.c.deleted_at.is_(None), jobs.c.status.in_(sources(move.to)), *move.where)
    before = c.execute(sa.select(jobs.c.status).where(*held).with_for_update()).scalar_one_or_none()
    if before is None:
        return None
    change = sa.update(jobs).where(*held, jobs.c.status == before)
    values = {"status": move.to, "updated_at": now, **move.values}
    row = c.execute(change.values(values).returning(jobs)).one()
    record(c, job_id, Status(before), move, now=now)
    return _billed(c, row, move, now=now)


def _billed(c: sa.Connection, row: sa.Row[Any], move: Move, *, now: datetime) -> sa.Row[Any]:
    if move.bill is not None:
        return billing.agree(c, row, move.bill, now=now)
    if move.to is Status.COMPLETED:
        return billing.settle(c, row, now=now)
    return billing.release(c, row, now=now) if move.to is Status.FAILED else row


def record(c: sa.Connection, job_id: str, before: Status | None, move: Move, *, now: datetime) -> None:
    """Append to the audit log; the caller holds the job's row, so the next number is free."""
    last = sa.select(sa.func.coalesce(sa.func.max(job_events.c.sequence), 0)).where(job_events.c.job_id == job_id)
    values = {
        "job_id": job_id,
        "sequence": c.execute(last).scalar_one() + 1,
        "from_status": before,
        "to_status": move.to,
        "at": now,
        "actor": move.actor,
        "request_id": move.request_id or observe.current("request_id"),
        "reason": move.reason,
    }
    c.execute(sa.insert(job_events).values(values))


def announce(job_id: str, move: Move) -> None:
    """Log a move that was committed."""
    observe.log(__name__).info(
        "job moved", job_id=job_id, to_status=move.to.value, actor=move.actor, reason=move.reason
    )
