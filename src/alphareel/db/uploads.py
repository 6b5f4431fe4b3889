"""Records of uploaded files."""

from dataclasses import replace
from pathlib import PurePosixPath

import sqlalchemy as sa

from alphareel.db import mapping
from alphareel.db.database import Database
from alphareel.db.deletion import schedule_deletion
from alphareel.db.multipart_uploads import finish_multipart
from alphareel.db.prepared import PreparedSelect
from alphareel.db.storage_quotas import StorageUsage, lock_storage
from alphareel.db.tables import pending_deletions, uploads
from alphareel.db.tus import finish_tus
from alphareel.domain.errors import StorageFailed
from alphareel.service.ports import Clock
from alphareel.service.tus.models import TusUpload
from alphareel.service.uploads.models import Upload
from alphareel.service.uploads.service import MAX_WRITE_TIME

_BY_ID = PreparedSelect(sa.select(uploads).where(uploads.c.id == sa.bindparam("upload_id")))


class UploadStore:
    """Records of uploaded files, which never change. Uploads of one key with the same content share a blob."""

    def __init__(self, database: Database, *, clock: Clock, storage: StorageUsage | None = None) -> None:
        self._database = database
        self._clock = clock
        self._storage = storage or StorageUsage(database)

    def expect_blob(self, blob: str) -> None:
        """Schedule the deletion of a blob that is about to be written; ``add_upload`` cancels it.

        So a crash during the upload leaves no blob behind.
        """
        with self._database.write() as c:
            schedule_deletion(c, (blob,), at=self._clock.now() + MAX_WRITE_TIME)

    def add_upload(self, upload: Upload, *, tus: TusUpload | None = None, multipart_id: str | None = None) -> Upload:
        """Record an upload, and return it as recorded: with the blob of an earlier upload if its content is the same.

        ``tus``: received it, and is finished in the same transaction. ``multipart_id``: the multipart upload that
        reserved its bytes, likewise. Raises StorageQuotaExceeded, StorageFull; StorageFailed if its blob was not
        expected, or too long ago; for ``tus`` also NotFound, UploadLocked.
        """
        with self._database.write() as c:
            lock_storage(c)
            if tus is not None:
                finish_tus(c, tus, upload.id, now=self._clock.now())
            self._finish_multipart(c, multipart_id, upload)
            if (same := _find_same_content(c, upload)) is not None:
                return _insert(c, replace(upload, blob=same.blob))
            self._storage.check(c, upload.key_id, upload.size)
            _confirm_blob(c, upload.blob)
            return _insert(c, upload)

    def add_copy(
        self, upload: Upload, *, tus: TusUpload | None = None, multipart_id: str | None = None
    ) -> Upload | None:
        """Record an upload whose content this key has uploaded before; None if it has not.

        It has the facts of the earlier upload. ``tus``, ``multipart_id``: as for ``add_upload``.
        """
        with self._database.write() as c:
            lock_storage(c)
            same = _find_same_content(c, upload)
            if same is None:
                return None
            if tus is not None:
                finish_tus(c, tus, upload.id, now=self._clock.now())
            self._finish_multipart(c, multipart_id, upload)
            copy = replace(same, id=upload.id, created_at=upload.created_at)
            extension = PurePosixPath(same.blob).suffix  # what an upload without a name is called everywhere
            return _insert(c, replace(copy, filename=upload.filename or f"upload{extension}"))

    def _finish_multipart(self, c: sa.Connection, multipart_id: str | None, upload: Upload) -> None:
        if multipart_id is not None:
            finish_multipart(c, multipart_id, upload.id, now=self._clock.now())

    def upload(self, upload_id: str) -> Upload | None:
        """The upload; None if there is none."""
        with self._database.read() as c:
            row = _BY_ID.first(c, upload_id=upload_id)
        return mapping.upload_from_row(row) if row is not None else None


def _find_same_content(c: sa.Connection, upload: Upload) -> Upload | None:
    """An upload of the same key with the same content, if there is one."""
    owner = uploads.c.key_id == upload.key_id if upload.key_id is not None else uploads.c.key_id.is_(None)
    where = (uploads.c.sha256 == upload.sha256, uploads.c.size == upload.size, owner)
    row = c.execute(sa.select(uploads).where(*where).limit(1)).one_or_none()
    return mapping.upload_from_row(row) if row is not None else None


def _confirm_blob(c: sa.Connection, blob: str) -> None:
    """Take the blob off the list of pending deletions, because an upload refers to it from now on."""
    if c.execute(sa.delete(pending_deletions).where(pending_deletions.c.blob == blob)).rowcount == 0:
        raise StorageFailed("The upload took too long to be stored.", hint="Send it again.")


def _insert(c: sa.Connection, upload: Upload) -> Upload:
    c.execute(sa.insert(uploads).values(mapping.upload_values(upload)))
    return upload
