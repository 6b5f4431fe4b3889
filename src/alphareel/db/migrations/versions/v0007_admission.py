"""Jobs that were accepted may wait before they stand in line, and keys have limits of their own for both."""

import sqlalchemy as sa
from alembic import op

from alphareel.db.tables import UtcTime

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("ar_keys", sa.Column("max_running_jobs", sa.Integer))
    op.add_column("ar_keys", sa.Column("max_queued_jobs", sa.Integer))
    op.add_column("ar_jobs", sa.Column("queued_at", UtcTime))
    op.add_column("ar_jobs", sa.Column("admitted_at", UtcTime))
    op.execute("UPDATE ar_jobs SET queued_at = updated_at, admitted_at = updated_at WHERE run > 0")
    op.create_index("ix_ar_jobs_key_id_status", "ar_jobs", ["key_id", "status", "queued_at"])
