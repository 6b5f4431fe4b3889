"""One way to talk to SQLite and PostgreSQL: connections, transactions, and the database's failures as ours."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from alphareel.domain.errors import Unavailable

_READ_ONLY = "alphareel_read_only"
_BUSY_MILLISECONDS = 30_000


def open_engine(url: str) -> sa.Engine:
    """A pooled engine; a SQLite file is put into WAL mode, in which it stays for whoever opens it later."""
    parsed = normalised(url)
    if parsed.get_backend_name() != "sqlite":
        return sa.create_engine(parsed, pool_size=10, max_overflow=10, pool_pre_ping=True)
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(parsed, pool_size=10, max_overflow=10)
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def normalised(url: str) -> sa.URL:
    """The URL with the driver we use: psycopg for PostgreSQL, however the caller spelled it."""
    parsed = sa.make_url(url)
    if parsed.drivername in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    return parsed


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # the driver's own transactions would begin too late: see _begin_sqlite
    connection.execute(f"PRAGMA busy_timeout={_BUSY_MILLISECONDS}")
    _enter_wal(connection)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _enter_wal(connection: sqlite3.Connection) -> None:
    # The first to open a new file rewrites its header, and for that SQLite does not wait by busy_timeout: whoever
    # comes at the same moment is told at once that the file is locked. So the wait is ours.
    deadline = time.monotonic() + _BUSY_MILLISECONDS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _begin_sqlite(connection: sa.Connection) -> None:
    # A transaction that reads first and writes later cannot upgrade its lock while another writes, and fails at
    # once without waiting; so whoever may write takes the write lock at the start.
    read_only = connection.get_execution_options().get(_READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


class Database:
    """Transactions on one engine. Raises Unavailable when the database does not answer."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self._reading = engine.execution_options(**{_READ_ONLY: True})

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One transaction, committed at the end and rolled back on any error."""
        with _failures_as_ours(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """One consistent view; nothing is written."""
        with _failures_as_ours(), self._reading.connect() as connection:
            yield connection

    def close(self) -> None:
        self.engine.dispose()


@contextmanager
def _failures_as_ours() -> Iterator[None]:
    try:
        yield
    except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
        raise Unavailable("The database does not answer.", hint="Try again in a moment.") from error
    except exc.DBAPIError as error:
        if error.connection_invalidated:
            raise Unavailable("The database closed the connection.", hint="Try again in a moment.") from error
        raise
