"""A job carries the trace of the request that started it to its worker."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("ar_jobs", sa.Column("traceparent", sa.String(64)))
