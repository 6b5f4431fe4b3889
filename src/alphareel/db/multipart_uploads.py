"""Records of multipart uploads. Each method is one transaction, and every change of a state a compare-and-set."""

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from alphareel.db.database import Database
from alphareel.db.deletion import schedule_deletion
from alphareel.db.storage_quotas import StorageUsage, lock_storage
from alphareel.db.tables import multipart_uploads
from alphareel.domain.errors import StorageFailed
from alphareel.service.files import blob_keys
from alphareel.service.ports import Clock
from alphareel.service.uploads.multipart import MAX_BEGUN, MultipartState, MultipartUpload

_UNFINISHED = (MultipartState.OPEN, MultipartState.COMPLETING)


class MultipartStore:
    """Their declared bytes count for the quota of their key until they are completed, aborted or expired."""

    def __init__(self, database: Database, *, clock: Clock, storage: StorageUsage) -> None:
        self._database = database
        self._clock = clock
        self._storage = storage

    def add(self, multipart: MultipartUpload, *, most: int) -> bool:
        """Record it and reserve its bytes; False if its key has ``most`` unfinished ones, or ten times as many in all.

        Raises StorageQuotaExceeded, StorageFull.
        """
        is_unfinished = sa.case((multipart_uploads.c.state.in_(_UNFINISHED), 1), else_=0)
        counts = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(is_unfinished), 0))
        mine = (multipart_uploads.c.key_id == multipart.key_id, multipart_uploads.c.expires_at > self._clock.now())
        with self._database.write() as c:
            lock_storage(c)
            begun, unfinished = c.execute(counts.select_from(multipart_uploads).where(*mine)).one()
            if unfinished >= most or begun >= MAX_BEGUN * most:
                return False
            self._storage.check(c, multipart.key_id, multipart.bytes)
            values = {column.name: getattr(multipart, column.name) for column in multipart_uploads.c}
            c.execute(sa.insert(multipart_uploads).values(values))
        return True

    def find(self, multipart_id: str) -> MultipartUpload | None:
        with self._database.read() as c:
            row = c.execute(sa.select(multipart_uploads).where(multipart_uploads.c.id == multipart_id)).one_or_none()
        return None if row is None else _multipart(row)

    def page(self, *, after: str, limit: int) -> tuple[MultipartUpload, ...]:
        """Those with an ID above ``after``, by ID."""
        query = sa.select(multipart_uploads).where(multipart_uploads.c.id > after).order_by(multipart_uploads.c.id)
        with self._database.read() as c:
            return tuple(map(_multipart, c.execute(query.limit(limit))))

    def claim(self, multipart_id: str, *, lease: timedelta) -> bool:
        """Claim it for a completion; False if it is not open, unless the request that claimed it has died."""
        now = self._clock.now()
        died = sa.and_(multipart_uploads.c.state == MultipartState.COMPLETING, multipart_uploads.c.lease_until <= now)
        free = sa.or_(multipart_uploads.c.state == MultipartState.OPEN, died)
        values = {"state": MultipartState.COMPLETING, "lease_until": now + lease}
        return self._change(multipart_id, free, values)

    def reopen(self, multipart_id: str) -> None:
        """Give up a completion; does nothing for one that succeeded."""
        completing = multipart_uploads.c.state == MultipartState.COMPLETING
        self._change(multipart_id, completing, {"state": MultipartState.OPEN, "lease_until": None})

    def abort(self, multipart_id: str) -> bool:
        """Free its bytes and have its parts deleted; False unless it is open or its completion has died."""
        now = self._clock.now()
        died = sa.and_(multipart_uploads.c.state == MultipartState.COMPLETING, multipart_uploads.c.lease_until <= now)
        where = (multipart_uploads.c.id == multipart_id, sa.or_(multipart_uploads.c.state == MultipartState.OPEN, died))
        with self._database.write() as c:
            change = sa.update(multipart_uploads).where(*where).values(state=MultipartState.ABORTED)
            if c.execute(change).rowcount == 0:
                return False
            schedule_deletion(c, (blob_keys.part_prefix(multipart_id),), at=now)
        return True

    def expire(self, *, late: timedelta, limit: int) -> int:
        """Forget those that expired so long ago, and delete their parts, also late ones; returns how many."""
        now = self._clock.now()
        due = sa.select(multipart_uploads.c.id).where(multipart_uploads.c.expires_at <= now - late).limit(limit)
        with self._database.read() as c:
            if c.execute(due.limit(1)).first() is None:
                return 0
        with self._database.write() as c:
            ids = c.execute(due.with_for_update()).scalars().all()
            schedule_deletion(c, tuple(map(blob_keys.part_prefix, ids)), at=now)
            c.execute(sa.delete(multipart_uploads).where(multipart_uploads.c.id.in_(ids)))
        return len(ids)

    def _change(self, multipart_id: str, where: sa.ColumnElement[bool], values: dict[str, Any]) -> bool:
        with self._database.write() as c:
            change = sa.update(multipart_uploads).where(multipart_uploads.c.id == multipart_id, where)
            return c.execute(change.values(values)).rowcount == 1


def finish_multipart(c: sa.Connection, multipart_id: str, upload_id: str, *, now: datetime) -> None:
    """Free its bytes for the upload that was made of it, in the transaction that records the upload.

    Raises StorageFailed if another completion was faster.
    """
    where = (multipart_uploads.c.id == multipart_id, multipart_uploads.c.state.in_(_UNFINISHED))
    values = {"state": MultipartState.COMPLETED, "upload_id": upload_id, "lease_until": None}
    if c.execute(sa.update(multipart_uploads).where(*where).values(values)).rowcount == 0:
        raise StorageFailed("The multipart upload was completed or aborted meanwhile.", hint="Complete it again.")
    schedule_deletion(c, (blob_keys.part_prefix(multipart_id),), at=now)


def _multipart(row: sa.Row[Any]) -> MultipartUpload:
    values = dict(row._mapping)  # noqa: SLF001
    return MultipartUpload(**{**values, "state": MultipartState(values["state"])})
