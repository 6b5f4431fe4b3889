"""The small pictures of a running attempt: published while it runs, gone when it ends."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from alphareel.domain.errors import StorageFailed
from alphareel.service.files import blob_keys
from alphareel.service.jobs.models import Job
from alphareel.service.ports import Blobs
from alphareel.telemetry.logging import get_logger


class PreviewPublisher:
    """Previews of one attempt. What a preview costs must never be the job: a store that fails is logged."""

    def __init__(self, blobs: Blobs, job: Job, folder: Path) -> None:
        self.folder = folder
        self._blobs = blobs
        self._prefix = blob_keys.preview_prefix(job.id, job.attempt)
        self._seen: str | None = None
        self._blob: str | None = None

    def publish(self, preview: str | None) -> str | None:
        """The blob of the newest picture, of which ``preview`` is the path; None while there is none."""
        if preview is not None and preview != self._seen:
            self._seen, blob = preview, f"{self._prefix}{Path(preview).relative_to(self.folder).as_posix()}"
            try:
                self._blobs.put_file(blob, Path(preview))
                self._blob = blob
            except StorageFailed as error:
                get_logger(__name__).warning("preview was not stored", blob=blob, error=str(error))
        return self._blob


@contextmanager
def stills(blobs: Blobs, job: Job, folder: Path) -> Iterator[PreviewPublisher]:
    """Previews of an attempt, from an empty folder; those of attempts that died go first, its own when it ends."""
    folder.mkdir()
    try:
        for dead in range(1, job.attempt):
            _remove(blobs, job, dead)
        yield PreviewPublisher(blobs, job, folder)
    finally:
        _remove(blobs, job, job.attempt)


def _remove(blobs: Blobs, job: Job, attempt: int) -> None:
    with suppress(StorageFailed):  # they go with the job's other files then
        blobs.delete_prefix(blob_keys.preview_prefix(job.id, attempt))
