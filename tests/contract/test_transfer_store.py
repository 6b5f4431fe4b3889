"""Copying all tables between databases of either kind."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from alphareel.db import migrate, transfer
from alphareel.db.database import Database, open_engine
from alphareel.db.tables import (
    UtcTime,
    admin_events,
    executors,
    jobs,
    metadata,
    multipart_uploads,
    runner_tasks,
    settings,
    tus_parts,
    uploads,
)
from alphareel.domain.errors import InvalidState

OF_WORKERS = (executors, runner_tasks)
AT = datetime(2026, 11, 29, 1, 2, 3, 456789, tzinfo=UTC)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Database]:
    database = Database(open_engine(f"sqlite:///{tmp_path / 'other.db'}"))
    migrate.upgrade(database)
    yield database
    database.close()


def value(column: sa.Column[Any]) -> Any:
    """Something of the column's type, with every trouble that the type may make."""
    if isinstance(column.type, UtcTime):
        return AT
    if isinstance(column.type, sa.JSON):
        return {"name": "Žižka \U0001f3ac", "list": [1, 2.5, None, True]}
    if isinstance(column.type, sa.Boolean):
        return True
    if isinstance(column.type, sa.Float):
        return 0.1 + 0.2
    if isinstance(column.type, sa.BigInteger):
        return 2**40 if not column.primary_key else 7
    if isinstance(column.type, sa.Integer):
        return 3
    return "one"


def fill(database: Database) -> dict[str, dict[str, Any]]:
    """One row in each table."""
    rows = {t.name: {c.name: value(c) for c in t.columns} for t in metadata.sorted_tables}
    with database.write() as c:
        for table in metadata.sorted_tables:
            if table is settings:
                c.execute(sa.delete(settings))
            c.execute(sa.insert(table).values(rows[table.name]))
    return rows


@pytest.mark.parametrize("way", ["to sqlite", "from sqlite"])
def test_every_row_arrives_as_it_was_but_those_of_workers(way: str, database: Database, other: Database) -> None:
    source, target = (database, other) if way == "to sqlite" else (other, database)
    rows = fill(source)
    copied = transfer.copy_tables(source, target)
    assert set(copied) == {t.name for t in metadata.sorted_tables} - {table.name for table in OF_WORKERS}
    with target.read() as c:
        for table in metadata.sorted_tables:
            found = [dict(row) for row in c.execute(sa.select(table)).mappings()]
            assert found == ([] if table in OF_WORKERS else [rows[table.name]]), table.name


def test_new_rows_are_numbered_after_those_that_were_copied(database: Database, other: Database) -> None:
    fill(other)
    transfer.copy_tables(other, database)
    new = {c.name: value(c) for c in admin_events.columns if c.name != "id"}
    with database.write() as c:
        assert c.execute(sa.insert(admin_events).values(new).returning(admin_events.c.id)).scalar_one() == 8


def test_a_target_in_use_is_refused_and_keeps_its_rows(database: Database, other: Database) -> None:
    fill(database)
    fill(other)
    with pytest.raises(InvalidState, match="in use"):
        transfer.copy_tables(other, database)
    with database.read() as c:
        assert c.execute(sa.select(sa.func.count()).select_from(settings)).scalar_one() == 1


def test_a_backup_needs_what_rows_refer_to_and_the_parts_of_unfinished_uploads(other: Database) -> None:
    rows = fill(other)
    file = {"blob": "outputs/one/1/result.webm"}
    more = [{"blob": "outputs/one/1/mov.mov"}]
    sent = {"output": {"blob": "outputs/one/2/result.webm"}, "more_outputs": [{"blob": "outputs/one/2/mov.mov"}]}
    values = {"output": file, "more_outputs": more, "matte": {"blob": "mattes/one/1/m.mkv"}, "undelivered": sent}
    states = ("open", "completing", "completed", "aborted")
    begun = [{**rows[multipart_uploads.name], "id": state, "state": state} for state in states]
    with other.write() as c:
        c.execute(sa.update(jobs).values(**values, files_expired_at=None, deleted_at=None))
        c.execute(sa.update(uploads).values(blob="uploads/a.mp4"))
        c.execute(sa.update(tus_parts).values(blob="parts/t/0.1"))
        c.execute(sa.insert(multipart_uploads).values(begun))
    blobs, owners = transfer.stored_blobs(other)
    outputs = {f"outputs/one/{n}/{name}" for n in (1, 2) for name in ("result.webm", "mov.mov")}
    assert blobs == {"uploads/a.mp4", "parts/t/0.1", "mattes/one/1/m.mkv", *outputs}
    assert owners == {"one", "open", "completing"}


def test_the_source_knows_where_it_was_moved_and_the_target_does_not(database: Database, other: Database) -> None:
    transfer.mark_moved(other, "postgresql://db/alphareel")
    assert transfer.moved_to(other) == "postgresql://db/alphareel"
    transfer.copy_tables(other, database)
    assert transfer.moved_to(database) is None
