"""How many tasks each runner did and failed at, and the newest preview of a task."""

import sqlalchemy as sa
from alembic import op

revision = "v0008"
down_revision = "v0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("tasks_done", "tasks_failed"):
        op.add_column("ar_runners", sa.Column(name, sa.Integer, server_default="0", nullable=False))
    op.add_column("ar_runner_tasks", sa.Column("preview", sa.JSON(none_as_null=True)))
