"""Storage quotas: bytes are summed over the rows that refer to files, so no counter can drift."""

from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from alphareel.db.database import Database
from alphareel.db.locks import advisory_lock
from alphareel.db.tables import jobs, keys, multipart_uploads, tus_uploads, uploads
from alphareel.service.settings import StorageSettings
from alphareel.service.uploads.storage_quotas import StoredBytes, check_quota, check_storage_quotas

_OWN_QUOTA = sa.select(keys.c.max_storage_bytes).where(keys.c.id == sa.bindparam("key_id"))  # built once


@dataclass(frozen=True)
class StorageUsage:
    """How many bytes a key, and everybody, stores. Every answer is one consistent view of the database."""

    database: Database
    settings: StorageSettings = field(default_factory=StorageSettings)

    def stored(self, key_id: str | None) -> StoredBytes:
        """Bytes that a key stores now, and its quota."""
        with self.database.read() as c:
            queries = (
                _uploads(_is_of(uploads.c.key_id, key_id)),
                _received(_is_of(tus_uploads.c.key_id, key_id)),
                _reserved(_is_of(multipart_uploads.c.key_id, key_id)),
                _outputs(_is_of(jobs.c.key_id, key_id)),
            )
            *upload_bytes, output_bytes = (int(c.execute(query).scalar_one()) for query in queries)
            return StoredBytes(sum(upload_bytes), output_bytes, self._quota(c, key_id) or None)

    def remaining(self, key_id: str | None, size: int) -> int | None:
        """Bytes that this key may still add, None if unlimited.

        Raises StorageQuotaExceeded, StorageFull if ``size`` more bytes do not fit.
        """
        with self.database.read() as c:
            return self.check(c, key_id, size)

    def check(self, c: sa.Connection, key_id: str | None, size: int) -> int | None:
        """``remaining`` inside a transaction. It is exact if the transaction called ``lock_storage`` first."""
        free = []
        if quota := self._quota(c, key_id):
            used = _sum(
                c,
                _is_of(uploads.c.key_id, key_id),
                _is_of(tus_uploads.c.key_id, key_id),
                _is_of(multipart_uploads.c.key_id, key_id),
                _is_of(jobs.c.key_id, key_id),
            )
            free.append(check_quota(used=used, most=quota, size=size))
        if self.settings.max_bytes:
            used = _sum(c, sa.true(), sa.true(), sa.true(), sa.true())
            free.append(check_storage_quotas(used=used, most=self.settings.max_bytes, size=size))
        return min(free) if free else None

    def _quota(self, c: sa.Connection, key_id: str | None) -> int:
        own = c.execute(_OWN_QUOTA, {"key_id": key_id}).scalar_one_or_none()
        return self.settings.max_bytes_per_key if own is None else int(own)


def lock_storage(c: sa.Connection) -> None:
    """Lock the rows that account for files until the commit. Call it before locking any row."""
    advisory_lock(c, "storage")


def _sum(
    c: sa.Connection,
    of_uploads: sa.ColumnElement[bool],
    of_tus: sa.ColumnElement[bool],
    of_multipart: sa.ColumnElement[bool],
    of_jobs: sa.ColumnElement[bool],
) -> int:
    queries = (_uploads(of_uploads), _received(of_tus), _reserved(of_multipart), _outputs(of_jobs))
    return sum(int(c.execute(query).scalar_one()) for query in queries)


def _uploads(which: sa.ColumnElement[bool]) -> sa.Select[Any]:
    files = sa.select(uploads.c.blob, uploads.c.size).where(which).distinct().subquery()
    return sa.select(sa.func.coalesce(sa.func.sum(files.c.size), 0))


def _received(which: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Bytes of files that are being received in parts."""
    unfinished = (tus_uploads.c.upload_id.is_(None), tus_uploads.c.error_code.is_(None))
    return sa.select(sa.func.coalesce(sa.func.sum(tus_uploads.c.offset), 0)).where(which, *unfinished)


def _outputs(which: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return sa.select(sa.func.coalesce(sa.func.sum(jobs.c.stored_bytes), 0)).where(which, jobs.c.stored_bytes > 0)


def _reserved(which: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Bytes that unfinished multipart uploads have declared."""
    unfinished = multipart_uploads.c.state.in_(("open", "completing"))
    return sa.select(sa.func.coalesce(sa.func.sum(multipart_uploads.c.bytes), 0)).where(which, unfinished)


def _is_of(column: sa.Column[Any], key_id: str | None) -> sa.ColumnElement[bool]:
    return column == key_id if key_id is not None else column.is_(None)
