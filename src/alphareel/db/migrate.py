"""Migrations of our own tables. DBOS migrates its tables itself (see ``queue/dbos_engine.py``)."""

from functools import cache
from importlib.resources import files

import sqlalchemy as sa
from sqlalchemy import exc

from alphareel.db.database import Database
from alphareel.db.tables import PREFIX
from alphareel.domain.errors import Unavailable

VERSION_TABLE = PREFIX + "schema_version"
_LOCK = 0x616C7068  # the number of our advisory lock; any number that nobody else uses


def upgrade(database: Database) -> None:
    """Migrate to the newest schema, in one transaction. Many processes may call this at once.

    Raises Unavailable when another version of alphareel created or migrated the database and this version has no
    migration from its schema.
    """
    if _is_newest(database):
        return
    # Importing Alembic takes a second, which only a start that migrates has to spend.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.migration import MigrationContext  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "alphareel.db:migrations")
    config.set_main_option("path_separator", "os")
    with database.write() as connection:  # SQLite: BEGIN IMMEDIATE is the lock
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            revision = MigrationContext.configure(
                connection, opts={"version_table": VERSION_TABLE}
            ).get_current_revision()
            raise Unavailable(
                f"The database has schema revision {revision}, which this version of alphareel cannot migrate.",
                hint="Start with an empty data folder (or an empty PostgreSQL database), or run the version of "
                "alphareel that wrote this one.",
            ) from error


def is_current(database: Database) -> bool:
    """Whether the tables can be written and have the schema of this version."""
    try:
        with database.write() as connection:  # a database that can only be read is not good enough
            return _revision(connection) == newest_revision()
    except exc.ProgrammingError:  # the table does not exist yet
        return False


@cache
def newest_revision() -> str:
    """The revision of this version's schema: the highest of the migrations, whose files begin with it."""
    names = (entry.name for entry in (files("alphareel.db.migrations") / "versions").iterdir())
    return max(name.partition("_")[0] for name in names if name.startswith("v"))


def _is_newest(database: Database) -> bool:
    with database.read() as connection:
        return sa.inspect(connection).has_table(VERSION_TABLE) and _revision(connection) == newest_revision()


def _revision(connection: sa.Connection) -> str | None:
    version = sa.table(VERSION_TABLE, sa.column("version_num"))
    revision: str | None = connection.execute(sa.select(version.c.version_num)).scalar_one_or_none()
    return revision
