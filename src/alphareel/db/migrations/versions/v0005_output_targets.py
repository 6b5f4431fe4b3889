"""Where the outputs of a job are sent, and what of them was not sent yet."""

import sqlalchemy as sa
from alembic import op

revision = "v0005"
down_revision = "v0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("ar_jobs", sa.Column("targets", sa.JSON(none_as_null=True)))
    op.add_column("ar_jobs", sa.Column("undelivered", sa.JSON(none_as_null=True)))
