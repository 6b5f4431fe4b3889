"""Files whose time is over, behind jobs.retention.Expirations: noted for deletion in the transaction that says so."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from alphareel.db.database import Database
from alphareel.db.deletion import delete_upload_row, release_files, schedule_deletion
from alphareel.db.storage_usage import lock_storage
from alphareel.db.tables import job_uploads, jobs, uploads
from alphareel.service.jobs.models import TERMINAL, Status
from alphareel.service.jobs.retention import expiry
from alphareel.service.ports import Clock

_RUNNABLE = (Status.PENDING, Status.PROCESSING)


class RetentionStore:
    """jobs.retention.Expirations on our tables."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def expire_jobs(self, *, limit: int) -> int:
        now = self._clock.now()
        over = (jobs.c.files_expire_at <= now, jobs.c.files_expired_at.is_(None), jobs.c.deleted_at.is_(None))
        due = sa.select(jobs).where(*over, jobs.c.status.in_(TERMINAL)).order_by(jobs.c.files_expire_at).limit(limit)
        with self._database.read() as c:
            if c.execute(due.limit(1)).first() is None:
                return 0
        with self._database.write() as c:
            lock_storage(c)
            found = c.execute(due.with_for_update()).all()
            for row in found:
                schedule_deletion(c, release_files(c, row), at=now)
                gone = {"files_expired_at": now, "stored_bytes": 0, "updated_at": now}
                c.execute(sa.update(jobs).where(jobs.c.id == row.id).values(gone))
        return len(found)

    def expire_uploads(self, *, before: datetime, limit: int) -> int:
        old = sa.select(uploads).where(uploads.c.created_at <= before, ~_is_used(since=before))
        with self._database.read() as c:
            if c.execute(old.limit(1)).first() is None:
                return 0
        with self._database.write() as c:
            lock_storage(c)
            found = c.execute(old.order_by(uploads.c.created_at).limit(limit).with_for_update()).all()
            for row in found:
                schedule_deletion(c, delete_upload_row(c, row), at=self._clock.now())
        return len(found)

    def expire_after_download(self, job_id: str, *, until: datetime) -> None:
        longer = (jobs.c.id == job_id, jobs.c.retention_seconds == 0, jobs.c.files_expire_at > until)
        with self._database.write() as c:
            c.execute(sa.update(jobs).where(*longer).values(files_expire_at=until))


def note_expiry(c: sa.Connection, row: sa.Row[Any]) -> sa.Row[Any]:
    """Set, in the transaction of a move, when the files of a job that ended go; the row as it is then."""
    if row.status not in TERMINAL:
        return row
    when = expiry(row.retention_seconds, ended=row.completed_at)
    return c.execute(sa.update(jobs).where(jobs.c.id == row.id).values(files_expire_at=when).returning(jobs)).one()


def _is_used(*, since: datetime) -> sa.ColumnElement[bool]:
    """By a job that is not done, or that somebody or something touched since then."""
    lives = sa.or_(jobs.c.status.in_(_RUNNABLE), jobs.c.updated_at > since)
    users = sa.select(job_uploads.c.job_id).join(jobs, jobs.c.id == job_uploads.c.job_id)
    return users.where(job_uploads.c.upload_id == uploads.c.id, lives).correlate(uploads).exists()
