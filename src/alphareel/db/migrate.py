"""Migrations of our own tables. DBOS migrates its tables itself (see ``queue/dbos_engine.py``)."""

from functools import cache

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
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
    with database.write() as connection:  # SQLite: BEGIN IMMEDIATE is the lock
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        config = _config()
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
    version = sa.table(VERSION_TABLE, sa.column("version_num"))
    try:
        with database.write() as connection:  # a database that can only be read is not good enough
            return connection.execute(sa.select(version.c.version_num)).scalar_one_or_none() == _newest_revision()
    except exc.ProgrammingError:  # the table does not exist yet
        return False


@cache
def _newest_revision() -> str | None:
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "alphareel.db:migrations")
    config.set_main_option("path_separator", "os")
    return config
