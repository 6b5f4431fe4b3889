"""Expiry of files: the rows change and the blobs are scheduled for deletion in one transaction."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from alphareel.db.database import Database
from alphareel.db.deletion import delete_upload_row, release_files, schedule_deletion
from alphareel.db.storage_quotas import lock_storage
from alphareel.db.tables import job_uploads, jobs, uploads
from alphareel.service.jobs.models import TERMINAL, UNFINISHED, Kind
from alphareel.service.jobs.retention import expiry
from alphareel.service.ports import Clock


class RetentionStore:
    """Expires files of jobs and unused uploads. Every method is one transaction."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def expire_jobs(self, *, limit: int) -> int:
        """Expire the files of due jobs, and their uploads that no other job uses; return how many jobs."""
        now = self._clock.now()
        expired = (jobs.c.files_expire_at <= now, jobs.c.files_expired_at.is_(None), jobs.c.deleted_at.is_(None))
        due = sa.select(jobs).where(*expired, jobs.c.status.in_(TERMINAL)).order_by(jobs.c.files_expire_at).limit(limit)
        with self._database.read() as c:
            if c.execute(due.limit(1)).first() is None:
                return 0
        with self._database.write() as c:
            lock_storage(c)
            rows = c.execute(due.with_for_update()).all()
            for row in rows:
                schedule_deletion(c, release_files(c, row), at=now)
                values = {"files_expired_at": now, "stored_bytes": 0, "updated_at": now}
                c.execute(sa.update(jobs).where(jobs.c.id == row.id).values(values))
        return len(rows)

    def expire_uploads(self, *, before: datetime, limit: int) -> int:
        """Delete up to ``limit`` uploads created before ``before`` that no job has used since; return how many."""
        old = sa.select(uploads).where(uploads.c.created_at <= before, ~_is_used(since=before))
        with self._database.read() as c:
            if c.execute(old.limit(1)).first() is None:
                return 0
        with self._database.write() as c:
            lock_storage(c)
            rows = c.execute(old.order_by(uploads.c.created_at).limit(limit).with_for_update()).all()
            for row in rows:
                schedule_deletion(c, delete_upload_row(c, row), at=self._clock.now())
        return len(rows)

    def expire_after_download(self, job_id: str, blob: str, *, until: datetime) -> None:
        """Record the download of an output of a job with a retention of 0.

        Once all outputs were downloaded, its files expire at ``until`` at the latest.
        """
        where = (jobs.c.id == job_id, jobs.c.retention_seconds == 0, jobs.c.files_expire_at > until)
        with self._database.write() as c:
            row = c.execute(sa.select(jobs).where(*where).with_for_update()).one_or_none()
            if row is None or row.output is None:
                return
            missing = {stored["blob"] for stored in (row.output, *(row.more_outputs or ()))}
            downloaded = sorted({*(row.downloaded or ()), blob} & missing)
            values = {"downloaded": downloaded} if missing - set(downloaded) else {"files_expire_at": until}
            c.execute(sa.update(jobs).where(jobs.c.id == job_id).values(values))


def set_expiry(c: sa.Connection, row: sa.Row[Any]) -> sa.Row[Any]:
    """Set the expiry time of a job that ended, in the transaction of its transition, and return the new row."""
    if row.status not in TERMINAL:
        return row
    expires_at = expiry(row.retention_seconds, ended=row.completed_at)
    if row.kind in (Kind.EXPORT, Kind.CORRECTION, Kind.ANALYSIS):  # they are kept as long as their job
        ended = (jobs.c.id == row.parent_id, jobs.c.status.in_(TERMINAL))  # an analysis may end before its job
        parent = c.execute(sa.select(jobs.c.files_expire_at).where(*ended)).one_or_none()
        expires_at = expires_at if parent is None else parent.files_expire_at
    return c.execute(
        sa.update(jobs).where(jobs.c.id == row.id).values(files_expire_at=expires_at).returning(jobs)
    ).one()


def _is_used(*, since: datetime) -> sa.ColumnElement[bool]:
    """Whether a job uses the upload that has not ended, or that changed since then."""
    active = sa.or_(jobs.c.status.in_(UNFINISHED), jobs.c.updated_at > since)
    users = sa.select(job_uploads.c.job_id).join(jobs, jobs.c.id == job_uploads.c.job_id)
    return users.where(job_uploads.c.upload_id == uploads.c.id, active).correlate(uploads).exists()
