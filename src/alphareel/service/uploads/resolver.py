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
    """What URLs mean here: uploads of ours by their path, everything else an address on the network."""

    store: UploadStore
    link_secret: str

    def find(self, wanted: SourceUrl, *, key_id: str | None) -> Upload | None:
        """The upload that an address stands for; None for an address on the network.

        Whoever asks may use their own uploads and those made without a key. Raises InvalidRequest for a link of
        ours to anything else, and for a file of the wrong kind.
        """
        named = signed_urls.upload_id(wanted.url)
        found = self.store.upload(named) if named is not None else None
        if found is not None and found.key_id in (None, key_id):
            if found.kind != wanted.kind:
                raise _refused(wanted.field, f"the upload is of kind {found.kind}, but must be of kind {wanted.kind}.")
            return found
        if wanted.url.startswith(signed_urls.PREFIX) or signed_urls.is_signed_by_us(wanted.url, self.link_secret):
            raise _refused(wanted.field, "there is no such upload.", hint="Upload the file first, with the same key.")
        return None

    def blob_of(self, path: str) -> str:
        """The blob that the path of a link means: that of the upload it names. Raises NotFound."""
        named = signed_urls.upload_id(signed_urls.PREFIX + path)
        if named is None:
            return path
        found = self.store.upload(named)
        if found is None:
            raise NotFound("This file was removed.", hint="Upload it again.")
        return found.blob

    def of_job(self, video_url: str, options: Options, *, key_id: str | None) -> JobUploads:
        """The uploads that a job's URLs refer to. Raises InvalidRequest for uploads the key may not use."""
        background = source_urls.background(options)
        return JobUploads(
            source=self.find(source_urls.source(video_url), key_id=key_id),
            background=None if background is None else self.find(background, key_id=key_id),
        )


def _refused(field: str, message: str, *, hint: str = "") -> InvalidRequest:
    return InvalidRequest(f"{field}: {message}", hint=hint, details=[FieldProblem(field, message)])
