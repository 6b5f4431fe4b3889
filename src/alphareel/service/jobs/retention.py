"""How long files are kept, and the sweep that removes expired ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from alphareel.service.ports import Clock

if TYPE_CHECKING:
    from alphareel.db.retention import RetentionStore

FOREVER = -1
MAX_RETENTION_SECONDS = 10 * 366 * 24 * 3600  # seconds
UNDOWNLOADED_GRACE = timedelta(hours=1)
"""Grace period when retention is 0 and nothing was downloaded."""
DOWNLOADED_GRACE = timedelta(minutes=1)
"""Grace period after the download, so that an interrupted one can be repeated."""

_BATCH = 100


def expiry(retention_seconds: int | None, *, ended: datetime) -> datetime | None:
    """When the files of a job that ended at ``ended`` expire; None for never."""
    if retention_seconds is None:
        return None
    return ended + (timedelta(seconds=retention_seconds) or UNDOWNLOADED_GRACE)


@dataclass(frozen=True)
class RetentionSweeper:
    """``uploads_seconds``: how long an unused upload is kept; None for forever. ``delete_pending``: deletes blobs."""

    store: RetentionStore
    delete_pending: Callable[[], None]
    uploads_seconds: int | None
    clock: Clock

    def sweep(self) -> None:
        """Remove expired files, and those that earlier deletions left. Raises Unavailable."""
        while self.store.expire_jobs(limit=_BATCH) == _BATCH:
            self.delete_pending()
        if self.uploads_seconds is not None:
            age = timedelta(seconds=self.uploads_seconds) or UNDOWNLOADED_GRACE
            while self.store.expire_uploads(before=self.clock.now() - age, limit=_BATCH) == _BATCH:
                self.delete_pending()
        self.delete_pending()
