"""Runners that join with a token, and the tasks that worker processes lease to them."""

import sqlalchemy as sa
from alembic import op

from alphareel.db.tables import UtcTime

revision = "v0007"
down_revision = "v0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ar_runners",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("secret_sha256", sa.String(64), nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("revoked_at", UtcTime),
        sa.Column("last_seen_at", UtcTime),
        sa.Column("slots", sa.Integer, server_default="0", nullable=False),
        sa.Column("engines", sa.JSON, nullable=False),
        sa.Column("version", sa.String(64), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ar_runners"),
        sa.UniqueConstraint("secret_sha256", name="uq_ar_runners_secret_sha256"),
    )
    op.create_table(
        "ar_runner_tasks",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("executor_id", sa.String(200), nullable=False),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("engine", sa.String(64), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("request", sa.JSON, nullable=False),
        sa.Column("inputs", sa.JSON, nullable=False),
        sa.Column("outputs", sa.JSON, nullable=False),
        sa.Column("refused", sa.JSON, nullable=False),
        sa.Column("released", sa.JSON, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("runner_id", sa.String(64)),
        sa.Column("lease", sa.String(64)),
        sa.Column("beat", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("progress", sa.JSON(none_as_null=True)),
        sa.Column("files", sa.JSON, nullable=False),
        sa.Column("outcome", sa.JSON(none_as_null=True)),
        sa.ForeignKeyConstraint(["runner_id"], ["ar_runners.id"], name="fk_ar_runner_tasks_runner_id"),
        sa.PrimaryKeyConstraint("id", name="pk_ar_runner_tasks"),
    )
    op.create_index("ix_ar_runner_tasks_executor_id", "ar_runner_tasks", ["executor_id"])
    op.create_index("ix_ar_runner_tasks_state", "ar_runner_tasks", ["state", "created_at"])
