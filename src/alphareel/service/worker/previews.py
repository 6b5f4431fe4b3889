"""Previews of a running attempt: published while it runs, removed when it ends."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from alphareel.domain.errors import StorageFailed
from alphareel.service.files import blob_keys
from alphareel.service.jobs.models import Job
from alphareel.service.ports import Blobs
from alphareel.telemetry.logging import get_logger


class PreviewPublisher:
    """Publishes the previews of one attempt. A preview that cannot be stored is logged; it never fails the job."""

    def __init__(self, blobs: Blobs, job: Job, folder: Path) -> None:
        self.folder = folder
        self._blobs = blobs
        self._prefix = blob_keys.preview_prefix(job.id, job.attempt)
        self._published_path: str | None = None
        self._blob: str | None = None

    def publish(self, preview: str | None) -> str | None:
        """Store the picture at the path ``preview`` and return its blob; without a new one, the blob of the last."""
        if preview is not None and preview != self._published_path:
            self._published_path = preview
            blob = f"{self._prefix}{Path(preview).relative_to(self.folder).as_posix()}"
            try:
                self._blobs.put_file(blob, Path(preview))
                self._blob = blob
            except StorageFailed as error:
                get_logger(__name__).warning("preview was not stored", blob=blob, error=str(error))
        return self._blob


@contextmanager
def attempt_previews(blobs: Blobs, job: Job, folder: Path) -> Iterator[PreviewPublisher]:
    """Publish previews from the new ``folder``; remove those of earlier attempts first, and its own at the end."""
    folder.mkdir()
    try:
        for earlier in range(1, job.attempt):
            _remove(blobs, job, earlier)
        yield PreviewPublisher(blobs, job, folder)
    finally:
        _remove(blobs, job, job.attempt)


def _remove(blobs: Blobs, job: Job, attempt: int) -> None:
    with suppress(StorageFailed):  # they are removed with the job's other files
        blobs.delete_prefix(blob_keys.preview_prefix(job.id, attempt))
