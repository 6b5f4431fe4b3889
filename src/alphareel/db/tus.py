"""Records of resumable uploads and their parts. Every change by a request checks that it still holds the lock."""

from collections.abc import Iterator
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from alphareel.db.database import Database
from alphareel.db.deletion import schedule_deletion
from alphareel.db.storage_quotas import StorageUsage, lock_storage
from alphareel.db.tables import tus_parts, tus_uploads
from alphareel.domain.errors import InvalidRequest, TooManyUploads, UploadLocked
from alphareel.service.files import blob_keys
from alphareel.service.ports import Clock
from alphareel.service.tus.models import TusPart, TusUpload
from alphareel.service.tus.service import not_found, offset_mismatch

_UNFINISHED = (tus_uploads.c.upload_id.is_(None), tus_uploads.c.error_code.is_(None))
_RETRY_SECONDS = 60.0  # until another upload of the key may be finished
_CLOCK_STEP = 60.0  # a lock that would last so much longer than it may was taken before the clock was set back
_COLUMNS = tuple(field.name for field in fields(TusUpload) if field.name != "result")


class TusStore:
    def __init__(self, database: Database, *, clock: Clock, storage: StorageUsage | None = None) -> None:
        self._database = database
        self._clock = clock
        self._storage = storage or StorageUsage(database)

    def create(self, tus: TusUpload, *, most: int) -> None:
        """Record a new upload. Raises TooManyUploads if the key has ``most`` unfinished ones, and what quotas raise."""
        mine = (tus_uploads.c.key_id == tus.key_id, *_UNFINISHED, tus_uploads.c.expires_at > self._clock.now())
        with self._database.write() as c:
            lock_storage(c)
            count = c.execute(sa.select(sa.func.count()).select_from(tus_uploads).where(*mine)).scalar_one()
            if count >= most:
                raise TooManyUploads(
                    f"This key has {count} unfinished uploads, as many as it may have.",
                    hint="Finish or delete one, or wait until one expires.",
                    retry_after=_RETRY_SECONDS,
                )
            self._storage.check(c, tus.key_id, tus.length)
            c.execute(sa.insert(tus_uploads).values({name: getattr(tus, name) for name in _COLUMNS}))

    def find(self, tus_id: str) -> TusUpload | None:
        """The upload; None if there is none, or it has expired."""
        with self._database.read() as c:
            row = c.execute(sa.select(tus_uploads).where(tus_uploads.c.id == tus_id)).one_or_none()
        return None if row is None or _is_over(row, self._clock.now()) else _from_row(row)

    def lock(self, tus_id: str, *, offset: int, seconds: float) -> TusUpload:
        """Lock it for a request that appends at ``offset``. Raises NotFound, UploadLocked, OffsetMismatch."""
        now = self._clock.now()
        with self._database.write() as c:
            row = _locked_row(c, tus_id)
            if row is None or _is_over(row, now):
                raise not_found()
            if row.locked_until is not None and now < row.locked_until <= now + timedelta(
                seconds=seconds + _CLOCK_STEP
            ):
                raise UploadLocked(
                    "Another request appends to this upload.",
                    hint="Wait as long as Retry-After says, then get the offset again.",
                    retry_after=(row.locked_until - now).total_seconds(),
                )
            if row.offset != offset or row.upload_id is not None or row.error_code is not None:
                raise offset_mismatch(row.offset)
            values = {"generation": row.generation + 1, "locked_until": now + timedelta(seconds=seconds)}
            return _from_row(_update(c, tus_id, values))

    def renew(self, tus: TusUpload, *, seconds: float) -> None:
        """Keep the lock for so long; does nothing if another request took it."""
        until = self._clock.now() + timedelta(seconds=seconds)
        with self._database.write() as c:
            c.execute(sa.update(tus_uploads).where(*_holds(tus)).values(locked_until=until))

    def unlock(self, tus: TusUpload) -> None:
        """Does nothing if another request took the lock."""
        with self._database.write() as c:
            c.execute(sa.update(tus_uploads).where(*_holds(tus)).values(locked_until=None))

    def add_part(self, tus: TusUpload, part: TusPart, *, expires_at: datetime, seconds: float, most: int) -> TusUpload:
        """Record a stored part, and return the upload with its new offset.

        Raises NotFound when it was deleted, UploadLocked when another request took the lock, InvalidRequest beyond
        ``most`` parts, and what quotas raise.
        """
        with self._database.write() as c:
            lock_storage(c)
            row = _row_of_holder(c, tus)
            if row.parts >= most:
                raise InvalidRequest(
                    f"This upload came in more than {most} parts.", hint="Start again, with more bytes in each request."
                )
            self._storage.check(c, row.key_id, part.size)
            c.execute(sa.insert(tus_parts).values(tus_id=tus.id, start=part.start, size=part.size, blob=part.blob))
            values = {
                "offset": part.start + part.size,
                "parts": row.parts + 1,
                "expires_at": expires_at,
                "locked_until": self._clock.now() + timedelta(seconds=seconds),
            }
            return _from_row(_update(c, tus.id, values))

    def parts(self, tus_id: str) -> Iterator[TusPart]:
        """The parts in the order of the file."""
        columns = (tus_parts.c.start, tus_parts.c.size, tus_parts.c.blob)
        with self._database.read() as c:
            rows = c.execute(sa.select(*columns).where(tus_parts.c.tus_id == tus_id).order_by(tus_parts.c.start)).all()
        return (TusPart(*row) for row in rows)

    def refuse(self, tus: TusUpload, *, code: str, message: str) -> tuple[str, ...]:
        """Record why the file was refused; returns the prefix of its parts, which are to be deleted.

        Raises NotFound, UploadLocked.
        """
        with self._database.write() as c:
            _row_of_holder(c, tus)
            _update(c, tus.id, {"error_code": code, "error": message, "locked_until": None})
            return _drop_parts(c, tus.id, at=self._clock.now())

    def remove(self, tus_id: str) -> tuple[str, ...]:
        """Delete it, also while a request appends; returns the prefix of its parts, which are to be deleted."""
        with self._database.write() as c:
            return _remove(c, tus_id, at=self._clock.now())

    def expire(self, *, limit: int) -> int:
        """Delete up to ``limit`` uploads whose time is over; return how many."""
        now = self._clock.now()
        free = sa.or_(tus_uploads.c.locked_until.is_(None), tus_uploads.c.locked_until <= now)
        due = sa.select(tus_uploads.c.id).where(tus_uploads.c.expires_at <= now, free).limit(limit)
        with self._database.read() as c:
            if c.execute(due.limit(1)).first() is None:
                return 0
        with self._database.write() as c:
            ids = c.execute(due.order_by(tus_uploads.c.expires_at).with_for_update()).scalars().all()
            for tus_id in ids:
                _remove(c, tus_id, at=now)
        return len(ids)


def finish_tus(c: sa.Connection, tus: TusUpload, upload_id: str, *, now: datetime) -> None:
    """Record, in the transaction that adds the upload, what it became; its parts are deleted.

    Raises NotFound, UploadLocked.
    """
    _row_of_holder(c, tus)
    _update(c, tus.id, {"upload_id": upload_id, "offset": tus.length, "locked_until": None})
    _drop_parts(c, tus.id, at=now)


def _row_of_holder(c: sa.Connection, tus: TusUpload) -> sa.Row[Any]:
    row = _locked_row(c, tus.id)
    if row is None:
        raise not_found()
    if row.generation != tus.generation or row.upload_id is not None or row.error_code is not None:
        raise UploadLocked("Another request took this upload over.", hint="Get the offset, and resume there.")
    return row


def _locked_row(c: sa.Connection, tus_id: str) -> sa.Row[Any] | None:
    return c.execute(sa.select(tus_uploads).where(tus_uploads.c.id == tus_id).with_for_update()).one_or_none()


def _update(c: sa.Connection, tus_id: str, values: dict[str, Any]) -> sa.Row[Any]:
    return c.execute(
        sa.update(tus_uploads).where(tus_uploads.c.id == tus_id).values(values).returning(tus_uploads)
    ).one()


def _remove(c: sa.Connection, tus_id: str, *, at: datetime) -> tuple[str, ...]:
    _locked_row(c, tus_id)  # so that no part is added meanwhile
    prefixes = _drop_parts(c, tus_id, at=at)
    c.execute(sa.delete(tus_uploads).where(tus_uploads.c.id == tus_id))
    return prefixes


def _drop_parts(c: sa.Connection, tus_id: str, *, at: datetime) -> tuple[str, ...]:
    c.execute(sa.delete(tus_parts).where(tus_parts.c.tus_id == tus_id))
    prefixes = (blob_keys.part_prefix(tus_id),)
    schedule_deletion(c, prefixes, at=at)
    return prefixes


def _holds(tus: TusUpload) -> tuple[sa.ColumnElement[bool], ...]:
    return tus_uploads.c.id == tus.id, tus_uploads.c.generation == tus.generation, *_UNFINISHED


def _is_over(row: sa.Row[Any], now: datetime) -> bool:
    return bool(row.expires_at <= now and (row.locked_until is None or row.locked_until <= now))


def _from_row(row: sa.Row[Any]) -> TusUpload:
    return TusUpload(**row._mapping)  # noqa: SLF001
