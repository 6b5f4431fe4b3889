"""Orphaned blobs: those that no row refers to."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from alphareel.db.database import Database
from alphareel.db.deletion import schedule_deletion
from alphareel.db.storage_usage import lock_storage
from alphareel.db.tables import jobs, pending_deletions, tus_uploads, uploads
from alphareel.service.files import blob_keys


class OrphanStore:
    """Finds orphaned blobs and schedules their deletion."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def give_up_unknown(self, blobs: Sequence[str], *, at: datetime) -> int:
        """Schedule the deletion, at ``at``, of those blobs that belong to no record; return how many."""
        with self._database.read() as c:
            suspects = _unknown(c, blobs)
        if not suspects:
            return 0
        with self._database.write() as c:
            lock_storage(c)
            unknown = _unknown(c, suspects)
            schedule_deletion(c, tuple(unknown), at=at)
        return len(unknown)


def _unknown(c: sa.Connection, blobs: Sequence[str]) -> list[str]:
    """Blobs with keys of our layout that belong to no record, and are not scheduled for deletion yet."""
    keys = {blob: key for blob in blobs if (key := blob_keys.parse(blob)) is not None}
    sent = [blob for blob, key in keys.items() if key.folder == blob_keys.UPLOADS]
    made = {blob: key.owner for blob, key in keys.items() if key.folder in blob_keys.JOB_FOLDERS}
    received = {blob: key.owner for blob, key in keys.items() if key.folder == blob_keys.PARTS}
    all_blobs = [*sent, *made, *received]
    noted = set(c.execute(sa.select(pending_deletions.c.blob).where(pending_deletions.c.blob.in_(all_blobs))).scalars())
    receiving = set(
        c.execute(sa.select(tus_uploads.c.id).where(tus_uploads.c.id.in_(set(received.values())))).scalars()
    )
    kept = set(c.execute(sa.select(uploads.c.blob).where(uploads.c.blob.in_(sent))).scalars())
    ours = sa.select(jobs.c.id).where(jobs.c.id.in_(set(made.values())), jobs.c.deleted_at.is_(None))
    living = set(c.execute(ours).scalars())
    return [
        *(blob for blob in sent if blob not in kept | noted),
        *(blob for blob, job_id in made.items() if job_id not in living and blob not in noted),
        *(blob for blob, tus_id in received.items() if tus_id not in receiving and blob not in noted),
    ]
