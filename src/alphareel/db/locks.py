"""Locks by name for rules that no single row can hold. Taken before the database looks, held until the commit."""

import sqlalchemy as sa


def advisory_lock(c: sa.Connection, name: str) -> None:
    """Wait until no other transaction holds the name. On SQLite a writer is alone anyway.

    Deadlocks are avoided by order: a job's row, then its client's account, then these, by rising breadth of use.
    """
    if c.dialect.name == "postgresql":
        c.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(f"alphareel {name}", 0))))
