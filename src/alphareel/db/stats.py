"""What past jobs tell, behind their ports: counts over indexes, and the latest that were completed."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from alphareel.db.database import Database
from alphareel.db.tables import executors, job_events, jobs, webhooks
from alphareel.service.jobs.models import Billing, Status
from alphareel.service.jobs.pace import CompletedRun, Work
from alphareel.service.ports import Clock
from alphareel.service.stats import WINDOW, CompletedJob, ServiceStats

_MOST = 1000


class StatsStore:
    """jobs.census.Counting on our tables."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def census(self) -> ServiceStats:
        now = self._clock.now()
        with self._database.read() as c:
            credits_by = _credits(c)
            return ServiceStats(
                jobs={status.value: 0 for status in Status} | _count(c, jobs.c.status),
                failures=_count(c, job_events.c.reason, *_ends_in_failure()),
                oldest_seconds=_oldest(c, now=now),
                finished=_finished(c, since=now - WINDOW),
                webhooks=_count(c, webhooks.c.state),
                executors=c.execute(sa.select(sa.func.count()).select_from(executors)).scalar_one(),
                credits_charged=credits_by.get(Billing.CHARGED, 0),
                credits_reserved=credits_by.get(Billing.RESERVED, 0),
            )


class RunHistory:
    """jobs.estimates.Experience on our tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def latest_runs(self, *, limit: int) -> tuple[CompletedRun, ...]:
        ended = (jobs.c.status == Status.COMPLETED, jobs.c.test.is_(None), jobs.c.started_at.is_not(None))
        latest = (
            sa.select(jobs).where(*ended, jobs.c.deleted_at.is_(None)).order_by(jobs.c.completed_at.desc()).limit(limit)
        )
        with self._database.read() as c:
            return tuple(map(_run, c.execute(latest)))


def _run(row: sa.Row[Any]) -> CompletedRun:
    made = row.output
    frames, pixels = made.get("source_frames"), made.get("source_pixels")
    if frames is None and made["frames"] > 1:  # a result of an older version, which told of itself alone
        frames, pixels = made["frames"], made["width"] * made["height"]
    return CompletedRun(
        model=row.options["model"],
        output_format=made["format"],
        work=Work(frames, pixels) if frames and pixels else None,
        seconds=(row.completed_at - row.started_at).total_seconds(),
        bytes=made["bytes"],
        made=made["frames"] * made["width"] * made["height"],
    )


def _count(c: sa.Connection, column: sa.Column[Any], *where: sa.ColumnElement[bool]) -> dict[str, int]:
    limit_connections = sa.select(column, sa.func.count()).where(*where).group_by(column)
    return {str(name): count for name, count in c.execute(limit_connections)}


def _credits(c: sa.Connection) -> dict[str, int]:
    """Hundredths that jobs hold, by what became of them."""
    held = sa.select(jobs.c.billing_status, sa.func.sum(jobs.c.credits)).where(jobs.c.credits > 0)
    return {str(status): int(total) for status, total in c.execute(held.group_by(jobs.c.billing_status))}


def _ends_in_failure() -> tuple[sa.ColumnElement[bool], ...]:
    """The audit row of a failure has the error's code as its reason; a later row of the same state has another."""
    return (job_events.c.to_status == Status.FAILED, job_events.c.from_status != Status.FAILED)


def _oldest(c: sa.Connection, *, now: datetime) -> float:
    since = sa.select(sa.func.min(jobs.c.updated_at)).where(jobs.c.status == Status.PENDING)
    waiting: datetime | None = c.execute(since).scalar_one()
    return max(0.0, (now - waiting).total_seconds()) if waiting else 0.0


def _finished(c: sa.Connection, *, since: datetime) -> tuple[CompletedJob, ...]:
    ended = (jobs.c.status == Status.COMPLETED, jobs.c.completed_at >= since, jobs.c.deleted_at.is_(None))
    latest = sa.select(jobs).where(*ended).order_by(jobs.c.completed_at.desc()).limit(_MOST)
    return tuple(
        CompletedJob(
            waited=(row.started_at - (row.queued_at or row.created_at)).total_seconds(),
            ran=(row.completed_at - row.started_at).total_seconds(),
            frames=row.output["frames"],
            stages=row.output.get("stages", {}),
        )
        for row in c.execute(latest)
    )
