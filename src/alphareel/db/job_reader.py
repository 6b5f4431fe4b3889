"""Reads the table of jobs, together with what other tables say about a job."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from alphareel.db import exports, mapping
from alphareel.db.database import Database
from alphareel.db.migrate import is_current
from alphareel.db.prepared import PreparedSelect
from alphareel.db.queue_position import QueuePositionCache
from alphareel.db.tables import job_events, jobs
from alphareel.db.webhooks import events_by_job
from alphareel.domain.errors import Unavailable
from alphareel.service.jobs.models import UNFINISHED, Job, JobEvent, Kind, Status
from alphareel.service.ports import Page

_BY_ID = PreparedSelect(  # clients that poll run it all the time
    sa.select(jobs).where(jobs.c.id == sa.bindparam("job_id"), jobs.c.deleted_at.is_(None))
)


class JobReader:
    """Jobs as the database has them now. Raises Unavailable when it does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._positions = QueuePositionCache()

    def job(self, job_id: str) -> Job | None:
        """The job; None if it does not exist or was deleted."""
        with self._database.read() as c:
            row = _BY_ID.first(c, job_id=job_id)
            return self._to_jobs(c, [row])[0] if row is not None else None

    def jobs(
        self,
        key_id: str | None,
        *,
        others: tuple[str, ...] = (),
        statuses: tuple[Status, ...] | None,
        limit: int,
        offset: int,
    ) -> Page:
        """A page of a key's jobs and those of the keys ``others``, newest first, with the total count.

        ``statuses``: None for any status.
        """
        owned = jobs.c.key_id.in_((key_id, *others)) if key_id is not None else jobs.c.key_id.is_(None)
        return self._page([owned, jobs.c.kind == Kind.JOB], statuses=statuses, limit=limit, offset=offset)

    def jobs_of_all_keys(
        self, *, key_ids: tuple[str, ...] | None, statuses: tuple[Status, ...] | None, limit: int, offset: int
    ) -> Page:
        """A page of all jobs, or of those of ``key_ids``, newest first, with the total count."""
        where = [] if key_ids is None else [jobs.c.key_id.in_(key_ids)]
        return self._page(where, statuses=statuses, limit=limit, offset=offset)

    def exports(self, job_id: str) -> tuple[Job, ...]:
        """The exports of a job, oldest first."""
        return self.children(job_id, Kind.EXPORT)

    def children(self, job_id: str, kind: Kind | None = None) -> tuple[Job, ...]:
        """The rows that belong to a job, oldest first; ``kind``: None for all."""
        where = [jobs.c.parent_id == job_id, jobs.c.deleted_at.is_(None)]
        if kind is not None:
            where.append(jobs.c.kind == kind)
        with self._database.read() as c:
            rows = c.execute(sa.select(jobs).where(*where).order_by(jobs.c.created_at, jobs.c.id)).all()
            return self._to_jobs(c, rows)

    def of_batch(self, batch_id: str) -> tuple[Job, ...]:
        """The jobs of a batch, in the order in which they were requested."""
        where = (jobs.c.batch_id == batch_id, jobs.c.deleted_at.is_(None))
        with self._database.read() as c:
            rows = c.execute(sa.select(jobs).where(*where)).all()
            return tuple(sorted(self._to_jobs(c, rows), key=lambda job: (job.task or {}).get("number", 0)))

    def events(self, job_id: str) -> tuple[JobEvent, ...]:
        """The audit log of a job, oldest first."""
        ordered = sa.select(job_events).where(job_events.c.job_id == job_id).order_by(job_events.c.sequence)
        with self._database.read() as c:
            return tuple(map(mapping.event_from_row, c.execute(ordered)))

    def unfinished(self) -> tuple[Job, ...]:
        """Pending and processing jobs that the queue engine has, for the reconciler."""
        with self._database.read() as c:
            real = sa.and_(jobs.c.admitted_at.is_not(None), jobs.c.test.is_(None))
            where = (jobs.c.status.in_(UNFINISHED), sa.or_(real, jobs.c.undelivered.is_not(None)))
            return tuple(map(mapping.job_from_row, c.execute(sa.select(jobs).where(*where))))

    def test_jobs(self) -> tuple[Job, ...]:
        """Pending and processing test jobs, which the queue engine gets for their delivery only."""
        with self._database.read() as c:
            where = (jobs.c.status.in_(UNFINISHED), jobs.c.test.is_not(None), jobs.c.undelivered.is_(None))
            return tuple(map(mapping.job_from_row, c.execute(sa.select(jobs).where(*where))))

    def is_ready(self) -> bool:
        """Whether the database answers, takes writes and has the schema of this version."""
        self._database.check_writes()
        return is_current(self._database)

    @property
    def write_error(self) -> Unavailable | None:
        """Why the database took no write of this process, until it takes one again."""
        return self._database.write_error

    def _page(
        self,
        conditions: Sequence[sa.ColumnElement[bool]],
        *,
        statuses: tuple[Status, ...] | None,
        limit: int,
        offset: int,
    ) -> Page:
        where = [*conditions, jobs.c.deleted_at.is_(None)]
        if statuses is not None:
            where.append(jobs.c.status.in_(statuses))
        newest = sa.select(jobs).where(*where).order_by(jobs.c.created_at.desc(), jobs.c.id.desc())
        with self._database.read() as c:
            total = c.execute(sa.select(sa.func.count()).select_from(jobs).where(*where)).scalar_one()
            rows = c.execute(newest.limit(limit).offset(offset)).all()
            return Page(self._to_jobs(c, rows), total)

    def _to_jobs(self, c: sa.Connection, rows: Sequence[sa.Row[Any]]) -> tuple[Job, ...]:
        """Jobs with the state of their webhooks and their positions in the queue, which other rows hold."""
        events, positions = events_by_job(c, [row.id for row in rows]), self._positions.positions(c, rows)
        exports_by_job = exports.completed_exports(c, [row.id for row in rows if row.status == Status.COMPLETED])
        return tuple(
            replace(
                mapping.job_from_row(row),
                webhook_events=events[row.id],
                queue_position=positions.get(row.id),
                exports=tuple(exports_by_job.get(row.id, ())),
            )
            for row in rows
        )
