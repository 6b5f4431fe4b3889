"""Deletes files without a record, as they exist after a backup of the database was restored."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING

from alphareel.service.ports import Blobs, Clock
from alphareel.telemetry.logging import get_logger

if TYPE_CHECKING:
    from alphareel.db.orphans import OrphanStore

_BATCH = 500
_INTERVAL = 24 * 3600.0
_FIRST_DELAY = 3600.0
_GRACE = timedelta(days=1)


class OrphanSweep:
    """Checks the whole store once a day. An orphan is deleted a day after it was found, if it is older than ``age``.

    The extra day is for an operator who restored the wrong backup: restoring the right one cancels the deletion.
    """

    def __init__(self, records: OrphanStore, blobs: Blobs, *, age: timedelta, clock: Clock) -> None:
        self._records = records
        self._blobs = blobs
        self._age = age
        self._clock = clock
        self._due = time.monotonic() + _FIRST_DELAY

    def sweep_when_due(self) -> None:
        """Does nothing until the next sweep is due. Raises Unavailable, StorageFailed."""
        if time.monotonic() >= self._due:
            self.sweep()
            self._due = time.monotonic() + _INTERVAL

    def sweep(self) -> None:
        now = self._clock.now()
        orphans = 0
        for batch in _batches(self._blobs.older(now - self._age)):
            orphans += self._records.schedule_orphans(batch, at=now + _GRACE)
        if orphans:
            get_logger(__name__).warning("files without a record will be removed", files=orphans, at=str(now + _GRACE))


def _batches(keys: Iterable[str]) -> Iterator[list[str]]:
    left = iter(keys)
    while batch := list(islice(left, _BATCH)):
        yield batch
