"""Uploads, keys and installation-wide values behind their ports: rows that are added and read, hardly ever changed."""

from dataclasses import replace

import sqlalchemy as sa
from sqlalchemy import exc

from alphareel.db import mapping
from alphareel.db.database import Database
from alphareel.db.deletion import schedule_deletion
from alphareel.db.storage_usage import StorageUsage, lock_storage
from alphareel.db.tables import keys, pending_deletions, settings, uploads
from alphareel.domain.errors import StorageFailed
from alphareel.service.api_keys.models import ApiKey
from alphareel.service.ports import Clock
from alphareel.service.uploads.models import Upload
from alphareel.service.uploads.service import LONGEST_WRITE


class UploadStore:
    """UploadStore on our tables."""

    def __init__(self, database: Database, *, clock: Clock, stock: StorageUsage | None = None) -> None:
        self._database = database
        self._clock = clock
        self._stock = stock or StorageUsage(database)

    def expect_blob(self, blob: str) -> None:
        with self._database.write() as c:
            schedule_deletion(c, (blob,), at=self._clock.now() + LONGEST_WRITE)

    def add_upload(self, upload: Upload) -> Upload:
        with self._database.write() as c:
            lock_storage(c)
            if (known := _same_bytes(c, upload)) is not None:
                return _add(c, replace(upload, blob=known.blob))
            self._stock.check(c, upload.key_id, upload.size)
            _meet(c, upload.blob)
            return _add(c, upload)

    def add_copy(self, upload: Upload) -> Upload | None:
        with self._database.write() as c:
            lock_storage(c)
            known = _same_bytes(c, upload)
            if known is None:
                return None
            named = replace(known, id=upload.id, created_at=upload.created_at)
            return _add(c, replace(named, filename=upload.filename or known.filename))

    def upload(self, upload_id: str) -> Upload | None:
        with self._database.read() as c:
            row = c.execute(sa.select(uploads).where(uploads.c.id == upload_id)).one_or_none()
        return mapping.upload_from_row(row) if row is not None else None


def _same_bytes(c: sa.Connection, upload: Upload) -> Upload | None:
    """An upload of the same key with the same content."""
    owner = uploads.c.key_id == upload.key_id if upload.key_id is not None else uploads.c.key_id.is_(None)
    same = (uploads.c.sha256 == upload.sha256, uploads.c.size == upload.size, owner)
    row = c.execute(sa.select(uploads).where(*same).limit(1)).one_or_none()
    return mapping.upload_from_row(row) if row is not None else None


def _meet(c: sa.Connection, blob: str) -> None:
    """The blob that was expected is there and is referred to from now on."""
    if c.execute(sa.delete(pending_deletions).where(pending_deletions.c.blob == blob)).rowcount == 0:
        raise StorageFailed("The upload took too long to be stored.", hint="Send it again.")


def _add(c: sa.Connection, upload: Upload) -> Upload:
    c.execute(sa.insert(uploads).values(mapping.upload_values(upload)))
    return upload


class ApiKeyStore:
    """ApiKeyStore on our tables; holds SHA-256 of secrets, never a secret."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add_key(self, *, key_id: str, secret_sha256: str, fingerprint: str, client_id: str, note: str) -> ApiKey | None:
        values = {
            "id": key_id,
            "secret_sha256": secret_sha256,
            "fingerprint": fingerprint,
            "client_id": client_id,
            "note": note,
            "enabled": True,
            "created_at": self._clock.now(),
        }
        try:
            with self._database.write() as c:
                return mapping.key_from_row(c.execute(sa.insert(keys).values(values).returning(keys)).one())
        except exc.IntegrityError:
            return None

    def replace_secret(self, key_id: str, *, secret_sha256: str, fingerprint: str) -> bool:
        change = sa.update(keys).where(keys.c.id == key_id)
        with self._database.write() as c:
            values = {"secret_sha256": secret_sha256, "fingerprint": fingerprint}
            return c.execute(change.values(values)).rowcount == 1

    def key_by_secret(self, secret_sha256: str) -> ApiKey | None:
        rotated = sa.and_(keys.c.previous_sha256 == secret_sha256, keys.c.previous_until > self._clock.now())
        with self._database.read() as c:
            row = c.execute(sa.select(keys).where((keys.c.secret_sha256 == secret_sha256) | rotated)).first()
        return mapping.key_from_row(row) if row is not None else None

    def keys(self) -> tuple[ApiKey, ...]:
        with self._database.read() as c:
            return tuple(map(mapping.key_from_row, c.execute(sa.select(keys).order_by(keys.c.created_at, keys.c.id))))

    def key_ids(self, client_id: str) -> tuple[str, ...]:
        with self._database.read() as c:
            return tuple(c.execute(sa.select(keys.c.id).where(keys.c.client_id == client_id)).scalars())

    def set_setting_once(self, name: str, value: str) -> str:
        known = sa.select(settings.c.value).where(settings.c.name == name)
        try:
            with self._database.write() as c:
                stored = c.execute(known).scalar_one_or_none()
                if stored is None:
                    c.execute(sa.insert(settings).values(name=name, value=value))
                return stored or value
        except exc.IntegrityError:  # another process stored one between our look and our insert
            with self._database.read() as c:
                return str(c.execute(known).scalar_one())
