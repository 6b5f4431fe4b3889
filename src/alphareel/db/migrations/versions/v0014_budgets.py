"""A key may have a budget within the balance of its client."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("ar_keys", sa.Column("max_credits_per_month", sa.BigInteger))
