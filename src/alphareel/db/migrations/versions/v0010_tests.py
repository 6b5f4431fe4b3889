"""Jobs that only test a client, and keys whose jobs all do."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("ar_keys", sa.Column("test", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("ar_jobs", sa.Column("test", sa.JSON))
