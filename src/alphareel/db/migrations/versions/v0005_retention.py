"""Results and sources expire: how long a job keeps its files, when they go, and when they went."""

import sqlalchemy as sa
from alembic import op

from alphareel.db.tables import UtcTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("ar_jobs", sa.Column("retention_seconds", sa.Integer))
    op.add_column("ar_jobs", sa.Column("files_expire_at", UtcTime))
    op.add_column("ar_jobs", sa.Column("files_expired_at", UtcTime))
    op.create_index("ix_ar_jobs_files_expire_at", "ar_jobs", ["files_expire_at"])
    op.create_index("ix_ar_uploads_created_at", "ar_uploads", ["created_at"])
