"""Removes what a job leaves behind: its local folder, and blobs that an ended job does not need."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alphareel.domain.errors import StorageFailed
from alphareel.service.jobs.leftovers import leftover_prefixes
from alphareel.service.ports import Blobs
from alphareel.telemetry.logging import get_logger

if TYPE_CHECKING:
    from alphareel.db.jobs import JobStore


@dataclass(frozen=True)
class JobCleanup:
    jobs: JobStore
    blobs: Blobs

    def remove_leftovers(self, job_id: str) -> None:
        """Remove what an ended or deleted job left behind. What cannot be removed now is scheduled for later."""
        prefixes = leftover_prefixes(job_id, self.jobs.job(job_id))
        removed = [self.delete_prefix(prefix) for prefix in prefixes]
        if not all(removed):
            self.jobs.schedule_leftovers(job_id)

    def delete_prefix(self, prefix: str) -> bool:
        """Whether that worked. Failures are only logged: the deletion of the job removes what is left."""
        try:
            self.blobs.delete_prefix(prefix)
        except StorageFailed as error:
            get_logger(__name__).warning("blobs of an ended job stay", prefix=prefix, error=str(error))
            return False
        return True


@contextmanager
def workspace(folder: Path) -> Iterator[Path]:
    """A folder that is removed with all its files when the context ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
