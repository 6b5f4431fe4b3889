"""Several outputs of a job, its matte, exports, proofs and batches."""

import sqlalchemy as sa
from alembic import op

revision = "v0002"
down_revision = "v0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in (
        sa.Column("kind", sa.String(16), nullable=False, server_default="job"),
        sa.Column("parent_id", sa.String(64)),
        sa.Column("batch_id", sa.String(64)),
        sa.Column("more_options", sa.JSON(none_as_null=True)),
        sa.Column("more_outputs", sa.JSON(none_as_null=True)),
        sa.Column("keep_matte", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("matte", sa.JSON(none_as_null=True)),
        sa.Column("revision", sa.Integer, nullable=False, server_default="1"),
        sa.Column("task", sa.JSON(none_as_null=True)),
        sa.Column("report", sa.JSON(none_as_null=True)),
        sa.Column("downloaded", sa.JSON(none_as_null=True)),
    ):
        op.add_column("ar_jobs", column)
    op.create_index("ix_ar_jobs_parent_id", "ar_jobs", ["parent_id"])
    op.create_index("ix_ar_jobs_batch_id", "ar_jobs", ["batch_id"])
