"""Who waits is counted at every look at a job that waits, so an index has those who do and nobody else."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    waits = sa.text("status = 'pending' AND test IS NULL")
    columns = ["admitted_at", "key_id", "queued_at", "id"]
    op.create_index("ix_ar_jobs_line", "ar_jobs", columns, sqlite_where=waits, postgresql_where=waits)
