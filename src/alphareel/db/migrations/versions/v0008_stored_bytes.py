"""What files take is counted by key, and uploads of the same bytes are found."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("ar_keys", sa.Column("max_storage_bytes", sa.BigInteger))
    op.add_column("ar_jobs", sa.Column("stored_bytes", sa.BigInteger, nullable=False, server_default="0"))
    op.create_index("ix_ar_jobs_key_id_stored_bytes", "ar_jobs", ["key_id", "stored_bytes"])
    op.create_index("ix_ar_uploads_sha256", "ar_uploads", ["sha256"])
    op.create_index("ix_ar_uploads_blob", "ar_uploads", ["blob"])
    kept = "SELECT id, output FROM ar_jobs WHERE output IS NOT NULL AND files_expired_at IS NULL"
    connection = op.get_bind()
    for job_id, output in connection.execute(sa.text(kept)).all():
        facts = json.loads(output) if isinstance(output, str) else output
        change = sa.text("UPDATE ar_jobs SET stored_bytes = :bytes WHERE id = :id")
        connection.execute(change, {"bytes": facts["bytes"], "id": job_id})
