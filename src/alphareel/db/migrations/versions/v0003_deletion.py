"""Jobs and uploads can be deleted: which job uses which upload, and which blobs still have to go."""

import sqlalchemy as sa
from alembic import op

from alphareel.db.tables import UtcTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("ar_jobs", sa.Column("deleted_at", UtcTime))
    op.create_table(
        "ar_job_uploads",
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("upload_id", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "upload_id", name="pk_ar_job_uploads"),
        sa.ForeignKeyConstraint(["job_id"], ["ar_jobs.id"], name="fk_ar_job_uploads_job_id"),
    )
    op.create_index("ix_ar_job_uploads_upload_id", "ar_job_uploads", ["upload_id"])
    op.create_table(
        "ar_discarded",
        sa.Column("blob", sa.String(500), nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("blob", name="pk_ar_discarded"),
    )
