"""Which stored upload a URL in a request refers to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from alphareel.domain.errors import FieldProblem, InvalidRequest, NotFound
from alphareel.domain.options import Options
from alphareel.service.files import signed_urls
from alphareel.service.uploads import source_urls
from alphareel.service.uploads.models import Upload
from alphareel.service.uploads.source_urls import SourceUrl

if TYPE_CHECKING:
    from alphareel.db.uploads import UploadStore


@dataclass(frozen=True)
class JobUploads:
    """Uploads that a job refers to; None for external URLs, and for no background."""

    source: Upload | None
    background: Upload | None

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(upload.id for upload in (self.source, self.background) if upload is not None)


@dataclass(frozen=True)
class UploadResolver:
    """Finds the uploads that URLs refer to, by their path; all other URLs are on the network."""

    store: UploadStore
    link_secret: str

    def find(self, url: SourceUrl, *, key_id: str | None) -> Upload | None:
        """The upload that a URL refers to; None for a URL on the network.

        A key may use its own uploads and those made without a key. Raises InvalidRequest for a link of this server
        to anything else, and for a file of the wrong kind.
        """
        upload_id = signed_urls.upload_id(url.url)
        upload = self.store.upload(upload_id) if upload_id is not None else None
        if upload is not None and upload.key_id in (None, key_id):
            if upload.kind != url.kind:
                raise _refused(url.field, f"the upload is of kind {upload.kind}, but must be of kind {url.kind}.")
            return upload
        if url.url.startswith(signed_urls.PREFIX) or signed_urls.is_signed_by_us(url.url, self.link_secret):
            raise _refused(url.field, "there is no such upload.", hint="Upload the file first, with the same key.")
        return None

    def blob_of(self, path: str) -> str:
        """The blob behind the path of a link, which may name an upload. Raises NotFound."""
        upload_id = signed_urls.upload_id(signed_urls.PREFIX + path)
        if upload_id is None:
            return path
        upload = self.store.upload(upload_id)
        if upload is None:
            raise NotFound("This file was removed.", hint="Upload it again.")
        return upload.blob

    def of_job(self, video_url: str, options: Options, *, key_id: str | None) -> JobUploads:
        """The uploads that a job's URLs refer to. Raises InvalidRequest for uploads the key may not use."""
        background = source_urls.background(options)
        return JobUploads(
            source=self.find(source_urls.source(video_url), key_id=key_id),
            background=None if background is None else self.find(background, key_id=key_id),
        )


def _refused(field: str, message: str, *, hint: str = "") -> InvalidRequest:
    return InvalidRequest(f"{field}: {message}", hint=hint, details=[FieldProblem(field, message)])
