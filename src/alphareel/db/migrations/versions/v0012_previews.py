"""A running job names the newest small picture of what it makes."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("ar_jobs", sa.Column("preview", sa.String(200)))
