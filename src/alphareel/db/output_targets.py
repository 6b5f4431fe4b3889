"""Jobs whose outputs are delivered to output targets before they are completed."""

from typing import Any

import sqlalchemy as sa

from alphareel.db.deletion import schedule_deletion
from alphareel.db.tables import jobs
from alphareel.service.files import blob_keys
from alphareel.service.jobs.models import TERMINAL, Status
from alphareel.service.jobs.output_targets import erased_targets


def delivers(ticket: int) -> tuple[sa.ColumnElement[bool], ...]:
    """The condition that a job has this ticket and outputs to deliver."""
    return (jobs.c.ticket == ticket, jobs.c.status == Status.PROCESSING, jobs.c.undelivered.is_not(None))


def end_delivery(c: sa.Connection, row: sa.Row[Any]) -> sa.Row[Any]:
    """Erase the secrets of a job that ended, and the outputs that it did not deliver."""
    if row.status not in TERMINAL or (row.targets is None and row.undelivered is None):
        return row
    values: dict[str, Any] = {"targets": erased_targets(row.targets), "undelivered": None}
    if row.status == Status.FAILED and row.undelivered is not None:
        values["stored_bytes"] = 0
        prefixes = (blob_keys.output_prefix(row.id, row.attempt), blob_keys.matte_prefix(row.id, row.attempt))
        schedule_deletion(c, prefixes, at=row.updated_at)
    return c.execute(sa.update(jobs).where(jobs.c.id == row.id).values(values).returning(jobs)).one()
