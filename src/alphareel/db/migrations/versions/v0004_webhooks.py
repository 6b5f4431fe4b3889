"""Webhooks: each event of a job on its way to a receiver, with every attempt."""

import sqlalchemy as sa
from alembic import op

from alphareel.db.tables import UtcTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ar_webhooks",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("event", sa.String(64), nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("host", sa.String(300), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("due_at", UtcTime, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("sent_at", UtcTime),
        sa.Column("job", sa.JSON, nullable=False),
        sa.Column("attempts", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ar_webhooks"),
        sa.ForeignKeyConstraint(["job_id"], ["ar_jobs.id"], name="fk_ar_webhooks_job_id"),
        sa.UniqueConstraint("job_id", "number", name="uq_ar_webhooks_job_id_number"),
        sa.UniqueConstraint("job_id", "run", "event", name="uq_ar_webhooks_job_id_run_event"),
    )
    op.create_index("ix_ar_webhooks_state_due_at", "ar_webhooks", ["state", "due_at"])
