"""How long files stay: a rule for when a job's expire, and the sweep that removes what has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from alphareel.service.ports import Clock

if TYPE_CHECKING:
    from alphareel.db.retention import RetentionStore

FOR_EVER = -1
LONGEST = 10 * 366 * 24 * 3600  # seconds
UNDOWNLOADED_GRACE = timedelta(hours=1)
"""How long files that are to go at once wait for the download."""
DOWNLOADED_GRACE = timedelta(minutes=1)
"""How long they stay after it, so that a download that broke off at its end can be repeated."""

_BATCH = 100


def expiry(retention_seconds: int | None, *, ended: datetime) -> datetime | None:
    """When the files of a job go that ended then; None for never."""
    if retention_seconds is None:
        return None
    return ended + (timedelta(seconds=retention_seconds) or UNDOWNLOADED_GRACE)


@dataclass(frozen=True)
class RetentionSweeper:
    """``uploads_seconds``: how long an upload stays that no job uses; None for ever. ``empty`` deletes the blobs."""

    expirations: RetentionStore
    empty: Callable[[], None]
    uploads_seconds: int | None
    clock: Clock

    def sweep(self) -> None:
        """Remove what has expired, and finish what earlier removals left. Raises Unavailable."""
        while self.expirations.expire_jobs(limit=_BATCH) == _BATCH:
            self.empty()
        if self.uploads_seconds is not None:
            kept = timedelta(seconds=self.uploads_seconds) or UNDOWNLOADED_GRACE
            while self.expirations.expire_uploads(before=self.clock.now() - kept, limit=_BATCH) == _BATCH:
                self.empty()
        self.empty()
