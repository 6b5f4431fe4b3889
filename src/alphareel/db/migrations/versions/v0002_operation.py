"""What it takes to operate the service: keys that rotate and are counted, credits, idempotency, calls, admin audit."""

import sqlalchemy as sa
from alembic import op

from alphareel.db.tables import UtcTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    _widen_keys()
    op.add_column("ar_uploads", sa.Column("seconds", sa.Float))
    _widen_jobs()
    _create_credits()
    _create_idempotency()
    _create_calls()
    _create_admin_events()


def _widen_keys() -> None:
    op.add_column("ar_keys", sa.Column("disabled_at", UtcTime))
    op.add_column("ar_keys", sa.Column("last_used_at", UtcTime))
    op.add_column("ar_keys", sa.Column("calls", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("ar_keys", sa.Column("previous_sha256", sa.String(64)))
    op.add_column("ar_keys", sa.Column("previous_until", UtcTime))
    op.add_column("ar_keys", sa.Column("write_per_minute", sa.Integer))
    op.add_column("ar_keys", sa.Column("read_per_minute", sa.Integer))
    op.create_index("uq_ar_keys_previous_sha256", "ar_keys", ["previous_sha256"], unique=True)


def _widen_jobs() -> None:
    billing = sa.Column("billing_status", sa.String(16), nullable=False, server_default="not_billed")
    op.add_column("ar_jobs", billing)
    op.add_column("ar_jobs", sa.Column("credits", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("ar_jobs", sa.Column("price", sa.Integer))
    op.add_column("ar_jobs", sa.Column("pricing_version", sa.String(64)))


def _create_credits() -> None:
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
        sa.Column("run", sa.Integer, nullable=False, autoincrement=False),
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


def _create_calls() -> None:
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


def _create_admin_events() -> None:
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
