"""Connections to PostgreSQL with timeouts on the client side; the driver itself would wait forever for a response."""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy import exc, pool

from alphareel.db.availability import Availability, DatabaseLimits

TIMED_OUT = "the database did not answer in time"
_DOWN_GRACE = 0.3  # seconds a statement may wait while the database counts as down
_IDLE_SECONDS = 30  # a process that hangs inside a transaction loses its locks after so long
_TOO_MANY_CONNECTIONS = ("too many clients", "remaining connection slots")
_DOWN = "connection failed: the database does not answer"


@dataclass
class ResponseTimeout:
    """How long a connection waits for an answer: ``statement`` seconds (0: forever), less if the database is down."""

    statement: float
    availability: Availability | None = None

    def is_over(self, waited: float) -> bool:
        down = self.availability is not None and not self.availability.is_up
        return (down and waited > _DOWN_GRACE) or (self.statement > 0 and waited > self.statement)


class Connection(psycopg.Connection[Any]):
    """psycopg's connection, which checks ``answer_timeout`` ten times a second while it waits."""

    answer_timeout = ResponseTimeout(0)

    def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
        return super().wait(self._bounded(gen), *args, **options)

    def _bounded(self, gen: Any) -> Generator[Any, Any, Any]:
        started = time.monotonic()
        try:
            awaited = next(gen)
            while True:
                ready = yield awaited
                if not ready and self.answer_timeout.is_over(time.monotonic() - started):
                    self.close()  # a late answer must not be read as that of a later statement
                    raise psycopg.OperationalError(TIMED_OUT)
                awaited = gen.send(ready)
        except StopIteration as end:
            return end.value


def open_postgres(
    url: sa.URL, limits: DatabaseLimits, availability: Availability, *, reconnect: float = 0.0, **pool_options: Any
) -> sa.Engine:
    """An engine whose connections time out.

    ``reconnect``: seconds that a new connection waits for a database that is down. ``pool_options``: for SQLAlchemy.
    """
    engine = sa.create_engine(url, pool_pre_ping=True, pool_timeout=limits.pool, **pool_options)
    set_timeouts(engine, limits, availability, reconnect=reconnect)
    return engine


def set_timeouts(
    engine: sa.Engine, limits: DatabaseLimits, availability: Availability, *, reconnect: float = 0.0
) -> None:
    """Give the connections of this engine timeouts."""

    def connect(_dialect: Any, _record: Any, args: Any, options: Any) -> Any:
        if not availability.is_up and not availability.wait(reconnect):
            raise psycopg.OperationalError(_DOWN)
        return _connect(args, options, limits, ResponseTimeout(_client_timeout(limits.statement), availability))

    sa.event.listen(engine, "do_connect", connect)
    sa.event.listen(engine, "connect", _prepare(limits))


class Probe:
    """Probes the database over its own connection, which it keeps open; raises if no answer comes in time."""

    def __init__(self, url: sa.URL, limits: DatabaseLimits) -> None:
        self._engine = sa.create_engine(url, poolclass=pool.NullPool, isolation_level="AUTOCOMMIT")
        answer_timeout = ResponseTimeout(max(0.5, limits.hang - 0.5))

        def connect(_dialect: Any, _record: Any, args: Any, options: Any) -> Any:
            return _connect(args, options, limits, answer_timeout)

        sa.event.listen(self._engine, "do_connect", connect)
        self._connection: sa.Connection | None = None

    def __call__(self) -> None:
        try:
            if self._connection is not None:
                self._connection.exec_driver_sql("SELECT 1")
                return
        except exc.DBAPIError as error:
            self.close()
            if TIMED_OUT in str(error):
                raise
        try:
            self._connection = self._engine.connect()
        except exc.DBAPIError as error:
            if not any(sign in str(error) for sign in _TOO_MANY_CONNECTIONS):  # a server that says so is up
                raise

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()


def open_connection(url: sa.URL, limits: DatabaseLimits, availability: Availability) -> Connection:
    """A connection outside of any pool, whose statements time out."""
    args, options = url.get_dialect()().create_connect_args(url)
    return _connect(args, options, limits, ResponseTimeout(_client_timeout(limits.statement), availability))


def _connect(args: Any, options: Any, limits: DatabaseLimits, answer_timeout: ResponseTimeout) -> Connection:
    timeouts = {"connect_timeout": max(2, round(limits.connect)), **options}  # psycopg waits at least two seconds
    connection: Connection = Connection.connect(*args, **timeouts)
    connection.answer_timeout = answer_timeout
    return connection


def _client_timeout(statement: float) -> float:
    """Longer than the server's timeout, so that the server ends the statement and says why."""
    return statement + 2 if statement else 0


def _prepare(limits: DatabaseLimits) -> Callable[[psycopg.Connection[Any], Any], None]:
    timeouts = {
        "statement_timeout": limits.statement,
        "lock_timeout": limits.lock,
        "idle_in_transaction_session_timeout": _IDLE_SECONDS,
    }
    statement = "; ".join(f"SET {name} = {round(seconds * 1000)}" for name, seconds in timeouts.items())

    def prepare(connection: psycopg.Connection[Any], _record: Any) -> None:
        connection.execute(statement)
        connection.commit()  # or the pool's rollback would undo the SET

    return prepare
