"""A database that answers and takes no writes: the error says why, and writes succeed again without a restart."""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from dbos import _sys_db as dbos_database

from alphareel.db import write_errors
from alphareel.db.database import Database, open_database
from alphareel.db.job_reader import JobReader
from alphareel.db.tables import settings
from alphareel.domain.errors import DatabaseFull, DatabaseReadOnly, Unavailable
from alphareel.queue import dbos_engine


def put(database: Database, name: str, value: str = "value") -> None:
    with database.write() as c:
        c.execute(sa.insert(settings).values(name=name, value=value))


def names(database: Database) -> set[str]:
    with database.read() as c:
        return set(c.execute(sa.select(settings.c.name)).scalars())


class OpenedReadOnly:
    """New connections can only read while ``active``, and stay so, as those to a file that lost its permissions."""

    def __init__(self, engine: sa.Engine) -> None:
        self.active = True
        engine.dispose()
        sa.event.listen(engine, "connect", self.prepare)

    def prepare(self, connection: Any, _record: Any) -> None:
        if not self.active:
            return
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA query_only=ON")
        else:
            connection.execute("SET default_transaction_read_only = on")
            connection.commit()


def test_a_read_only_database_says_so_and_is_written_again_once_it_can_be(database: Database) -> None:
    put(database, "before")
    read_only = OpenedReadOnly(database.engine)
    for _ in range(2):
        with pytest.raises(DatabaseReadOnly, match="can only be read"):
            put(database, "refused")
    reader = JobReader(database)
    assert isinstance(reader.write_error, DatabaseReadOnly)
    with pytest.raises(DatabaseReadOnly):
        reader.is_ready()
    assert names(database) == {"before"}, "reads continue"
    read_only.active = False
    assert reader.is_ready()
    assert reader.write_error is None
    put(database, "after")
    assert names(database) == {"before", "after"}


@pytest.fixture
def full(tmp_path: Path) -> tuple[Database, Callable[[], None]]:
    """A database whose file may not grow any more, and what lets it grow."""
    from alphareel.db import migrate  # noqa: PLC0415

    database = open_database(f"sqlite:///{tmp_path / 'full.db'}")
    migrate.upgrade(database)
    put(database, "before")

    def limit(pages: int) -> None:
        with database.engine.connect() as c:  # the pool's only connection
            c.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    limit(1)
    return database, lambda: limit(1_000_000)


def fill(database: Database) -> None:
    for number in range(1000):
        put(database, f"large {number}", "x" * 100_000)


def test_a_full_disk_is_said_to_be_full_until_it_has_space(
    full: tuple[Database, Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, free = full
    with pytest.raises(DatabaseFull, match="disk of the database is full"):
        fill(database)
    assert isinstance(database.write_error, DatabaseFull)
    monkeypatch.setattr(write_errors, "MIN_FREE", 1 << 62)
    database.check_writes()  # a row fits, but not a job
    assert isinstance(database.write_error, DatabaseFull)
    monkeypatch.undo()
    free()
    database.check_writes()
    assert database.write_error is None
    put(database, "after")
    assert "before" in names(database)
    database.close()


def test_writes_are_tried_while_the_disk_is_almost_full(
    full: tuple[Database, Callable[[], None]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """So that readiness does not depend on requests that write."""
    database, _ = full
    with contextlib.closing(sqlite3.connect(tmp_path / "full.db", isolation_level=None)) as c:
        c.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    log, known = tmp_path / "full.db-wal", names(database)
    database.check_writes()
    assert log.stat().st_size == 0
    monkeypatch.setattr(write_errors, "MIN_FREE", 1 << 62)
    database.check_writes()
    assert log.stat().st_size > 0
    assert names(database) == known
    database.close()


def test_a_file_that_cannot_be_opened_is_reported_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alphareel.db.database.time.sleep", lambda _: pytest.fail("it waited"))
    database = open_database(f"sqlite:///{tmp_path}")  # a folder
    with pytest.raises(Unavailable, match="cannot be opened"), database.read():
        pass
    database.close()


@pytest.mark.parametrize("code", [sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE])
def test_the_queue_tries_again_what_a_database_refuses_that_takes_no_writes(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a workflow ends without a trace, and its job runs again or waits for a restart."""
    name = "retriable_postgres_exception"
    monkeypatch.setattr(dbos_database, name, getattr(dbos_database, name))  # restored at the end
    dbos_engine._wait_while(write_errors.refuses_writes)
    tries: list[int] = []

    @dbos_database.db_retry(initial_backoff=0.01)
    def write() -> None:
        tries.append(1)
        if len(tries) < 3:
            refused = sqlite3.OperationalError("refused")
            refused.sqlite_errorcode = code
            raise sa.exc.OperationalError("UPDATE", None, refused)

    write()
    assert len(tries) == 3
