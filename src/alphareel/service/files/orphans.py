"""Files that no record speaks of, as after a restored backup of the database: noted for removal, and removed later."""

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
_ROUND = 24 * 3600.0
_FIRST_ROUND = 3600.0
_GRACE = timedelta(days=1)


class OrphanSweep:
    """Looks through the whole store once a day. A file is left alone until it is ``age`` old, and a day longer.

    The second day is for an operator who restored the wrong backup: with the right one the note is gone.
    """

    def __init__(self, records: OrphanStore, blobs: Blobs, *, age: timedelta, clock: Clock) -> None:
        self._records = records
        self._blobs = blobs
        self._age = age
        self._clock = clock
        self._due = time.monotonic() + _FIRST_ROUND

    def sweep_when_due(self) -> None:
        """Call it as often as you like. Raises Unavailable, StorageFailed."""
        if time.monotonic() >= self._due:
            self.sweep()
            self._due = time.monotonic() + _ROUND

    def sweep(self) -> None:
        now = self._clock.now()
        found = 0
        for batch in _batches(self._blobs.older(now - self._age)):
            found += self._records.give_up_unknown(batch, at=now + _GRACE)
        if found:
            get_logger(__name__).warning("files without a record will be removed", files=found, at=str(now + _GRACE))


def _batches(keys: Iterable[str]) -> Iterator[list[str]]:
    left = iter(keys)
    while batch := list(islice(left, _BATCH)):
        yield batch
