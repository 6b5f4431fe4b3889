"""One way to talk to SQLite and PostgreSQL: connections, transactions, and the database's failures as ours."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc, pool

from alphareel.db import postgres
from alphareel.db.availability import Availability, DatabaseLimits, Turns, away
from alphareel.domain.errors import Unavailable

_READ_ONLY = "alphareel_read_only"
_WAL_SECONDS = 30.0
_PROBE_SECONDS = 0.2
_QUEUE_WAITS = 60.0  # seconds that the queue waits for the database to return, instead of asking again and again
_LIMITS = DatabaseLimits()


def open_engine(url: str, limits: DatabaseLimits = _LIMITS) -> sa.Engine:
    """A pooled engine; a SQLite file is put into WAL mode, in which it stays for whoever opens it later."""
    parsed = normalized(url)
    if parsed.get_backend_name() != "sqlite":
        return sa.create_engine(parsed, pool_size=10, max_overflow=10, pool_timeout=limits.pool, pool_pre_ping=True)
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    return _open_sqlite(parsed, limits.hang, pool_size=10, max_overflow=10, pool_timeout=limits.pool)


def open_database(url: str, limits: DatabaseLimits = _LIMITS) -> "Database":
    return Database(open_engine(url, limits), limits)


def normalized(url: str) -> sa.URL:
    """The URL with the driver we use: psycopg for PostgreSQL, however the caller spelled it."""
    parsed = sa.make_url(url)
    if parsed.drivername in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    return parsed


def _open_sqlite(url: sa.URL, busy_seconds: float, **pooled: Any) -> sa.Engine:
    def prepare(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # the driver's own transactions would begin too late: see _begin_sqlite
        connection.execute(f"PRAGMA busy_timeout={round(busy_seconds * 1000)}")
        _enter_wal(connection)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    engine = sa.create_engine(url, **pooled)
    sa.event.listen(engine, "connect", prepare)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _enter_wal(connection: sqlite3.Connection) -> None:
    # The first to open a new file rewrites its header, and for that SQLite does not wait by busy_timeout: whoever
    # comes at the same moment is told at once that the file is locked. So the wait is ours.
    deadline = time.monotonic() + _WAL_SECONDS
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
    """Transactions on one database. Raises Unavailable when it does not answer, and at once while it is away.

    Reads have connections of their own, so that they never wait for writers: in WAL mode nothing else makes them wait.
    """

    def __init__(self, engine: sa.Engine, limits: DatabaseLimits = _LIMITS) -> None:
        self.engine = engine
        self.limits = limits
        self._is_sqlite = engine.dialect.name == "sqlite"
        self._turns = Turns()
        if self._is_sqlite:
            self.availability = Availability(_probe_sqlite(engine.url))
            self._reads = _open_sqlite(engine.url, limits.hang, pool_size=10, max_overflow=30, pool_timeout=limits.pool)
            self._reading = self._reads.execution_options(**{_READ_ONLY: True})
        else:
            probe = postgres.Probe(engine.url, limits)
            self.availability = Availability(probe, close=probe.close)
            postgres.listen(engine, limits, self.availability)
            self._reads = self._open_postgres(pool_size=10, max_overflow=10)
            self._reading = self._reads.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def write(self, *, unlimited: bool = False) -> Iterator[sa.Connection]:
        """One transaction, committed at the end and rolled back on any error.

        ``unlimited``: its statements may take as long as they take.
        """
        self._begin()
        turn = self._turns.turn(self.limits.lock) if self._is_sqlite else nullcontext()
        with turn, self._translate_errors():
            self.availability.check()
            with self.engine.begin() as connection, self._patience(connection, unlimited=unlimited):
                yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """One consistent view on SQLite, each statement its own on PostgreSQL; nothing is written."""
        if not self._is_sqlite:
            self._begin()
        with self._translate_errors(), self._reading.connect() as connection:
            yield connection

    def open_queue_engine(self) -> sa.Engine | None:
        """An engine for the queue on PostgreSQL, whose connections wait for a database that is away; None on SQLite."""
        return None if self._is_sqlite else self._open_postgres(waits=_QUEUE_WAITS, pool_size=20, max_overflow=10)

    def close(self) -> None:
        self.availability.stop()
        self.engine.dispose()
        self._reads.dispose()

    def _begin(self) -> None:
        if not self._is_sqlite:
            self.availability.watch()
        self.availability.check()

    def _open_postgres(self, **more: Any) -> sa.Engine:
        return postgres.open_postgres(self.engine.url, self.limits, self.availability, **more)

    @contextmanager
    def _patience(self, connection: sa.Connection, *, unlimited: bool) -> Iterator[None]:
        if self._is_sqlite or not unlimited:
            yield
            return
        driver: Any = connection.connection.driver_connection
        before, driver.patience = driver.patience, postgres.Patience(0, self.availability)
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        try:
            yield
        finally:
            driver.patience = before

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
            if _is_locked(error):
                self.availability.lose()
                self._turns.dismiss()
            raise away() from error
        except exc.DBAPIError as error:
            if error.connection_invalidated:
                raise Unavailable("The database closed the connection.", hint="Try again in a moment.") from error
            raise


def _is_locked(error: exc.SQLAlchemyError) -> bool:
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", 0) or 0
    return code & 0xFF == sqlite3.SQLITE_BUSY


def _probe_sqlite(url: sa.URL) -> Callable[[], None]:
    engine = _open_sqlite(url, _PROBE_SECONDS, poolclass=pool.NullPool)

    def ask() -> None:
        with engine.begin():
            """Whoever gets the write lock can give it back."""

    return ask
