"""Why a database takes no writes although it answers: its disk is full, or it can only be read."""

import os
import shutil
import sqlite3
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import exc

from alphareel.domain.errors import DatabaseFull, DatabaseReadOnly, Unavailable

MIN_FREE = 1024 * 1024
"""Free bytes below which SQLite's disk counts as full after a write failed: it may still fit a row, but not a job."""

_STALE = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR)
_DISK_FULL_STATE = "53100"  # of PostgreSQL
_READ_ONLY_STATE = "25006"


def write_error(error: exc.DBAPIError, url: sa.URL) -> Unavailable | None:
    """What is wrong where the database cannot be written; None for other errors. ``url``: of the database."""
    state, code = getattr(error.orig, "sqlstate", None), _code(error.orig)
    broken = code == sqlite3.SQLITE_IOERR
    if state == _DISK_FULL_STATE or code == sqlite3.SQLITE_FULL or (broken and not has_space(url)):
        return DatabaseFull(
            "The disk of the database is full, so nothing was changed.",
            hint="Try again when the operator has freed space.",
        )
    if state == _READ_ONLY_STATE or code == sqlite3.SQLITE_READONLY or (broken and _is_read_only(url)):
        return DatabaseReadOnly(
            "The database can only be read, so nothing was changed.",
            hint="Try again when the operator has made it writable.",
        )
    if broken:
        return Unavailable(f"The disk of the database failed: {error.orig}.", hint="Try again in a moment.")
    if code == sqlite3.SQLITE_CANTOPEN:
        return Unavailable("The file of the database cannot be opened.", hint="Try again in a moment.")
    return None


def refuses_writes(error: BaseException) -> bool:
    """Whether the error means that the database takes no writes, or that its disk failed."""
    cause = getattr(error, "orig", None)
    refused = _code(cause) in (sqlite3.SQLITE_FULL, *_STALE)
    return refused or getattr(cause, "sqlstate", None) in (_DISK_FULL_STATE, _READ_ONLY_STATE)


def drop_stale_connections(engine: sa.Engine) -> None:
    """Replace connections after such an error: one that was opened while the database was read-only stays so."""

    def mark(context: sa.engine.ExceptionContext) -> None:
        error = context.original_exception
        if getattr(error, "sqlstate", None) == _READ_ONLY_STATE or _code(error) in _STALE:
            context.is_disconnect = True

    sa.event.listen(engine, "handle_error", mark)


def has_space(url: sa.URL) -> bool:
    """Whether the disk of a SQLite file has space; True where that is unknown."""
    if url.get_backend_name() != "sqlite" or not url.database:
        return True
    try:
        return shutil.disk_usage(Path(url.database).parent).free >= MIN_FREE
    except OSError:
        return True


def _code(error: BaseException | None) -> int:
    """SQLite's primary result code; 0 for other errors."""
    return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


def _is_read_only(url: sa.URL) -> bool:
    return bool(url.database) and not os.access(Path(str(url.database)).parent, os.W_OK)
