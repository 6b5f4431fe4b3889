"""Our tables. All have the prefix ``ar_``, because the queue engine's tables are in the same database."""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

PREFIX = "ar_"


class UtcTime(sa.TypeDecorator[datetime]):
    """An aware UTC time on both databases, although SQLite stores no time zone."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)  # type: ignore[no-any-return]


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

keys = sa.Table(
    PREFIX + "keys",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("secret_sha256", sa.String(64), nullable=False, unique=True),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("client_id", sa.String(200), nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("disabled_at", UtcTime),
    sa.Column("last_used_at", UtcTime),
    sa.Column("calls", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("previous_sha256", sa.String(64)),
    sa.Column("previous_until", UtcTime),
    sa.Column("write_per_minute", sa.Integer),
    sa.Column("read_per_minute", sa.Integer),
    sa.Column("max_running_jobs", sa.Integer),
    sa.Column("max_queued_jobs", sa.Integer),
    sa.Column("max_storage_bytes", sa.BigInteger),
    sa.Column("max_credits_per_month", sa.BigInteger),
    sa.Column("test", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("deleted_at", UtcTime),
    sa.Index(f"uq_{PREFIX}keys_previous_sha256", "previous_sha256", unique=True),
)

uploads = sa.Table(
    PREFIX + "uploads",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("key_id", sa.String(64), sa.ForeignKey(keys.c.id), index=True),
    sa.Column("filename", sa.Text, nullable=False),
    sa.Column("content_type", sa.String(100), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False, index=True),
    sa.Column("blob", sa.Text, nullable=False, index=True),  # shared by uploads of one key with the same content
    sa.Column("created_at", UtcTime, nullable=False, index=True),
    sa.Column("seconds", sa.Float),
    sa.Column("width", sa.Integer),
    sa.Column("height", sa.Integer),
    sa.Column("rate", sa.Float),
)

tus_uploads = sa.Table(
    PREFIX + "tus_uploads",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("key_id", sa.String(64), sa.ForeignKey(keys.c.id), nullable=False, index=True),
    sa.Column("filename", sa.Text, nullable=False),
    sa.Column("content_type", sa.String(100), nullable=False),
    sa.Column("metadata", sa.Text, nullable=False),
    sa.Column("length", sa.BigInteger, nullable=False),
    sa.Column("offset", sa.BigInteger, nullable=False),
    sa.Column("parts", sa.Integer, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("expires_at", UtcTime, nullable=False, index=True),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("locked_until", UtcTime),
    sa.Column("upload_id", sa.String(64)),  # what it became
    sa.Column("error", sa.Text),
    sa.Column("error_code", sa.String(64)),
)

tus_parts = sa.Table(
    PREFIX + "tus_parts",
    metadata,
    sa.Column("tus_id", sa.String(64), sa.ForeignKey(tus_uploads.c.id), primary_key=True),
    sa.Column("start", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("blob", sa.Text, nullable=False),
)

multipart_uploads = sa.Table(
    PREFIX + "multipart_uploads",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("key_id", sa.String(64), sa.ForeignKey(keys.c.id), nullable=False),
    sa.Column("filename", sa.Text, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("part_bytes", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("expires_at", UtcTime, nullable=False, index=True),
    sa.Column("lease_until", UtcTime),  # of a completion that runs
    sa.Column("upload_id", sa.String(64)),  # of the upload that was made of it
    sa.Index(f"ix_{PREFIX}multipart_uploads_key_id_state", "key_id", "state"),
)

_IN_QUEUE = sa.text("status = 'pending' AND test IS NULL")

jobs = sa.Table(
    PREFIX + "jobs",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("key_id", sa.String(64), sa.ForeignKey(keys.c.id)),
    sa.Column("status", sa.String(16), nullable=False, index=True),
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
    sa.Column("billing_status", sa.String(16), nullable=False, server_default="not_billed"),
    sa.Column("credits", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("price", sa.Integer),
    sa.Column("pricing_version", sa.String(64)),
    sa.Column("retention_seconds", sa.Integer),  # null: forever
    sa.Column("files_expire_at", UtcTime, index=True),
    sa.Column("files_expired_at", UtcTime),
    sa.Column("test", sa.JSON(none_as_null=True)),
    sa.Column(
        "stored_bytes", sa.BigInteger, nullable=False, server_default="0"
    ),  # of an output that was not deleted yet
    sa.Column("traceparent", sa.String(64)),  # of the request that started it; null without tracing
    sa.Column("preview", sa.String(200)),  # blob key of the newest preview of the current attempt
    sa.Column("queued_at", UtcTime),
    sa.Column("admitted_at", UtcTime),  # null while a pending job waits because of its key's limits
    sa.Column("deleted_at", UtcTime),  # the row stays for the audit, without what the caller wrote
    sa.Column("kind", sa.String(16), nullable=False, server_default="job"),
    sa.Column("parent_id", sa.String(64), index=True),  # of an export: its job
    sa.Column("batch_id", sa.String(64), index=True),
    sa.Column("more_options", sa.JSON(none_as_null=True)),  # of the outputs after the first one
    sa.Column("more_outputs", sa.JSON(none_as_null=True)),
    sa.Column("keep_matte", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("matte", sa.JSON(none_as_null=True)),
    sa.Column("revision", sa.Integer, nullable=False, server_default="1"),
    sa.Column("task", sa.JSON(none_as_null=True)),
    sa.Column("report", sa.JSON(none_as_null=True)),
    sa.Column("downloaded", sa.JSON(none_as_null=True)),  # blobs of the outputs that were downloaded as a whole
    sa.Column("targets", sa.JSON(none_as_null=True)),  # with secrets until the job ends
    sa.Column("undelivered", sa.JSON(none_as_null=True)),  # the result while its outputs are sent to the targets
    sa.Index(f"ix_{PREFIX}jobs_created_at", "created_at", "id"),
    sa.Index(f"ix_{PREFIX}jobs_key_id_created_at", "key_id", "created_at", "id"),
    sa.Index(f"ix_{PREFIX}jobs_status_completed_at", "status", "completed_at"),
    sa.Index(f"ix_{PREFIX}jobs_key_id_stored_bytes", "key_id", "stored_bytes"),
    sa.Index(f"ix_{PREFIX}jobs_key_id_status", "key_id", "status", "queued_at"),
    sa.Index(
        f"ix_{PREFIX}jobs_line",
        "admitted_at",
        "key_id",
        "queued_at",
        "id",
        sqlite_where=_IN_QUEUE,
        postgresql_where=_IN_QUEUE,
    ),
)

job_events = sa.Table(
    PREFIX + "job_events",
    metadata,
    sa.Column("job_id", sa.String(64), sa.ForeignKey(jobs.c.id), primary_key=True),
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("from_status", sa.String(16)),
    sa.Column("to_status", sa.String(16), nullable=False),
    sa.Column("at", UtcTime, nullable=False),
    sa.Column("actor", sa.String(200), nullable=False),
    sa.Column("request_id", sa.String(200)),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Index(f"ix_{PREFIX}job_events_to_status_reason", "to_status", "reason", "from_status"),
)

job_uploads = sa.Table(
    PREFIX + "job_uploads",
    metadata,
    sa.Column("job_id", sa.String(64), sa.ForeignKey(jobs.c.id), primary_key=True),
    sa.Column("upload_id", sa.String(64), primary_key=True, index=True),
)

# Blobs, and prefixes that end in a slash, to delete from ``at`` on. For a file that is being written now, ``at`` is in
# the future; the row goes when an upload refers to the file, so a crash leaves no file behind.
pending_deletions = sa.Table(
    PREFIX + "discarded",
    metadata,
    sa.Column("blob", sa.String(500), primary_key=True),
    sa.Column("at", UtcTime, nullable=False),
)

webhooks = sa.Table(
    PREFIX + "webhooks",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("job_id", sa.String(64), sa.ForeignKey(jobs.c.id), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("run", sa.Integer, nullable=False),
    sa.Column("event", sa.String(64), nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("host", sa.String(300), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("due_at", UtcTime, nullable=False),  # while it is being sent: when the lease ends
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("sent_at", UtcTime),
    sa.Column("job", sa.JSON, nullable=False),  # a snapshot, as it was at the event
    sa.Column("attempts", sa.JSON, nullable=False),
    sa.UniqueConstraint("job_id", "number"),
    sa.UniqueConstraint("job_id", "run", "event"),
    sa.Index(f"ix_{PREFIX}webhooks_state_due_at", "state", "due_at"),
)

settings = sa.Table(
    PREFIX + "settings",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

executors = sa.Table(
    PREFIX + "executors",
    metadata,
    sa.Column("id", sa.String(200), primary_key=True),
    sa.Column("home", sa.Text, nullable=False),
    sa.Column("beat", sa.BigInteger, nullable=False),
    sa.Column("started_at", UtcTime, nullable=False),
)

# Amounts are integers in hundredths of a credit, so that sums are exact.

accounts = sa.Table(
    PREFIX + "accounts",
    metadata,
    sa.Column("client_id", sa.String(200), primary_key=True),
    sa.Column("balance", sa.BigInteger),  # null: unlimited
    sa.Column("updated_at", UtcTime, nullable=False),
)

ledger = sa.Table(
    PREFIX + "ledger",
    metadata,
    sa.Column("subject", sa.String(64), primary_key=True),  # the job's id, or the grant's
    sa.Column("run", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("client_id", sa.String(200), nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("at", UtcTime, nullable=False),
    sa.Column("actor", sa.String(200), nullable=False),
    sa.Column("request_id", sa.String(200)),
    sa.Index(f"ix_{PREFIX}ledger_client_id_at", "client_id", "at"),
)

idempotency = sa.Table(
    PREFIX + "idempotency",
    metadata,
    sa.Column("key_id", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("claim", sa.String(64)),  # token of the reservation; null once there is a response
    sa.Column("fingerprint", sa.String(64)),
    sa.Column("status", sa.Integer),
    sa.Column("body", sa.Text),
    sa.Column("created_at", UtcTime, nullable=False, index=True),
)

_Sequence = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite numbers only INTEGER keys by itself

calls = sa.Table(
    PREFIX + "calls",
    metadata,
    sa.Column("id", _Sequence, primary_key=True),
    sa.Column("key_id", sa.String(64), nullable=False),
    sa.Column("at", UtcTime, nullable=False, index=True),
    sa.Column("method", sa.String(16), nullable=False),
    sa.Column("endpoint", sa.String(200), nullable=False),
    sa.Column("status_code", sa.Integer, nullable=False),
    sa.Column("request_id", sa.String(200)),
    sa.Column("job_id", sa.String(64)),
    sa.Column("error_code", sa.String(64)),
    sa.Index(f"ix_{PREFIX}calls_key_id_id", "key_id", "id"),
)

call_hours = sa.Table(
    PREFIX + "call_hours",
    metadata,
    sa.Column("key_id", sa.String(64), primary_key=True),
    sa.Column("hour", UtcTime, primary_key=True),
    sa.Column("calls", sa.BigInteger, nullable=False),
)

admin_events = sa.Table(
    PREFIX + "admin_events",
    metadata,
    sa.Column("id", _Sequence, primary_key=True),
    sa.Column("at", UtcTime, nullable=False),
    sa.Column("actor", sa.String(200), nullable=False),
    sa.Column("action", sa.String(64), nullable=False),
    sa.Column("subject", sa.String(200), nullable=False),
    sa.Column("detail", sa.JSON, nullable=False),
    sa.Column("request_id", sa.String(200)),
)

runners = sa.Table(
    PREFIX + "runners",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("secret_sha256", sa.String(64), nullable=False, unique=True),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("revoked_at", UtcTime),
    sa.Column("last_seen_at", UtcTime),
    sa.Column("slots", sa.Integer, nullable=False, server_default="0"),
    sa.Column("engines", sa.JSON, nullable=False),
    sa.Column("version", sa.String(64), nullable=False, server_default=""),
    sa.Column("tasks_done", sa.Integer, nullable=False, server_default="0"),
    sa.Column("tasks_failed", sa.Integer, nullable=False, server_default="0"),
)

# A row lives as long as a worker process waits for the task. The holder of ``lease`` may end it; ``beat`` counts
# renewals, and the worker process takes the lease back once it stops.
runner_tasks = sa.Table(
    PREFIX + "runner_tasks",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("executor_id", sa.String(200), nullable=False, index=True),
    sa.Column("job_id", sa.String(64), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("engine", sa.String(64), nullable=False),
    sa.Column("version", sa.String(64), nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("request", sa.JSON, nullable=False),
    sa.Column("inputs", sa.JSON, nullable=False),  # blob by file name
    sa.Column("outputs", sa.JSON, nullable=False),  # file names
    sa.Column("refused", sa.JSON, nullable=False),  # runners that failed at it
    sa.Column("released", sa.JSON, nullable=False),  # runners that gave it back, once for each time
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("runner_id", sa.String(64), sa.ForeignKey(runners.c.id)),
    sa.Column("lease", sa.String(64)),
    sa.Column("beat", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("progress", sa.JSON(none_as_null=True)),
    sa.Column("files", sa.JSON, nullable=False),  # what was uploaded under this lease, by file name
    sa.Column("preview", sa.JSON(none_as_null=True)),  # the newest one, uploaded under this lease
    sa.Column("outcome", sa.JSON(none_as_null=True)),
    sa.Index(f"ix_{PREFIX}runner_tasks_state", "state", "created_at"),
)
