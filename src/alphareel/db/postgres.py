"""Connections to PostgreSQL that give up: the driver itself would wait for an answer for ever."""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy import exc, pool

from alphareel.db.availability import Availability, DatabaseLimits

LATE = "the database did not answer in time"
_SUSPICIOUS = 0.3  # seconds without an answer after which it matters that the database is away
_IDLE_SECONDS = 30  # a process that halts inside of a transaction keeps its locks no longer
_CROWDED = ("too many clients", "remaining connection slots")
_NOBODY_THERE = "connection failed: the database does not answer"


@dataclass
class Patience:
    """How long a connection waits for an answer: ``statement`` seconds (0: for ever), unless the database is away."""

    statement: float
    availability: Availability | None = None

    def is_over(self, waited: float) -> bool:
        gone = self.availability is not None and not self.availability.is_up
        return (gone and waited > _SUSPICIOUS) or (self.statement > 0 and waited > self.statement)


class Connection(psycopg.Connection[Any]):
    """psycopg's, which asks its ``patience`` ten times a second while it waits."""

    patience = Patience(0)

    def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
        return super().wait(self._bounded(gen), *args, **options)

    def _bounded(self, gen: Any) -> Generator[Any, Any, Any]:
        began = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and self.patience.is_over(time.monotonic() - began):
                    self.close()  # what comes later is nobody's answer any more
                    raise psycopg.OperationalError(LATE)
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value


def open_postgres(
    url: sa.URL, limits: DatabaseLimits, availability: Availability, *, waits: float = 0.0, **pooled: Any
) -> sa.Engine:
    """An engine whose connections give up. ``waits``: seconds that a new connection waits for a database that is away.

    ``pooled``: arguments of the pool.
    """
    engine = sa.create_engine(url, pool_pre_ping=True, pool_timeout=limits.pool, **pooled)
    listen(engine, limits, availability, waits=waits)
    return engine


def listen(engine: sa.Engine, limits: DatabaseLimits, availability: Availability, *, waits: float = 0.0) -> None:
    """Make the connections of this engine give up."""

    def connect(_dialect: Any, _record: Any, words: Any, options: Any) -> Any:
        if not availability.is_up and not availability.wait(waits):
            raise psycopg.OperationalError(_NOBODY_THERE)
        return _connect(words, options, limits, Patience(_beyond(limits.statement), availability))

    sa.event.listen(engine, "do_connect", connect)
    sa.event.listen(engine, "connect", _prepare(limits))


class Probe:
    """Asks over a connection of its own, which it keeps; raises when no answer comes in time."""

    def __init__(self, url: sa.URL, limits: DatabaseLimits) -> None:
        self._engine = sa.create_engine(url, poolclass=pool.NullPool, isolation_level="AUTOCOMMIT")
        patience = Patience(max(0.5, limits.hang - 0.5))

        def connect(_dialect: Any, _record: Any, words: Any, options: Any) -> Any:
            return _connect(words, options, limits, patience)

        sa.event.listen(self._engine, "do_connect", connect)
        self._kept: sa.Connection | None = None

    def __call__(self) -> None:
        try:
            if self._kept is not None:
                self._kept.exec_driver_sql("SELECT 1")
                return
        except exc.DBAPIError as error:
            self.close()
            if LATE in str(error):
                raise
        try:
            self._kept = self._engine.connect()
        except exc.DBAPIError as error:
            if not any(sign in str(error) for sign in _CROWDED):  # whoever says that is alive
                raise

    def close(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.invalidate()
            kept.close()


def _connect(words: Any, options: Any, limits: DatabaseLimits, patience: Patience) -> Connection:
    given = {"connect_timeout": max(2, round(limits.connect)), **options}  # psycopg waits two seconds at least
    made: Connection = Connection.connect(*words, **given)
    made.patience = patience
    return made


def _beyond(statement: float) -> float:
    """The server gives up first, if it still can, and says why."""
    return statement + 2 if statement else 0


def _prepare(limits: DatabaseLimits) -> Callable[[psycopg.Connection[Any], Any], None]:
    wanted = {
        "statement_timeout": limits.statement,
        "lock_timeout": limits.lock,
        "idle_in_transaction_session_timeout": _IDLE_SECONDS,
    }
    statement = "; ".join(f"SET {name} = {round(seconds * 1000)}" for name, seconds in wanted.items())

    def prepare(connection: psycopg.Connection[Any], _record: Any) -> None:
        connection.execute(statement)
        connection.commit()  # the pool rolls back what is returned to it, and a bare SET with it

    return prepare
