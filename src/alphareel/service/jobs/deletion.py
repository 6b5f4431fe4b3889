"""Cancels jobs, and deletes jobs and uploads with their files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alphareel.domain.errors import Cancelled, InvalidState, StorageFailed
from alphareel.service.files import blob_keys
from alphareel.service.jobs.leftovers import leftover_prefixes
from alphareel.service.jobs.models import TERMINAL, Job, Status
from alphareel.service.ports import Blobs
from alphareel.telemetry.logging import get_logger

if TYPE_CHECKING:
    from alphareel.db.deletion import DeletionStore
    from alphareel.db.jobs import JobStore

_BATCH = 100
_ACTOR = "retention"  # of deletions that a sweep finishes


class DeletionService:
    """A blob that cannot be deleted now stays scheduled, and ``delete_pending`` deletes it later."""

    def __init__(self, jobs: JobStore, deletions: DeletionStore, blobs: Blobs) -> None:
        self._jobs = jobs
        self._deletions = deletions
        self._blobs = blobs

    def cancel(self, job: Job, *, actor: str) -> None:
        """End the job; does nothing for a failed one. Raises InvalidState for a completed one."""
        if self._jobs.fail(job.id, attempt=None, error="Cancelled", error_code=Cancelled.code, actor=actor):
            return
        ended = self._jobs.job(job.id)
        if ended is not None and ended.status is Status.COMPLETED:
            raise InvalidState("The job is completed and cannot be cancelled.", hint="Delete it instead.")

    def delete_job(self, job: Job, *, actor: str) -> None:
        """Cancel the job if it runs, and delete its files and everything the client sent."""
        while (blobs := self._deletions.remove_job(job.id, actor=actor)) is None:
            current = self._jobs.job(job.id)
            if current is None:
                return  # another request deleted it
            if current.status not in TERMINAL:
                self._jobs.fail(job.id, attempt=None, error="Cancelled", error_code=Cancelled.code, actor=actor)
        self.delete_blobs(blobs)
        for child in self._jobs.children(job.id):  # after the job, of which no other can be made now
            self.delete_job(child, actor=actor)

    def delete_upload(self, upload_id: str) -> None:
        """Raises InvalidState while a queued or running job uses it."""
        blobs = self._deletions.remove_upload(upload_id)
        if blobs is None:
            raise InvalidState("An unfinished job uses this upload.", hint="Cancel the job, or wait until it ends.")
        self.delete_blobs(blobs)

    def delete_pending(self) -> None:
        """Finish interrupted deletions: those of jobs, and of the blobs that are scheduled. Raises Unavailable."""
        for job_id in self._deletions.children_of_deleted_jobs(limit=_BATCH):
            if (job := self._jobs.job(job_id)) is not None:
                self.delete_job(job, actor=_ACTOR)
        self.delete_blobs(self._deletions.pending_deletions(limit=_BATCH))

    def delete_blobs(self, blobs: tuple[str, ...]) -> None:
        """Delete blobs, prefixes and what jobs left behind, all of which are scheduled for deletion."""
        for blob in blobs:
            try:
                self._delete(blob)
            except StorageFailed as error:
                get_logger(__name__).warning("blob stays for now", blob=blob, error=str(error))
            else:
                self._deletions.clear_pending_deletions(blob)

    def _delete(self, entry: str) -> None:
        """Raises StorageFailed."""
        if (job_id := blob_keys.job_of_leftovers(entry)) is not None:
            for prefix in leftover_prefixes(job_id, self._jobs.job(job_id)):
                self._blobs.delete_prefix(prefix)
        elif entry.endswith("/"):
            self._blobs.delete_prefix(entry)
        else:
            self._blobs.delete(entry)
