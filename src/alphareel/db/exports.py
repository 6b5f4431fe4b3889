"""Rows that belong to a job: its exports and corrections."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from alphareel.db import mapping
from alphareel.db.tables import jobs
from alphareel.domain.errors import NotFound
from alphareel.service.jobs.models import Job, Kind, Status
from alphareel.service.ports import NewJob


def lock_parent(c: sa.Connection, job_id: str, *, now: datetime) -> None:
    """Lock the job of a new export until the commit, so that it is deleted before or after.

    Raises NotFound, also when its files are due to be removed and the next sweep has not come yet.
    """
    is_kept = sa.or_(jobs.c.files_expire_at.is_(None), jobs.c.files_expire_at > now)
    living = (jobs.c.id == job_id, jobs.c.deleted_at.is_(None), jobs.c.files_expired_at.is_(None), is_kept)
    if c.execute(sa.select(jobs.c.id).where(*living).with_for_update()).first() is None:
        raise NotFound("Job not found", hint="It was deleted, or its files have expired.")


def siblings(c: sa.Connection, new: NewJob) -> tuple[Job, ...]:
    """The rows of the same kind and parent, oldest first."""
    where = (jobs.c.parent_id == new.parent_id, jobs.c.kind == new.kind, jobs.c.deleted_at.is_(None))
    ordered = sa.select(jobs).where(*where).order_by(jobs.c.created_at, jobs.c.id)
    return tuple(map(mapping.job_from_row, c.execute(ordered)))


def revise(c: sa.Connection, row: sa.Row[Any], files: Mapping[str, Any]) -> None:
    """Give a job the files of its correction, in the transaction that completes the correction.

    Both happen or neither does, so a crash leaves the former revision whole. Does nothing for a deleted job.
    """
    living = (jobs.c.id == row.parent_id, jobs.c.deleted_at.is_(None), jobs.c.files_expired_at.is_(None))
    current = (*living, jobs.c.revision == row.task["revision"])
    values = {**files, "revision": jobs.c.revision + 1, "updated_at": row.updated_at}
    c.execute(sa.update(jobs).where(*current).values(values))


def completed_exports(c: sa.Connection, job_ids: Sequence[str]) -> dict[str, list[Job]]:
    """The completed exports of these jobs, oldest first."""
    exports_by_job: dict[str, list[Job]] = {}
    if not job_ids:
        return exports_by_job
    where = (jobs.c.parent_id.in_(job_ids), jobs.c.kind == Kind.EXPORT, jobs.c.status == Status.COMPLETED)
    living = (jobs.c.deleted_at.is_(None), jobs.c.files_expired_at.is_(None))
    for row in c.execute(sa.select(jobs).where(*where, *living).order_by(jobs.c.completed_at, jobs.c.id)):
        exports_by_job.setdefault(row.parent_id, []).append(mapping.job_from_row(row))
    return exports_by_job
