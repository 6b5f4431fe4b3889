"""State transitions of jobs: compare-and-set plus a row in the audit log, in the caller's transaction.

Every change of a job's status goes through ``apply_transition``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from alphareel.db import billing
from alphareel.db.notifications import job_topic, notify
from alphareel.db.tables import job_events, jobs
from alphareel.service.billing.credits import Quote
from alphareel.service.jobs.models import Status, sources
from alphareel.telemetry.logging import current_context, get_logger

# Built once, because every transition runs them.
_LAST_SEQUENCE = sa.select(sa.func.coalesce(sa.func.max(job_events.c.sequence), 0)).where(
    job_events.c.job_id == sa.bindparam("job_id")
)
_INSERT_EVENT = sa.insert(job_events)


@dataclass(frozen=True)
class Transition:
    """A transition to ``to``, applied only if the job's status allows it and all of ``where`` holds.

    ``values``: columns to set besides the status. ``quote``: the price of the run that starts with this transition.
    """

    to: Status
    actor: str
    reason: str
    request_id: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    where: tuple[sa.ColumnElement[bool], ...] = ()
    quote: Quote | None = None


def apply_transition(c: sa.Connection, job_id: str, transition: Transition, *, now: datetime) -> sa.Row[Any] | None:
    """Apply the transition and its effect on credits, and return the new row.

    Returns None, and changes nothing, if the job's status does not allow it or ``where`` does not hold. Raises
    InsufficientCredits; then the caller must not commit.
    """
    where = (
        jobs.c.id == job_id,
        jobs.c.deleted_at.is_(None),
        jobs.c.status.in_(sources(transition.to)),
        *transition.where,
    )
    before = c.execute(sa.select(jobs.c.status).where(*where).with_for_update()).scalar_one_or_none()
    if before is None:
        return None
    change = sa.update(jobs).where(*where, jobs.c.status == before)
    values = {"status": transition.to, "updated_at": now, **transition.values}
    if transition.to is Status.FAILED:
        values["stored_bytes"] = 0  # its chunks are deleted
    row = c.execute(change.values(values).returning(jobs)).one()
    append_event(c, job_id, Status(before), transition, now=now)
    return _update_credits(c, row, transition, now=now)


def _update_credits(c: sa.Connection, row: sa.Row[Any], transition: Transition, *, now: datetime) -> sa.Row[Any]:
    if transition.quote is not None:
        return billing.reserve(c, row, transition.quote, now=now)
    if transition.to is Status.COMPLETED:
        return billing.settle(c, row, now=now)
    if transition.to is not Status.FAILED:
        return row
    if row.undelivered is not None:  # the outputs exist, and receivers may have them
        return billing.settle(c, row, now=now, output=row.undelivered["output"])
    return billing.release(c, row, now=now)


def append_event(
    c: sa.Connection, job_id: str, before: Status | None, transition: Transition, *, now: datetime
) -> None:
    """Append a row to the audit log. The caller has locked the job's row, so the next sequence number is free.

    ``before``: None for the first row of a new job.
    """
    last = 0 if before is None else c.execute(_LAST_SEQUENCE, {"job_id": job_id}).scalar_one()
    values = {
        "job_id": job_id,
        "sequence": last + 1,
        "from_status": before,
        "to_status": transition.to,
        "at": now,
        "actor": transition.actor,
        "request_id": transition.request_id or current_context("request_id"),
        "reason": transition.reason,
    }
    c.execute(_INSERT_EVENT, values)
    notify(c, job_topic(job_id))


def log_transition(job_id: str, transition: Transition) -> None:
    """Write a transition that was committed to the process log."""
    get_logger(__name__).info(
        "job moved", job_id=job_id, to_status=transition.to.value, actor=transition.actor, reason=transition.reason
    )
