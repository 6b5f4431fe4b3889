"""The input files of a job, as blobs: uploads, and copies of files from URLs and signed links."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from alphareel.domain.errors import FileTooLarge, NotFound, StorageFailed
from alphareel.service.files import blob_keys
from alphareel.service.jobs.models import Job, Kind
from alphareel.service.ports import Blobs
from alphareel.service.uploads import source_urls
from alphareel.service.uploads.resolver import UploadResolver
from alphareel.service.uploads.source_urls import SourceUrl

SOURCE = "source"
BACKGROUND = "background"
MASK = "mask"


@dataclass(frozen=True)
class Inputs:
    """Fetched files are kept until the job ends, so that retries and other workers need not fetch them again."""

    blobs: Blobs
    uploads: UploadResolver

    def missing(self, job: Job) -> Mapping[str, SourceUrl]:
        """Files that must be fetched before the job can run, by name. Raises InvalidRequest, StorageFailed."""
        return {
            name: url
            for name, url in _source_urls(job).items()
            if not self._is_stored(self.blob(job, name, url), job.id)
        }

    def blob(self, job: Job, name: str, url: SourceUrl) -> str:
        """The blob of an input file, which may not exist yet. Raises InvalidRequest for an upload it may not use."""
        if name == SOURCE and job.kind is not Kind.JOB and "source" in (job.task or {}):
            return str((job.task or {})["source"])
        upload = self.uploads.find(url, key_id=job.key_id)
        return blob_keys.fetched_key(job.id, job.run, name) if upload is None else upload.blob

    def copy_linked(self, url: SourceUrl, target: Path, *, max_bytes: int, tick: Callable[[], None]) -> bool:
        """Copy the file that a signed link of this installation grants; False for any other URL.

        A copy, so that the owner of the file may delete it while the job runs. ``tick`` is called repeatedly and may
        raise to abort. Raises NotFound, FileTooLarge, StorageFailed.
        """
        blob = self.uploads.linked_blob(url.url)
        if blob is None:
            return False
        try:
            size = self.blobs.size(blob)
        except NotFound:
            raise NotFound(f"{url.field}: the file was removed.", hint="Use a link to a file that exists.") from None
        if size > max_bytes:
            raise FileTooLarge(
                f"File too large: {url.field} has {size:,} bytes, more than the {max_bytes:,} allowed.",
                hint="Use a shorter or smaller video.",
            )
        try:
            with target.open("wb") as file:
                for piece in self.blobs.read(blob, 0, size):
                    tick()
                    file.write(piece)
        except OSError as error:
            raise StorageFailed(f"The file could not be copied: {error.strerror or error}.") from error
        return True

    def store(self, job: Job, name: str, path: Path) -> None:
        """Store the file that was fetched to ``path``, which may be moved, unless another fetch was faster."""
        blob = blob_keys.fetched_key(job.id, job.run, name)
        if self._is_stored(blob, job.id):  # it may be in use
            return
        self.blobs.put_file(blob, path)
        if not self._is_stored(blob, job.id):
            raise StorageFailed("The fetched file is gone from the store.")

    def _is_stored(self, blob: str, job_id: str) -> bool:
        """Always true for an upload and for another job's file: fetching cannot bring back one that was removed."""
        key = blob_keys.parse(blob)
        if key is None or key.folder != blob_keys.FETCHED or key.owner != job_id:
            return True
        try:
            self.blobs.size(blob)
        except NotFound:
            return False
        return True


def background_names(job: Job) -> Mapping[SourceUrl, str]:
    """The names of the files of the backgrounds of a job's outputs, by URL."""
    urls = source_urls.backgrounds(job.requested)
    return {url: BACKGROUND if number == 0 else f"{BACKGROUND}-{number}" for number, url in enumerate(urls)}


def mask_names(job: Job) -> Mapping[SourceUrl, str]:
    """The names of the files of the masks of a job's corrections, by URL."""
    masks = [str(each["mask"]) for each in (job.task or {}).get("corrections", ()) if "mask" in each]
    return {source_urls.mask(url): f"{MASK}-{number}" for number, url in enumerate(dict.fromkeys(masks))}


def _source_urls(job: Job) -> Mapping[str, SourceUrl]:
    others = {name: url for url, name in {**background_names(job), **mask_names(job)}.items()}
    return {SOURCE: source_urls.source(job.video_url), **others}
