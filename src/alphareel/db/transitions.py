"""The one way a job changes its state: compare, set, and append to the audit log, in the caller's transaction."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from alphareel.db import billing
from alphareel.db.tables import job_events, jobs
from alphareel.service.billing.credits import Quote
from alphareel.service.jobs.models import Status, sources
from alphareel.telemetry.logging import current_context, get_logger


@dataclass(frozen=True)
class Transition:
    """A wish: to this state, if the job is in a state that leads there and all of ``where`` holds.

    ``bill``: what the run that begins with it costs a client who pays.
    """

    to: Status
    actor: str
    reason: str
    request_id: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    where: tuple[sa.ColumnElement[bool], ...] = ()
    bill: Quote | None = None


def apply_transition(c: sa.Connection, job_id: str, move: Transition, *, now: datetime) -> sa.Row[Any] | None:
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
    log_transition(c, job_id, Status(before), move, now=now)
    return _billed(c, row, move, now=now)


def _billed(c: sa.Connection, row: sa.Row[Any], move: Transition, *, now: datetime) -> sa.Row[Any]:
    if move.bill is not None:
        return billing.reserve(c, row, move.bill, now=now)
    if move.to is Status.COMPLETED:
        return billing.settle(c, row, now=now)
    return billing.release(c, row, now=now) if move.to is Status.FAILED else row


def log_transition(c: sa.Connection, job_id: str, before: Status | None, move: Transition, *, now: datetime) -> None:
    """Append to the audit log; the caller holds the job's row, so the next number is free."""
    last = sa.select(sa.func.coalesce(sa.func.max(job_events.c.sequence), 0)).where(job_events.c.job_id == job_id)
    values = {
        "job_id": job_id,
        "sequence": c.execute(last).scalar_one() + 1,
        "from_status": before,
        "to_status": move.to,
        "at": now,
        "actor": move.actor,
        "request_id": move.request_id or current_context("request_id"),
        "reason": move.reason,
    }
    c.execute(sa.insert(job_events).values(values))


def append_event(job_id: str, move: Transition) -> None:
    """Log a move that was committed."""
    get_logger(__name__).info("job moved", job_id=job_id, to_status=move.to.value, actor=move.actor, reason=move.reason)
