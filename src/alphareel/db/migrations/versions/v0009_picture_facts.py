"""What an estimate needs is kept of an upload: the size of its picture and its frame rate."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("ar_uploads", sa.Column("width", sa.Integer))
    op.add_column("ar_uploads", sa.Column("height", sa.Integer))
    op.add_column("ar_uploads", sa.Column("rate", sa.Float))
