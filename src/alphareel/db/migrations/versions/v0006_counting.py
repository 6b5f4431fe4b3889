"""What metrics count is found by index."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_ar_jobs_status_completed_at", "ar_jobs", ["status", "completed_at"])
    op.create_index("ix_ar_job_events_to_status_reason", "ar_job_events", ["to_status", "reason", "from_status"])
