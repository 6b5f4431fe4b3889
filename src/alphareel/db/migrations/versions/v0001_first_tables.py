"""The first tables: keys, uploads, jobs with their audit log, settings, executors."""

import sqlalchemy as sa
from alembic import op

from alphareel.db.tables import UtcTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_keys_and_uploads()
    _create_jobs()
    _create_job_events()
    op.create_table(
        "ar_settings",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_ar_settings"),
    )
    op.create_table(
        "ar_executors",
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("home", sa.Text, nullable=False),
        sa.Column("beat", sa.BigInteger, nullable=False),
        sa.Column("started_at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ar_executors"),
    )


def _create_keys_and_uploads() -> None:
    op.create_table(
        "ar_keys",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("secret_sha256", sa.String(64), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("client_id", sa.String(200), nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ar_keys"),
        sa.UniqueConstraint("secret_sha256", name="uq_ar_keys_secret_sha256"),
    )
    op.create_table(
        "ar_uploads",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(64)),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("content_type", sa.String(100), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("blob", sa.Text, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ar_uploads"),
        sa.ForeignKeyConstraint(["key_id"], ["ar_keys.id"], name="fk_ar_uploads_key_id"),
    )
    op.create_index("ix_ar_uploads_key_id", "ar_uploads", ["key_id"])


def _create_jobs() -> None:
    op.create_table(
        "ar_jobs",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(64)),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("options", sa.JSON, nullable=False),
        sa.Column("video_url", sa.Text, nullable=False),
        sa.Column("webhook_url", sa.Text),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("progress", sa.Float, nullable=False),
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("ticket", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("updated_at", UtcTime, nullable=False),
        sa.Column("started_at", UtcTime),
        sa.Column("completed_at", UtcTime),
        sa.Column("progress_at", UtcTime),
        sa.Column("output", sa.JSON(none_as_null=True)),
        sa.Column("engine", sa.JSON(none_as_null=True)),
        sa.Column("error", sa.Text),
        sa.Column("error_code", sa.String(64)),
        sa.Column("warnings", sa.JSON, nullable=False),
        sa.Column("request_id", sa.String(200)),
        sa.PrimaryKeyConstraint("id", name="pk_ar_jobs"),
        sa.ForeignKeyConstraint(["key_id"], ["ar_keys.id"], name="fk_ar_jobs_key_id"),
    )
    op.create_index("ix_ar_jobs_status", "ar_jobs", ["status"])
    op.create_index("ix_ar_jobs_key_id_created_at", "ar_jobs", ["key_id", "created_at", "id"])


def _create_job_events() -> None:
    op.create_table(
        "ar_job_events",
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("from_status", sa.String(16)),
        sa.Column("to_status", sa.String(16), nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("request_id", sa.String(200)),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "sequence", name="pk_ar_job_events"),
        sa.ForeignKeyConstraint(["job_id"], ["ar_jobs.id"], name="fk_ar_job_events_job_id"),
    )
