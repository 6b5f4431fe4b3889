"""Named locks for rules that span many rows. Take one before reading the rows; the commit releases it."""

import sqlalchemy as sa


def advisory_lock(c: sa.Connection, name: str) -> None:
    """Wait until no other transaction holds the lock. On SQLite there is only one writer, so nothing happens.

    To avoid deadlocks, lock a job's row first, then its client's account, then these. Only the lock of the storage
    (see ``lock_storage``) comes before any row.
    """
    if c.dialect.name == "postgresql":
        c.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(f"alphareel {name}", 0))))
