"""Connections to and transactions on SQLite or PostgreSQL, with their errors translated to ours."""

import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc, pool

from alphareel.db import postgres
from alphareel.db.availability import Availability, DatabaseLimits, WriteQueue, no_answer
from alphareel.db.notifications import LocalNotifications, Notifications, PostgresNotifications, take_pending
from alphareel.db.tables import settings
from alphareel.db.write_errors import drop_stale_connections, has_space, write_error
from alphareel.domain.errors import InvalidRequest, Unavailable
from alphareel.telemetry.logging import get_logger

_READ_ONLY = "alphareel_read_only"
_WAL_SECONDS = 30.0
_PROBE_SECONDS = 0.2
_QUEUE_RECONNECT_SECONDS = 60.0  # how long a new connection of the queue waits for a database that is down
_DEFAULT_LIMITS = DatabaseLimits()


def open_engine(url: str, limits: DatabaseLimits = _DEFAULT_LIMITS) -> sa.Engine:
    """A pooled engine. A SQLite file is switched to WAL mode, which is stored in the file."""
    parsed = normalized(url)
    if parsed.get_backend_name() != "sqlite":
        return sa.create_engine(parsed, pool_size=10, max_overflow=10, pool_timeout=limits.pool, pool_pre_ping=True)
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    return _open_sqlite(parsed, limits.hang, pool_size=10, max_overflow=10, pool_timeout=limits.pool)


def open_database(url: str, limits: DatabaseLimits = _DEFAULT_LIMITS) -> "Database":
    return Database(open_engine(url, limits), limits)


def normalized(url: str) -> sa.URL:
    """The URL with the driver we use: psycopg for PostgreSQL, whatever it says. Raises InvalidRequest."""
    try:
        parsed = sa.make_url(url)
    except (exc.ArgumentError, ValueError):  # neither may be repeated: the URL has a password
        raise InvalidRequest(
            "The address of the database is not a URL.",
            hint="Set ALPHAREEL_DATABASE_URL to postgresql://user:password@host:5432/name; escape special characters.",
        ) from None
    if parsed.get_backend_name() in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    return parsed


def _open_sqlite(url: sa.URL, busy_seconds: float, **pool_options: Any) -> sa.Engine:
    def prepare(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # the driver would begin transactions too late, see _begin_sqlite
        connection.execute(f"PRAGMA busy_timeout={round(busy_seconds * 1000)}")
        _enter_wal(connection)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    engine = sa.create_engine(url, **pool_options)
    sa.event.listen(engine, "connect", prepare)
    sa.event.listen(engine, "begin", _begin_sqlite)
    drop_stale_connections(engine)
    return engine


def _enter_wal(connection: sqlite3.Connection) -> None:
    # Switching a new file to WAL rewrites its header, and SQLite does not apply busy_timeout to that: a second process
    # that opens the file at the same moment fails at once. So we retry ourselves.
    deadline = time.monotonic() + _WAL_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _begin_sqlite(connection: sa.Connection) -> None:
    # A transaction that reads first and writes later cannot upgrade its lock while another one writes: it fails at
    # once, without waiting. So a transaction that may write takes the write lock at its start.
    if not connection.get_execution_options().get(_READ_ONLY, False):
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        return
    driver: Any = connection.connection.driver_connection
    if driver.in_transaction:  # a prepared statement began it
        return
    driver.execute("BEGIN")  # takes no lock, so it cannot fail; a third of the time of a read through SQLAlchemy


class Database:
    """Transactions on one database.

    Raises Unavailable when the database does not answer, and at once while it is known to be down; DatabaseFull and
    DatabaseReadOnly when it answers but takes no writes. Reads have their own connection pool, so they never wait for
    writers.
    """

    def __init__(self, engine: sa.Engine, limits: DatabaseLimits = _DEFAULT_LIMITS) -> None:
        self.engine = engine
        self.limits = limits
        #: Receives the topics of ``notify`` on SQLite after each commit. PostgreSQL sends them itself.
        self.send_notification: Callable[[str], None] = lambda _topic: None
        self._is_sqlite = engine.dialect.name == "sqlite"
        self._writers = WriteQueue()
        #: Why the last write was refused, until ``check_writes`` succeeds.
        self.write_error: Unavailable | None = None
        if self._is_sqlite:
            self.availability = Availability(_probe_sqlite(engine.url))
            self._reads = _open_sqlite(engine.url, limits.hang, pool_size=10, max_overflow=30, pool_timeout=limits.pool)
            self._reading = self._reads.execution_options(**{_READ_ONLY: True})
        else:
            probe = postgres.Probe(engine.url, limits)
            self.availability = Availability(probe, close=probe.close)
            postgres.set_timeouts(engine, limits, self.availability)
            drop_stale_connections(engine)
            self._reads = self._open_postgres(pool_size=10, max_overflow=10)
            self._reading = self._reads.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def write(self, *, unlimited: bool = False) -> Iterator[sa.Connection]:
        """One transaction, committed at the end and rolled back on any error.

        ``unlimited``: no statement timeout.
        """
        self._check_up()
        turn = self._writers.turn(self.limits.lock) if self._is_sqlite else nullcontext()
        topics: list[str] = []
        with turn, self._translate_errors():
            self.availability.check()
            with self.engine.begin() as connection, self._statement_timeout(connection, unlimited=unlimited):
                try:
                    yield connection
                except BaseException:
                    if not connection.invalidated:
                        take_pending(connection)  # they would be sent by the next transaction of this connection
                    raise
                topics = take_pending(connection)
        for topic in topics:
            try:
                self.send_notification(topic)
            except Exception:  # noqa: BLE001  # it has committed, and a notification is only a hint
                get_logger(__name__).exception("notification failed", topic=topic)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A read-only connection: one snapshot for all statements on SQLite, one for each on PostgreSQL."""
        if not self._is_sqlite:
            self._check_up()
        with self._translate_errors(), self._reading.connect() as connection:
            yield connection

    def check_writes(self) -> None:
        """Write something, if a write failed or SQLite's disk is almost full. Raises what ``write`` raises."""
        if self.write_error is None and has_space(self.engine.url):
            return
        name = f"check {uuid.uuid4().hex}"
        with self.write() as connection:  # SQLite would not write a row that an UPDATE leaves as it is
            connection.execute(sa.insert(settings).values(name=name, value=""))
            connection.execute(sa.delete(settings).where(settings.c.name == name))
        if self.write_error is not None and has_space(self.engine.url):
            self.write_error = None
            get_logger(__name__).info("database can be written again")

    def open_queue_engine(self) -> sa.Engine | None:
        """An engine for the queue on PostgreSQL; new connections wait for a database that is down. None on SQLite."""
        return (
            None
            if self._is_sqlite
            else self._open_postgres(reconnect=_QUEUE_RECONNECT_SECONDS, pool_size=20, max_overflow=10)
        )

    def open_notifications(self, folder: Path) -> Notifications:
        """Notifications between all processes that use this database; on SQLite they meet in ``folder``."""
        if not self._is_sqlite:
            url = self.engine.url
            return PostgresNotifications(lambda: postgres.open_connection(url, self.limits, self.availability))
        local = LocalNotifications(folder)
        self.send_notification = local.send
        return local

    def close(self) -> None:
        self.availability.stop()
        self.engine.dispose()
        self._reads.dispose()

    def _check_up(self) -> None:
        if not self._is_sqlite:
            self.availability.watch()
        self.availability.check()

    def _open_postgres(self, **options: Any) -> sa.Engine:
        return postgres.open_postgres(self.engine.url, self.limits, self.availability, **options)

    @contextmanager
    def _statement_timeout(self, connection: sa.Connection, *, unlimited: bool) -> Iterator[None]:
        if self._is_sqlite or not unlimited:
            yield
            return
        driver: Any = connection.connection.driver_connection
        before, driver.answer_timeout = driver.answer_timeout, postgres.ResponseTimeout(0, self.availability)
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        try:
            yield
        finally:
            driver.answer_timeout = before

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except exc.TimeoutError as error:
            raise no_answer() from error
        except exc.DBAPIError as error:
            if (refused := write_error(error, self.engine.url)) is not None:
                self._report_refused(refused, error)
                raise refused from error
            if isinstance(error, exc.OperationalError | exc.InterfaceError):
                if _is_locked(error):
                    self.availability.report_down()
                    self._writers.cancel_all()
                raise no_answer() from error
            if error.connection_invalidated:
                raise Unavailable("The database closed the connection.", hint="Try again in a moment.") from error
            raise

    def _report_refused(self, refused: Unavailable, error: exc.DBAPIError) -> None:
        if self.write_error is None or self.write_error.code != refused.code:
            get_logger(__name__).error("database cannot be written", code=refused.code, cause=str(error.orig))
        self.write_error = refused


def _is_locked(error: exc.SQLAlchemyError) -> bool:
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", 0) or 0
    return code & 0xFF == sqlite3.SQLITE_BUSY


def _probe_sqlite(url: sa.URL) -> Callable[[], None]:
    engine = _open_sqlite(url, _PROBE_SECONDS, poolclass=pool.NullPool)

    def probe() -> None:
        with engine.begin():
            pass  # BEGIN IMMEDIATE took the write lock

    return probe
