"""Orphaned blobs: those that no row refers to."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from alphareel.db.database import Database
from alphareel.db.deletion import schedule_deletion
from alphareel.db.storage_quotas import lock_storage
from alphareel.db.tables import jobs, multipart_uploads, pending_deletions, tus_uploads, uploads
from alphareel.service.files import blob_keys


class OrphanStore:
    """Finds orphaned blobs and schedules their deletion."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def schedule_orphans(self, blobs: Sequence[str], *, at: datetime) -> int:
        """Schedule the deletion, at ``at``, of those of the blobs that belong to no record; return how many."""
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
    """Blobs with keys of our layout that belong to nothing, and are not scheduled for deletion yet."""
    keys = {blob: key for blob in blobs if (key := blob_keys.parse(blob)) is not None}
    uploaded_blobs = [blob for blob, key in keys.items() if key.folder == blob_keys.UPLOADS]
    job_of_blob = {blob: key.owner for blob, key in keys.items() if key.folder in blob_keys.JOB_FOLDERS}
    parts = {blob: key.owner for blob, key in keys.items() if key.folder == blob_keys.PARTS}
    noted = set(
        c.execute(
            sa.select(pending_deletions.c.blob).where(
                pending_deletions.c.blob.in_([*uploaded_blobs, *job_of_blob, *parts])
            )
        ).scalars()
    )
    kept = set(c.execute(sa.select(uploads.c.blob).where(uploads.c.blob.in_(uploaded_blobs))).scalars())
    ours = sa.select(jobs.c.id).where(jobs.c.id.in_(set(job_of_blob.values())), jobs.c.deleted_at.is_(None))
    living = set(c.execute(ours).scalars())
    begun = sa.select(multipart_uploads.c.id).where(multipart_uploads.c.id.in_(set(parts.values())))
    living |= set(c.execute(begun).scalars())
    receiving = sa.select(tus_uploads.c.id).where(tus_uploads.c.id.in_(set(parts.values())))
    living |= set(c.execute(receiving).scalars())
    return [
        *(blob for blob in uploaded_blobs if blob not in kept | noted),
        *(blob for blob, owner in (job_of_blob | parts).items() if owner not in living and blob not in noted),
    ]
