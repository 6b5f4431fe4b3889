"""Statements that requests run all the time."""

import sqlite3
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Dialect

Processor = Callable[[Any], Any]


class PreparedSelect:
    """A SELECT that is compiled once, with parameters for single values.

    On SQLite it goes straight to the driver: SQLAlchemy takes several times as long as SQLite itself. On PostgreSQL,
    where a request waits for the server anyway, SQLAlchemy executes it.
    """

    def __init__(self, statement: sa.Select[Any]) -> None:
        self._statement = statement
        self._compiled: _SqliteSelect | None = None

    def rows(self, c: sa.Connection, **parameters: Any) -> Sequence[Any]:
        """Rows whose columns are attributes, and a mapping in ``_mapping``, as those of SQLAlchemy."""
        if c.dialect.name == "sqlite":
            self._compiled = self._compiled or _compile(self._statement, c.dialect)
            try:
                return self._compiled.rows(c, parameters)
            except sqlite3.Error as error:  # as SQLAlchemy raises it
                wrapper: type[exc.DBAPIError] = getattr(exc, type(error).__name__, exc.DBAPIError)
                raise wrapper(self._compiled.sql, None, error) from error
        return c.execute(self._statement, parameters).all()

    def first(self, c: sa.Connection, **parameters: Any) -> Any | None:
        """The first row; None if there is none."""
        return next(iter(self.rows(c, **parameters)), None)


@dataclass(frozen=True)
class _SqliteSelect:
    """``parameters``: names in the order of their places. ``converted``: places of columns that need it, and how."""

    sql: str
    parameters: Sequence[str]
    bound: Mapping[str, Processor]
    row_type: Callable[[Sequence[Any]], Any]
    converted: Sequence[tuple[int, Processor]]

    def rows(self, c: sa.Connection, values: Mapping[str, Any]) -> Sequence[Any]:
        driver: Any = c.connection.driver_connection
        if not driver.in_transaction:
            driver.execute("BEGIN")  # one snapshot for all statements of a read; its end rolls back
        bound = self.bound
        arguments = [bound[name](values[name]) if name in bound else values[name] for name in self.parameters]
        return [self._row(stored) for stored in driver.execute(self.sql, arguments).fetchall()]

    def _row(self, stored: Sequence[Any]) -> Any:
        values = list(stored)
        for place, process in self.converted:
            if values[place] is not None:
                values[place] = process(values[place])
        return self.row_type(values)


def _compile(statement: sa.Select[Any], dialect: Dialect) -> _SqliteSelect:
    compiled = statement.compile(dialect=dialect)
    columns = list(statement.selected_columns)
    binds = {name: bind.type.dialect_impl(dialect).bind_processor(dialect) for name, bind in compiled.binds.items()}
    results = [column.type.dialect_impl(dialect).result_processor(dialect, None) for column in columns]
    # A column of JSON can store the JSON value null, which is not NULL; no processor makes anything of NULL but None.
    return _SqliteSelect(
        sql=compiled.string,
        parameters=tuple(compiled.positiontup or ()),
        bound={name: process for name, process in binds.items() if process is not None},
        row_type=_row_type([column.name for column in columns]),
        converted=tuple((place, process) for place, process in enumerate(results) if process is not None),
    )


def _row_type(names: Sequence[str]) -> Callable[[Sequence[Any]], Any]:
    class Record(namedtuple("Record", names)):  # type: ignore[misc]  # noqa: PYI024 - the names are known at run time only
        __slots__ = ()

        @property
        def _mapping(self) -> Mapping[str, Any]:
            return self._asdict()

    return Record._make
