"""Signed links, and the files that they grant access to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from alphareel.service.files import blob_keys, signed_urls
from alphareel.service.files.downloads import FileDownload
from alphareel.service.files.signed_urls import UrlSigner
from alphareel.service.jobs.retention import DOWNLOADED_GRACE
from alphareel.service.ports import Blobs, Clock
from alphareel.service.uploads.resolver import UploadResolver

if TYPE_CHECKING:
    from alphareel.db.jobs import JobStore
    from alphareel.db.retention import RetentionStore


@dataclass(frozen=True)
class FileService:
    signer: UrlSigner
    blobs: Blobs
    uploads: UploadResolver
    jobs: JobStore
    retention: RetentionStore
    clock: Clock

    def open_download(self, path: str, query: Mapping[str, str]) -> FileDownload:
        """The file behind a signed link; ``path`` follows ``/files/``. Raises NotFound for a bad or expired link."""
        grant = signed_urls.verify(path, query, self.signer.secret, now=self.clock.now())
        return FileDownload.of(replace(grant, blob=self.uploads.blob_of(grant.blob)), self.blobs)

    def mark_downloaded(self, blob: str) -> None:
        """Record that a whole file was sent; with a retention of 0 it expires shortly after."""
        key = blob_keys.parse(blob)
        job = self.jobs.job(key.owner) if key is not None and key.folder == blob_keys.OUTPUTS else None
        if job is not None and job.retention_seconds == 0:
            self.retention.expire_after_download(job.id, blob, until=self.clock.now() + DOWNLOADED_GRACE)
