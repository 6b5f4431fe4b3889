"""API calls, written in batches, and sums over jobs."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql, sqlite

from alphareel.db.billing import charged_credits
from alphareel.db.database import Database
from alphareel.db.tables import call_hours, calls, jobs, keys
from alphareel.service.jobs.models import Kind, Status
from alphareel.service.usage.service import ApiCall, CallEvent, KeyUsageBucket, UnstorableCall, UsageBucket

_MAX_CALLS = 1_000_000
_VALUE_ERRORS = (exc.DataError, exc.IntegrityError, UnicodeError)  # any other error is the database's


class CallStore:
    """The log of API calls and the usage of keys. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_calls(self, batch: Sequence[ApiCall]) -> None:
        """Store a batch of calls and count them for their keys.

        Raises UnstorableCall if the database can never store one of them; then none is stored.
        """
        try:
            with self._database.write() as c:
                c.execute(sa.insert(calls), [vars(call) for call in batch])
                _count_by_hour(c, batch)
                _count_by_key(c, batch)
        except _VALUE_ERRORS as error:
            raise UnstorableCall(str(error)) from error

    def call_events(self, key_id: str, *, limit: int) -> tuple[CallEvent, ...]:
        """The calls of a key, newest first."""
        query = (
            sa.select(calls, _model().label("model"), jobs.c.credits)
            .outerjoin(jobs, (jobs.c.id == calls.c.job_id) & (jobs.c.key_id == calls.c.key_id))
            .where(calls.c.key_id == key_id)
            .order_by(calls.c.id.desc())
            .limit(limit)
        )
        with self._database.read() as c:
            return tuple(map(_call_event_from_row, c.execute(query)))

    def count_calls(self, key_id: str, *, since: datetime) -> int:
        """How many calls a key made since the full hour ``since``."""
        total = sa.func.coalesce(sa.func.sum(call_hours.c.calls), 0)
        with self._database.read() as c:
            query = sa.select(total).where(call_hours.c.key_id == key_id, call_hours.c.hour >= since)
            return int(c.execute(query).scalar_one())

    def job_usage(self, key_id: str, *, since: datetime) -> tuple[UsageBucket, ...]:
        """Usage of a key by jobs created since then, deleted ones included."""
        with self._database.read() as c:
            return tuple(map(_bucket_from_row, c.execute(_usage_query(c, jobs.c.key_id == key_id, since=since))))

    def key_usage(self, client_id: str | None, *, since: datetime) -> tuple[KeyUsageBucket, ...]:
        """The same for every key, or for those of one client."""
        whose = sa.true() if client_id is None else keys.c.client_id == client_id
        names = (keys.c.client_id, keys.c.fingerprint)
        with self._database.read() as c:
            query = _usage_query(c, whose, since=since).join(keys, keys.c.id == jobs.c.key_id)
            by_key = query.add_columns(*names).group_by(*names).order_by(*names)
            return tuple(
                KeyUsageBucket(row.client_id, row.fingerprint, _bucket_from_row(row)) for row in c.execute(by_key)
            )

    def sweep_calls(self, *, before: datetime) -> None:
        """Delete calls older than ``before``, and the oldest beyond a million."""
        newest = sa.select(sa.func.coalesce(sa.func.max(calls.c.id), 0)).scalar_subquery()
        with self._database.write(unlimited=True) as c:
            c.execute(sa.delete(calls).where((calls.c.at < before) | (calls.c.id <= newest - _MAX_CALLS)))
            c.execute(sa.delete(call_hours).where(call_hours.c.hour < before))


def _usage_query(c: sa.Connection, which: sa.ColumnElement[bool], *, since: datetime) -> sa.Select[Any]:
    """Jobs (no test jobs) created since then, by day and model."""
    day, model = _day(c, jobs.c.created_at).label("day"), _model().label("model")
    query = (
        sa.select(
            day,
            model,
            _count_where(jobs.c.kind == Kind.JOB).label("jobs"),
            _count_where((jobs.c.kind == Kind.JOB) & (jobs.c.status == Status.COMPLETED)).label("completed"),
            _count_where((jobs.c.kind == Kind.JOB) & (jobs.c.status == Status.FAILED)).label("failed"),
            sa.func.coalesce(sa.func.sum(charged_credits()), 0).label("credits"),
        )
        .select_from(jobs)
        .where(which, jobs.c.created_at >= since, jobs.c.test.is_(None))
        .group_by(day, model)
        .order_by(day, model)
    )
    return cast(sa.Select[Any], query)


def _bucket_from_row(row: sa.Row[Any]) -> UsageBucket:
    return UsageBucket(row.day, row.model, row.jobs, int(row.completed), int(row.failed), int(row.credits))


def _count_by_hour(c: sa.Connection, batch: Sequence[ApiCall]) -> None:
    insert: Any = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[c.dialect.name]
    hours = Counter((call.key_id, call.at.replace(minute=0, second=0, microsecond=0)) for call in batch)
    for (key_id, hour), count in sorted(hours.items()):  # sorted, so that two writers cannot deadlock
        statement = insert(call_hours).values(key_id=key_id, hour=hour, calls=count)
        increment = {"calls": call_hours.c.calls + statement.excluded.calls}
        c.execute(statement.on_conflict_do_update(index_elements=["key_id", "hour"], set_=increment))


def _count_by_key(c: sa.Connection, batch: Sequence[ApiCall]) -> None:
    for key_id, count in sorted(Counter(call.key_id for call in batch).items()):
        last = max(call.at for call in batch if call.key_id == key_id)
        change = sa.update(keys).where(keys.c.id == key_id)
        c.execute(change.values(calls=keys.c.calls + count, last_used_at=last))


def _model() -> sa.ColumnElement[str]:
    return cast(sa.ColumnElement[str], jobs.c.options["model"].as_string())


def _day(c: sa.Connection, column: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
    """The UTC date as text."""
    if c.dialect.name == "sqlite":
        return cast(sa.ColumnElement[str], sa.func.date(column, type_=sa.String))
    utc = sa.func.timezone("UTC", column)
    return cast(sa.ColumnElement[str], sa.func.to_char(utc, "YYYY-MM-DD", type_=sa.String))


def _sum_where(condition: sa.ColumnElement[bool], value: Any) -> sa.ColumnElement[int]:
    return sa.func.coalesce(sa.func.sum(sa.case((condition, value), else_=0)), 0)


def _count_where(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return _sum_where(condition, 1)


def _call_event_from_row(row: sa.Row[Any]) -> CallEvent:
    call = ApiCall(
        row.key_id, row.at, row.method, row.endpoint, row.status_code, row.request_id, row.job_id, row.error_code
    )
    return CallEvent(row.id, call, row.model, row.credits or 0)
