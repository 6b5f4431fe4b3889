"""Resumable uploads and their parts."""

import sqlalchemy as sa
from alembic import op

from alphareel.db.tables import UtcTime

revision = "v0004"
down_revision = "v0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ar_tus_uploads",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("key_id", sa.String(64), sa.ForeignKey("ar_keys.id"), nullable=False),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("content_type", sa.String(100), nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("length", sa.BigInteger, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column("parts", sa.Integer, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("expires_at", UtcTime, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("locked_until", UtcTime),
        sa.Column("upload_id", sa.String(64)),
        sa.Column("error", sa.Text),
        sa.Column("error_code", sa.String(64)),
    )
    op.create_index("ix_ar_tus_uploads_key_id", "ar_tus_uploads", ["key_id"])
    op.create_index("ix_ar_tus_uploads_expires_at", "ar_tus_uploads", ["expires_at"])
    op.create_table(
        "ar_tus_parts",
        sa.Column("tus_id", sa.String(64), sa.ForeignKey("ar_tus_uploads.id"), primary_key=True),
        sa.Column("start", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("blob", sa.Text, nullable=False),
    )
