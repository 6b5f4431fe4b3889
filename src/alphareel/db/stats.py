"""Counts for the metrics endpoint, and completed runs for estimates."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from alphareel.db import billing
from alphareel.db.database import Database
from alphareel.db.tables import executors, job_events, jobs, webhooks
from alphareel.service.jobs.models import Kind, Status
from alphareel.service.jobs.throughput import CompletedRun, Work
from alphareel.service.ports import Clock
from alphareel.service.stats import WINDOW, CompletedJob, ServiceStats
from alphareel.service.webhooks.events import State

_MAX_JOBS = 1000


class StatsStore:
    """Counts for the metrics endpoint. Each is read from an index."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def collect(self) -> ServiceStats:
        """All counts of one moment. Raises Unavailable."""
        now = self._clock.now()
        with self._database.read() as c:
            charged, reserved = _credits(c)
            return ServiceStats(
                jobs={status.value: 0 for status in Status} | _count(c, jobs.c.status),
                failures=_count(c, job_events.c.reason, *_is_failure()),
                oldest_seconds=_oldest_pending_seconds(c, now=now),
                finished=_completed_jobs(c, since=now - WINDOW),
                webhooks={state.value: 0 for state in State} | _count(c, webhooks.c.state),
                executors=c.execute(sa.select(sa.func.count()).select_from(executors)).scalar_one(),
                credits_charged=charged,
                credits_reserved=reserved,
            )


def latest_failures(database: Database, *, limit: int = 50) -> list[dict[str, Any]]:
    """The newest failed jobs with their transitions and options that name nothing of the client. Raises Unavailable."""
    failed = sa.select(jobs).where(jobs.c.status == Status.FAILED, jobs.c.deleted_at.is_(None))
    option_names = ("model", "output_format", "engine", "quality")
    with database.read() as c:
        rows = c.execute(failed.order_by(jobs.c.completed_at.desc()).limit(limit)).all()
        moves = sa.select(job_events).where(job_events.c.job_id.in_([row.id for row in rows]))
        events = c.execute(moves.order_by(job_events.c.job_id, job_events.c.sequence)).all()
    return [
        {
            "job": row.id,
            "error_code": row.error_code,
            "error": row.error,
            "attempt": row.attempt,
            "options": {name: row.options.get(name) for name in option_names},
            "history": [f"{e.at:%Y-%m-%dT%H:%M:%SZ} {e.to_status}: {e.reason}" for e in events if e.job_id == row.id],
        }
        for row in rows
    ]


class RunHistory:
    """Past runs, from which the duration of new ones is estimated."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def latest_runs(self, *, limit: int) -> tuple[CompletedRun, ...]:
        """The latest completed runs, newest first. Raises Unavailable."""
        own = (jobs.c.kind == Kind.JOB, jobs.c.test.is_(None), jobs.c.started_at.is_not(None))
        ended = (jobs.c.status == Status.COMPLETED, *own)
        latest = (
            sa.select(jobs).where(*ended, jobs.c.deleted_at.is_(None)).order_by(jobs.c.completed_at.desc()).limit(limit)
        )
        with self._database.read() as c:
            return tuple(map(_run_from_row, c.execute(latest)))


def _run_from_row(row: sa.Row[Any]) -> CompletedRun:
    output = row.output
    frames, pixels = output.get("source_frames"), output.get("source_pixels")
    if frames is None and output["frames"] > 1:  # an older version recorded only the output
        frames, pixels = output["frames"], output["width"] * output["height"]
    return CompletedRun(
        model=row.options["model"],
        output_format=output["format"],
        work=Work(frames, pixels) if frames and pixels else None,
        seconds=(row.completed_at - row.started_at).total_seconds(),
        bytes=output["bytes"],
        made=output["frames"] * output["width"] * output["height"],
    )


def _count(c: sa.Connection, column: sa.Column[Any], *where: sa.ColumnElement[bool]) -> dict[str, int]:
    counts = sa.select(column, sa.func.count()).where(*where).group_by(column)
    return {str(name): count for name, count in c.execute(counts)}


def _credits(c: sa.Connection) -> tuple[int, int]:
    """Hundredths of a credit that all runs were charged, and that are reserved now."""
    charged_sum, reserved_sum = (
        sa.func.coalesce(sa.func.sum(amount), 0) for amount in (billing.charged_credits(), billing.reserved_credits())
    )
    sums = sa.select(charged_sum, reserved_sum).select_from(jobs)
    charged, reserved = c.execute(sums.where(sa.or_(jobs.c.credits > 0, jobs.c.run > 1))).one()
    return int(charged), int(reserved)


def _is_failure() -> tuple[sa.ColumnElement[bool], ...]:
    """Audit rows of failures, whose reason is the error code. Later rows of a failed job have other reasons."""
    return (job_events.c.to_status == Status.FAILED, job_events.c.from_status != Status.FAILED)


def _oldest_pending_seconds(c: sa.Connection, *, now: datetime) -> float:
    since = sa.select(sa.func.min(jobs.c.updated_at)).where(jobs.c.status == Status.PENDING)
    waiting: datetime | None = c.execute(since).scalar_one()
    return max(0.0, (now - waiting).total_seconds()) if waiting else 0.0


def _completed_jobs(c: sa.Connection, *, since: datetime) -> tuple[CompletedJob, ...]:
    ended = (jobs.c.status == Status.COMPLETED, jobs.c.completed_at >= since, jobs.c.deleted_at.is_(None))
    latest = sa.select(jobs).where(*ended).order_by(jobs.c.completed_at.desc()).limit(_MAX_JOBS)
    return tuple(
        CompletedJob(
            waited=(row.started_at - (row.queued_at or row.created_at)).total_seconds(),
            ran=(row.completed_at - row.started_at).total_seconds(),
            frames=row.output["frames"],
            stages=row.output.get("stages", {}),
        )
        for row in c.execute(latest)
    )
