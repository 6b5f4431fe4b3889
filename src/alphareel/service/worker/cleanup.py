"""What work on a job leaves behind: its folder on this machine, and blobs that nobody needs once the job ended."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alphareel.domain.errors import StorageFailed
from alphareel.service.files import blob_keys
from alphareel.service.jobs.models import TERMINAL
from alphareel.service.ports import Blobs
from alphareel.telemetry.logging import get_logger

if TYPE_CHECKING:
    from alphareel.db.jobs import JobStore


@dataclass(frozen=True)
class JobCleanup:
    jobs: JobStore
    blobs: Blobs

    def clear_up(self, job_id: str) -> None:
        """A job that has ended keeps neither chunks nor what was fetched; one that was deleted leaves nothing.

        Not even what a worker published that died before it was told.
        """
        job = self.jobs.job(job_id)
        if job is not None and job.status not in TERMINAL:
            return
        prefixes = blob_keys.job_prefixes(job_id) if job is None else blob_keys.temporary_prefixes(job_id)
        for prefix in prefixes:
            self.discard(prefix)

    def discard(self, prefix: str) -> None:
        """A store that is away now has the rest removed with the job; the worker has other jobs to do."""
        try:
            self.blobs.delete_prefix(prefix)
        except StorageFailed as error:
            get_logger(__name__).warning("blobs of an ended job stay", prefix=prefix, error=str(error))


@contextmanager
def workspace(folder: Path) -> Iterator[Path]:
    """A folder that is gone with all its files when the context ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
