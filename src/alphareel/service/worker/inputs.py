"""The files that a job works on: uploads, and copies of what lies at addresses elsewhere. All of them are blobs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from alphareel.domain.errors import NotFound, StorageFailed
from alphareel.service.files import blob_keys
from alphareel.service.jobs.models import Job
from alphareel.service.ports import Blobs
from alphareel.service.uploads import source_urls
from alphareel.service.uploads.resolver import UploadResolver
from alphareel.service.uploads.source_urls import SourceUrl

SOURCE = "source"
BACKGROUND = "background"


@dataclass(frozen=True)
class Inputs:
    """Copies are kept from the fetch until the job ends, so that no retry and no other worker fetches again."""

    blobs: Blobs
    sources: UploadResolver

    def missing(self, job: Job) -> Mapping[str, SourceUrl]:
        """What has to be fetched before the job can run, by name. Raises InvalidRequest, StorageFailed."""
        return {
            name: wanted for name, wanted in _wanted(job).items() if not self._is_stored(self.blob(job, name, wanted))
        }

    def blob(self, job: Job, name: str, wanted: SourceUrl) -> str:
        """The blob of one of its files, there or not. Raises InvalidRequest for an upload that it may not use."""
        upload = self.sources.find(wanted, key_id=job.key_id)
        return blob_keys.fetched_key(job.id, job.run, name) if upload is None else upload.blob

    def keep(self, job: Job, name: str, path: Path) -> None:
        """Keep what was fetched to ``path``, which may be moved, unless another fetch was faster."""
        blob = blob_keys.fetched_key(job.id, job.run, name)
        if self._is_stored(blob):  # and may be in use
            return
        self.blobs.put_file(blob, path)
        if not self._is_stored(blob):
            raise StorageFailed("The fetched file is gone from the store.")

    def _is_stored(self, blob: str) -> bool:
        """Always true for an upload: fetching cannot bring back one that was removed."""
        key = blob_keys.parse(blob)
        if key is None or key.folder != blob_keys.FETCHED:
            return True
        try:
            self.blobs.size(blob)
        except NotFound:
            return False
        return True


def _wanted(job: Job) -> Mapping[str, SourceUrl]:
    wanted = {SOURCE: source_urls.source(job.video_url), BACKGROUND: source_urls.background(job.options)}
    return {name: reference for name, reference in wanted.items() if reference is not None}
