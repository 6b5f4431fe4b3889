"""Run migrations on the connection that ``db/migrate.py`` passes. There is no offline mode."""

from typing import Any

from alembic import context

from alphareel.db.migrate import VERSION_TABLE
from alphareel.db.tables import PREFIX, metadata


def _is_our_table(_object: Any, name: str | None, kind: str, _reflected: bool, _compare_to: Any) -> bool:  # noqa: FBT001
    return kind != "table" or (name or "").startswith(PREFIX)


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    include_object=_is_our_table,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
