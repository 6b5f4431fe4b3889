"""Brings our tables to the present schema, under a lock, in one transaction; the engine's tables are its own affair."""

from functools import cache

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import exc

from alphareel.db.database import Database
from alphareel.db.tables import PREFIX
from alphareel.domain.errors import Unavailable

VERSION_TABLE = PREFIX + "schema_version"
_LOCK = 0x616C7068  # any number that only we lock


def upgrade(database: Database) -> None:
    """Migrate to the newest schema this version knows; safe to call from many processes at once.

    Raises Unavailable when the database was migrated by a newer version.
    """
    with database.write() as connection:  # SQLite: BEGIN IMMEDIATE is the lock
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        config = _config()
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise Unavailable(
                "The database has a schema that this version of alphareel does not know.",
                hint="Run the version that migrated it, or a newer one.",
            ) from error


def is_current(database: Database) -> bool:
    """Whether the tables can be written and have the schema this version was written for."""
    version = sa.table(VERSION_TABLE, sa.column("version_num"))
    try:
        with database.write() as connection:  # of no use is a database that can only be read
            return connection.execute(sa.select(version.c.version_num)).scalar_one_or_none() == _newest()
    except exc.ProgrammingError:  # there is no such table yet
        return False


@cache
def _newest() -> str | None:
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "alphareel.db:migrations")
    config.set_main_option("path_separator", "os")
    return config
