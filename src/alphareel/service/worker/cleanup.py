"""Removes what a job leaves behind: its local folder, and blobs that an ended job does not need."""

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

    def remove_leftovers(self, job_id: str) -> None:
        """Remove the temporary blobs of an ended job, and all blobs of a deleted one.

        If the job has no result, also what its attempts stored: a worker may have died just after it stored one.
        """
        job = self.jobs.job(job_id)
        if job is not None and job.status not in TERMINAL:
            return
        if job is None:
            prefixes = blob_keys.job_prefixes(job_id)
        else:
            prefixes = blob_keys.temporary_prefixes(job_id, keep_fetched=job.matte is not None)
            if job.output is None:  # of the attempts so far: a job that failed may be started again
                attempts = range(1, job.attempt + 1)
                prefixes += tuple(blob_keys.output_prefix(job_id, attempt) for attempt in attempts)
                prefixes += tuple(blob_keys.matte_prefix(job_id, attempt) for attempt in attempts)
        for prefix in prefixes:
            self.delete_prefix(prefix)

    def delete_prefix(self, prefix: str) -> None:
        """Failures are only logged: the deletion of the job removes what is left."""
        try:
            self.blobs.delete_prefix(prefix)
        except StorageFailed as error:
            get_logger(__name__).warning("blobs of an ended job stay", prefix=prefix, error=str(error))


@contextmanager
def workspace(folder: Path) -> Iterator[Path]:
    """A folder that is removed with all its files when the context ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
