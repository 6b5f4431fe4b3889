"""Create every table."""

import sqlalchemy as sa
from alembic import op

from alphareel.db.tables import UtcTime

revision = "v0001"
down_revision = None
branch_labels = None
depends_on = None

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite numbers only INTEGER keys by itself
_IN_QUEUE = sa.text("status = 'pending' AND test IS NULL")


def upgrade() -> None:
    _create_api_keys()
    _create_uploads()
    _create_jobs()
    _create_webhooks()
    _create_billing()
    _create_idempotency()
    _create_usage()
    _create_executors_and_settings()
    _create_pending_deletions()


def _create_api_keys() -> None:
    op.create_table(
        "ar_keys",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("secret_sha256", sa.String(64), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("client_id", sa.String(200), nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("disabled_at", UtcTime),
        sa.Column("last_used_at", UtcTime),
        sa.Column("calls", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("previous_sha256", sa.String(64)),
        sa.Column("previous_until", UtcTime),
        sa.Column("write_per_minute", sa.Integer),
        sa.Column("read_per_minute", sa.Integer),
        sa.Column("max_running_jobs", sa.Integer),
        sa.Column("max_queued_jobs", sa.Integer),
        sa.Column("max_storage_bytes", sa.BigInteger),
        sa.Column("max_credits_per_month", sa.BigInteger),
        sa.Column("test", sa.Boolean, server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ar_keys"),
        sa.UniqueConstraint("secret_sha256", name="uq_ar_keys_secret_sha256"),
    )
    op.create_index("uq_ar_keys_previous_sha256", "ar_keys", ["previous_sha256"], unique=True)
    op.create_table(
        "ar_admin_events",
        sa.Column("id", _SEQUENCE, nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.Column("request_id", sa.String(200)),
        sa.PrimaryKeyConstraint("id", name="pk_ar_admin_events"),
    )


def _create_uploads() -> None:
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
        sa.Column("seconds", sa.Float),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
        sa.Column("rate", sa.Float),
        sa.ForeignKeyConstraint(["key_id"], ["ar_keys.id"], name="fk_ar_uploads_key_id"),
        sa.PrimaryKeyConstraint("id", name="pk_ar_uploads"),
    )
    op.create_index("ix_ar_uploads_blob", "ar_uploads", ["blob"])
    op.create_index("ix_ar_uploads_created_at", "ar_uploads", ["created_at"])
    op.create_index("ix_ar_uploads_key_id", "ar_uploads", ["key_id"])
    op.create_index("ix_ar_uploads_sha256", "ar_uploads", ["sha256"])


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
        sa.Column("billing_status", sa.String(16), server_default="not_billed", nullable=False),
        sa.Column("credits", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("price", sa.Integer),
        sa.Column("pricing_version", sa.String(64)),
        sa.Column("retention_seconds", sa.Integer),
        sa.Column("files_expire_at", UtcTime),
        sa.Column("files_expired_at", UtcTime),
        sa.Column("test", sa.JSON(none_as_null=True)),
        sa.Column("stored_bytes", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("traceparent", sa.String(64)),
        sa.Column("preview", sa.String(200)),
        sa.Column("queued_at", UtcTime),
        sa.Column("admitted_at", UtcTime),
        sa.Column("deleted_at", UtcTime),
        sa.ForeignKeyConstraint(["key_id"], ["ar_keys.id"], name="fk_ar_jobs_key_id"),
        sa.PrimaryKeyConstraint("id", name="pk_ar_jobs"),
    )
    op.create_index("ix_ar_jobs_created_at", "ar_jobs", ["created_at", "id"])
    op.create_index("ix_ar_jobs_files_expire_at", "ar_jobs", ["files_expire_at"])
    op.create_index("ix_ar_jobs_key_id_created_at", "ar_jobs", ["key_id", "created_at", "id"])
    op.create_index("ix_ar_jobs_key_id_status", "ar_jobs", ["key_id", "status", "queued_at"])
    op.create_index("ix_ar_jobs_key_id_stored_bytes", "ar_jobs", ["key_id", "stored_bytes"])
    op.create_index(
        "ix_ar_jobs_line",
        "ar_jobs",
        ["admitted_at", "key_id", "queued_at", "id"],
        sqlite_where=_IN_QUEUE,
        postgresql_where=_IN_QUEUE,
    )
    op.create_index("ix_ar_jobs_status", "ar_jobs", ["status"])
    op.create_index("ix_ar_jobs_status_completed_at", "ar_jobs", ["status", "completed_at"])
    op.create_table(
        "ar_job_events",
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("sequence", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("from_status", sa.String(16)),
        sa.Column("to_status", sa.String(16), nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("request_id", sa.String(200)),
        sa.Column("reason", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["ar_jobs.id"], name="fk_ar_job_events_job_id"),
        sa.PrimaryKeyConstraint("job_id", "sequence", name="pk_ar_job_events"),
    )
    op.create_index("ix_ar_job_events_to_status_reason", "ar_job_events", ["to_status", "reason", "from_status"])
    op.create_table(
        "ar_job_uploads",
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("upload_id", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["ar_jobs.id"], name="fk_ar_job_uploads_job_id"),
        sa.PrimaryKeyConstraint("job_id", "upload_id", name="pk_ar_job_uploads"),
    )
    op.create_index("ix_ar_job_uploads_upload_id", "ar_job_uploads", ["upload_id"])


def _create_webhooks() -> None:
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
        sa.ForeignKeyConstraint(["job_id"], ["ar_jobs.id"], name="fk_ar_webhooks_job_id"),
        sa.PrimaryKeyConstraint("id", name="pk_ar_webhooks"),
        sa.UniqueConstraint("job_id", "number", name="uq_ar_webhooks_job_id_number"),
        sa.UniqueConstraint("job_id", "run", "event", name="uq_ar_webhooks_job_id_run_event"),
    )
    op.create_index("ix_ar_webhooks_state_due_at", "ar_webhooks", ["state", "due_at"])


def _create_billing() -> None:
    op.create_table(
        "ar_accounts",
        sa.Column("client_id", sa.String(200), nullable=False),
        sa.Column("balance", sa.BigInteger),
        sa.Column("updated_at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("client_id", name="pk_ar_accounts"),
    )
    op.create_table(
        "ar_ledger",
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("run", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("client_id", sa.String(200), nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("request_id", sa.String(200)),
        sa.PrimaryKeyConstraint("subject", "run", "kind", name="pk_ar_ledger"),
    )
    op.create_index("ix_ar_ledger_client_id_at", "ar_ledger", ["client_id", "at"])


def _create_idempotency() -> None:
    op.create_table(
        "ar_idempotency",
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("claim", sa.String(64)),
        sa.Column("fingerprint", sa.String(64)),
        sa.Column("status", sa.Integer),
        sa.Column("body", sa.Text),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("key_id", "name", name="pk_ar_idempotency"),
    )
    op.create_index("ix_ar_idempotency_created_at", "ar_idempotency", ["created_at"])


def _create_usage() -> None:
    op.create_table(
        "ar_calls",
        sa.Column("id", _SEQUENCE, nullable=False),
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.Column("method", sa.String(16), nullable=False),
        sa.Column("endpoint", sa.String(200), nullable=False),
        sa.Column("status_code", sa.Integer, nullable=False),
        sa.Column("request_id", sa.String(200)),
        sa.Column("job_id", sa.String(64)),
        sa.Column("error_code", sa.String(64)),
        sa.PrimaryKeyConstraint("id", name="pk_ar_calls"),
    )
    op.create_index("ix_ar_calls_at", "ar_calls", ["at"])
    op.create_index("ix_ar_calls_key_id_id", "ar_calls", ["key_id", "id"])
    op.create_table(
        "ar_call_hours",
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("hour", UtcTime, nullable=False),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("key_id", "hour", name="pk_ar_call_hours"),
    )


def _create_executors_and_settings() -> None:
    op.create_table(
        "ar_executors",
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("home", sa.Text, nullable=False),
        sa.Column("beat", sa.BigInteger, nullable=False),
        sa.Column("started_at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ar_executors"),
    )
    op.create_table(
        "ar_settings",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_ar_settings"),
    )


def _create_pending_deletions() -> None:
    op.create_table(
        "ar_discarded",
        sa.Column("blob", sa.String(500), nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("blob", name="pk_ar_discarded"),
    )
