"""Copies all our tables from one database to another, which may be of the other kind."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from alphareel.db.database import Database
from alphareel.db.tables import (
    executors,
    jobs,
    keys,
    metadata,
    multipart_uploads,
    pending_deletions,
    runner_tasks,
    settings,
    tus_parts,
    tus_uploads,
    uploads,
)
from alphareel.domain.errors import InvalidState, StorageFailed
from alphareel.service.uploads.multipart import MultipartState

MOVED_TO = "moved_to"
_BATCH = 1000


def copy_tables(source: Database, target: Database) -> dict[str, int]:
    """Copy every row but those of running worker processes in one transaction; returns the rows of each table.

    What is copied is one snapshot, while others may write to the source. The target must have our schema and no keys
    and no jobs. Raises InvalidState, StorageFailed when the target has not as many rows at the end; Unavailable.
    """
    copied: dict[str, int] = {}
    with _snapshot(source) as reading, target.write(unlimited=True) as writing:
        _check_is_empty(writing)
        writing.execute(sa.delete(settings))
        for table in metadata.sorted_tables:
            if table in (executors, runner_tasks):
                continue
            copied[table.name] = _copy_table(reading, writing, table)
            _advance_sequences(writing, table)
        writing.execute(sa.delete(settings).where(settings.c.name == MOVED_TO))
    return copied


def stored_blobs(database: Database) -> tuple[set[str], set[str]]:
    """Keys of the files that rows refer to, and IDs of jobs and unfinished uploads with other files to keep."""
    columns = (jobs.c.id, jobs.c.output, jobs.c.more_outputs, jobs.c.matte, jobs.c.undelivered)
    kept = (jobs.c.files_expired_at.is_(None), jobs.c.deleted_at.is_(None))
    unfinished = multipart_uploads.c.state.in_([MultipartState.OPEN, MultipartState.COMPLETING])
    with database.read() as c:
        blobs = set(c.execute(sa.select(uploads.c.blob)).scalars())
        blobs |= set(c.execute(sa.select(tus_parts.c.blob)).scalars())
        rows = [dict(row) for row in c.execute(sa.select(*columns).where(*kept)).mappings()]
        for row in rows:
            blobs |= _blobs_of_result(row) | _blobs_of_result(row["undelivered"] or {})
        blobs -= set(c.execute(sa.select(pending_deletions.c.blob)).scalars())
        owners = {row["id"] for row in rows} | set(c.execute(sa.select(tus_uploads.c.id)).scalars())
        return blobs, owners | set(c.execute(sa.select(multipart_uploads.c.id).where(unfinished)).scalars())


def _blobs_of_result(values: Mapping[str, Any]) -> set[str]:
    """``values``: a row of ``jobs``, or a result that is being delivered."""
    files = (values.get("output"), values.get("matte"), *(values.get("more_outputs") or ()))
    return {file["blob"] for file in files if file}


def mark_moved(database: Database, to: str) -> None:
    """Keep services from starting with this database, and tell them where the installation is now."""
    with database.write() as c:
        c.execute(sa.delete(settings).where(settings.c.name == MOVED_TO))
        c.execute(sa.insert(settings).values(name=MOVED_TO, value=to))


def moved_to(database: Database) -> str | None:
    """Where this installation was moved; None when it was not."""
    with database.read() as c:
        return c.execute(sa.select(settings.c.value).where(settings.c.name == MOVED_TO)).scalar_one_or_none()


def count_executors(database: Database) -> int:
    """Worker processes on record, dead ones included."""
    with database.read() as c:
        return int(c.execute(sa.select(sa.func.count()).select_from(executors)).scalar_one())


@contextmanager
def _snapshot(database: Database) -> Iterator[sa.Connection]:
    """One snapshot for all statements, on both databases."""
    if database.engine.dialect.name == "sqlite":
        with database.read() as connection:
            yield connection
        return
    with database.engine.connect() as plain:
        connection = plain.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            yield connection


def _check_is_empty(c: sa.Connection) -> None:
    for table in (keys, jobs):
        if c.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first() is not None:
            raise InvalidState(
                "The target database is in use: it has keys or jobs.",
                hint="Name an empty database, or delete the target's data first.",
            )


def _copy_table(reading: sa.Connection, writing: sa.Connection, table: sa.Table) -> int:
    count = 0
    rows = reading.execute(sa.select(table).order_by(*table.primary_key.columns).execution_options(stream_results=True))
    for batch in rows.mappings().partitions(_BATCH):
        writing.execute(sa.insert(table), [dict(row) for row in batch])
        count += len(batch)
    stored = writing.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
    if stored != count:
        raise StorageFailed(f"{table.name} has {stored} rows in the target, and {count} were copied.")
    return count


def _advance_sequences(c: sa.Connection, table: sa.Table) -> None:
    """Advance PostgreSQL's sequences past the copied rows, which do not advance them."""
    numbered: Any = table.autoincrement_column
    if c.dialect.name != "postgresql" or numbered is None:
        return
    c.exec_driver_sql(
        f"SELECT setval(pg_get_serial_sequence('{table.name}', '{numbered.name}'), max({numbered.name})) "  # noqa: S608
        f"FROM {table.name} HAVING max({numbered.name}) IS NOT NULL"
    )
