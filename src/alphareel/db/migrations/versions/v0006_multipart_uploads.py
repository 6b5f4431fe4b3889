"""Multipart uploads: files whose parts clients send straight to the bucket."""

import sqlalchemy as sa
from alembic import op

from alphareel.db.tables import UtcTime

revision = "v0006"
down_revision = "v0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ar_multipart_uploads",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("key_id", sa.String(64), sa.ForeignKey("ar_keys.id"), nullable=False),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("part_bytes", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("expires_at", UtcTime, nullable=False),
        sa.Column("lease_until", UtcTime),
        sa.Column("upload_id", sa.String(64)),
    )
    op.create_index("ix_ar_multipart_uploads_key_id_state", "ar_multipart_uploads", ["key_id", "state"])
    op.create_index("ix_ar_multipart_uploads_expires_at", "ar_multipart_uploads", ["expires_at"])
