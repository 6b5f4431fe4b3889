"""API keys that were deleted keep their row, without a secret, for their jobs and the audit log."""

import sqlalchemy as sa
from alembic import op

from alphareel.db.tables import UtcTime

revision = "v0003"
down_revision = "v0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("ar_keys", sa.Column("deleted_at", UtcTime))
