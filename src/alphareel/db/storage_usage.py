"""The account of stored bytes: sums over the rows that refer to files, so that there is no counter to go wrong."""

from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from alphareel.db.database import Database
from alphareel.db.locks import advisory_lock
from alphareel.db.tables import jobs, keys, uploads
from alphareel.service.uploads.quotas import Quotas, StoredBytes, check_quota, check_storage_quotas


@dataclass(frozen=True)
class StorageUsage:
    """jobs.quotas.Shelves on our tables."""

    database: Database
    quotas: Quotas = field(default_factory=Quotas)

    def stored(self, key_id: str | None) -> StoredBytes:
        with self.database.read() as c:
            mine = _uploads(_of(uploads.c.key_id, key_id)), _outputs(_of(jobs.c.key_id, key_id))
            kept, made = (int(c.execute(each).scalar_one()) for each in mine)
            return StoredBytes(kept, made, self._most(c, key_id) or None)

    def room(self, key_id: str | None, wanted: int) -> int | None:
        with self.database.read() as c:
            return self.check(c, key_id, wanted)

    def check(self, c: sa.Connection, key_id: str | None, wanted: int) -> int | None:
        """``room`` inside a transaction; exact in one that took ``lock_storage`` first."""
        left = []
        if most := self._most(c, key_id):
            used = _sum(c, _of(uploads.c.key_id, key_id), _of(jobs.c.key_id, key_id))
            left.append(check_quota(used=used, most=most, wanted=wanted))
        if self.quotas.in_all:
            left.append(
                check_storage_quotas(used=_sum(c, sa.true(), sa.true()), most=self.quotas.in_all, wanted=wanted)
            )
        return min(left) if left else None

    def _most(self, c: sa.Connection, key_id: str | None) -> int:
        own = c.execute(sa.select(keys.c.max_storage_bytes).where(keys.c.id == key_id)).scalar_one_or_none()
        return self.quotas.per_key if own is None else int(own)


def lock_storage(c: sa.Connection) -> None:
    """Whoever adds or gives up files is alone from here to the commit; taken before any row."""
    advisory_lock(c, "storage")


def _sum(c: sa.Connection, of_uploads: sa.ColumnElement[bool], of_jobs: sa.ColumnElement[bool]) -> int:
    return sum(int(c.execute(each).scalar_one()) for each in (_uploads(of_uploads), _outputs(of_jobs)))


def _uploads(which: sa.ColumnElement[bool]) -> sa.Select[Any]:
    files = sa.select(uploads.c.blob, uploads.c.size).where(which).distinct().subquery()
    return sa.select(sa.func.coalesce(sa.func.sum(files.c.size), 0))


def _outputs(which: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return sa.select(sa.func.coalesce(sa.func.sum(jobs.c.stored_bytes), 0)).where(which, jobs.c.stored_bytes > 0)


def _of(column: sa.Column[Any], key_id: str | None) -> sa.ColumnElement[bool]:
    return column == key_id if key_id is not None else column.is_(None)
