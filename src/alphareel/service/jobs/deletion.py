"""Stopping jobs and taking away for good what callers made: files from the store of blobs, words from the records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alphareel.domain.errors import Cancelled, InvalidState, StorageFailed
from alphareel.service.jobs.models import TERMINAL, Job, Status
from alphareel.service.ports import Blobs
from alphareel.telemetry.logging import get_logger

if TYPE_CHECKING:
    from alphareel.db.deletion import DeletionStore
    from alphareel.db.jobs import JobStore

_BATCH = 100


class DeletionService:
    """The desk for it. Nothing here needs to succeed at once: ``empty`` finishes what was left."""

    def __init__(self, jobs: JobStore, removals: DeletionStore, blobs: Blobs) -> None:
        self._jobs = jobs
        self._removals = removals
        self._blobs = blobs

    def cancel(self, job: Job, *, actor: str) -> None:
        """End it; a failed job has ended already. Raises InvalidState for one that is completed."""
        if self._jobs.fail(job.id, attempt=None, error="Cancelled", error_code=Cancelled.code, actor=actor):
            return
        ended = self._jobs.job(job.id)
        if ended is not None and ended.status is Status.COMPLETED:
            raise InvalidState("The job is completed and cannot be cancelled.", hint="Delete it instead.")

    def delete_job(self, job: Job, *, actor: str) -> None:
        """Cancel it when it runs, and take away its files and what the caller wrote."""
        while (blobs := self._removals.remove_job(job.id, actor=actor)) is None:
            found = self._jobs.job(job.id)
            if found is None:
                return  # another request deleted it
            if found.status not in TERMINAL:
                self._jobs.fail(job.id, attempt=None, error="Cancelled", error_code=Cancelled.code, actor=actor)
        self._delete(blobs)

    def delete_upload(self, upload_id: str) -> None:
        """Raises InvalidState while a job that waits or runs needs it."""
        blobs = self._removals.remove_upload(upload_id)
        if blobs is None:
            raise InvalidState("A job that is not done uses this upload.", hint="Cancel the job, or wait for its end.")
        self._delete(blobs)

    def empty(self) -> None:
        """Delete the blobs that were given up. Raises Unavailable."""
        self._delete(self._removals.pending_deletions(limit=_BATCH))

    def _delete(self, blobs: tuple[str, ...]) -> None:
        for blob in blobs:
            try:
                if blob.endswith("/"):
                    self._blobs.delete_prefix(blob)
                else:
                    self._blobs.delete(blob)
            except StorageFailed as error:
                get_logger(__name__).warning("blob stays for now", blob=blob, error=str(error))
            else:
                self._removals.clear_pending_deletions(blob)
