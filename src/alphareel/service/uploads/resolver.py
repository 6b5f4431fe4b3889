"""Resolves URLs in requests to stored files: an upload, or the file of a signed link of this installation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alphareel.domain.errors import FieldProblem, InvalidRequest, NotFound
from alphareel.domain.options import Options
from alphareel.service.files import blob_keys, signed_urls
from alphareel.service.files.signed_urls import FileGrant
from alphareel.service.ports import Clock
from alphareel.service.uploads import source_urls
from alphareel.service.uploads.models import Upload
from alphareel.service.uploads.source_urls import SourceUrl

if TYPE_CHECKING:
    from alphareel.db.uploads import UploadStore


@dataclass(frozen=True)
class JobUploads:
    """Uploads that a job refers to; ``source`` is None when it is fetched or copied.

    ``fetched``: the URLs that are on the network.
    """

    source: Upload | None
    backgrounds: tuple[Upload, ...]
    fetched: tuple[SourceUrl, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(upload.id for upload in (self.source, *self.backgrounds) if upload is not None)


@dataclass(frozen=True)
class UploadResolver:
    """Finds uploads by the path of the URL, other stored files by its signature. All other URLs are external."""

    store: UploadStore
    link_secret: str
    clock: Clock

    def find(self, url: SourceUrl, *, key_id: str | None) -> Upload | None:
        """The upload of this key, or made without a key, that a URL refers to; None for every other URL.

        Raises InvalidRequest for a file of the wrong kind, and for a link that is neither such an upload's nor a
        signed one.
        """
        upload = self._upload(url.url)
        if upload is not None and upload.key_id in (None, key_id):
            _check_kind(upload, url)
            return upload
        if self._grant(url.url) is None and url.url.startswith(signed_urls.PREFIX):
            raise _refused(url.field, "there is no such upload.", hint="Upload the file first, with the same key.")
        return None

    def linked_blob(self, url: str) -> str | None:
        """The blob that a signed link of this installation grants, expired or not: a result, or an upload of any key.

        None for any other URL. Raises NotFound when the upload was deleted.
        """
        grant = self._grant(url)
        return None if grant is None else self.blob_of(grant.blob)

    def blob_of(self, path: str) -> str:
        """The blob behind the path of a link, which may name an upload. Raises NotFound."""
        upload_id = signed_urls.upload_id(signed_urls.PREFIX + path)
        if upload_id is None:
            return path
        upload = self.store.upload(upload_id)
        if upload is None:
            raise NotFound("This file was removed.", hint="Upload it again.")
        return upload.blob

    def of_job(self, video_url: str, requested: Sequence[Options], *, key_id: str | None) -> JobUploads:
        """The uploads that a job's URLs refer to; ``requested``: options of all its outputs.

        A signed link is accepted with any key while it is valid: who has it may read the file. Raises InvalidRequest
        for uploads that the key may not use.
        """
        source, backgrounds = source_urls.source(video_url), source_urls.backgrounds(requested)
        own = {url: self._checked(url, key_id=key_id) for url in (source, *backgrounds)}
        return JobUploads(
            source=own[source],
            backgrounds=tuple(upload for url in backgrounds if (upload := own[url]) is not None),
            fetched=tuple(url for url, upload in own.items() if upload is None and self._grant(url.url) is None),
        )

    def of_matte(self, video_url: str, requested: Sequence[Options], *, key_id: str | None) -> tuple[str, ...]:
        """IDs of the uploads that outputs of a kept matte need: their backgrounds, and the source of its job.

        The source was checked before. One of another key, given by its signed link, was copied for the job, so its
        upload is not needed, and the link may have expired. Raises InvalidRequest for a background that the key may not
        use.
        """
        upload = self._upload(video_url)
        source = upload if upload is not None and upload.key_id in (None, key_id) else None
        backgrounds = (self._checked(url, key_id=key_id) for url in source_urls.backgrounds(requested))
        return tuple(upload.id for upload in (source, *backgrounds) if upload is not None)

    def of_mask(self, mask_url: str, *, key_id: str | None) -> Upload | None:
        """The upload that a new mask refers to; None when it is fetched or copied. Raises InvalidRequest."""
        return self._checked(source_urls.mask(mask_url), key_id=key_id)

    def of_masks(self, corrections: Iterable[Mapping[str, Any]], *, key_id: str | None) -> tuple[str, ...]:
        """IDs of the uploads among the masks of corrections in their JSON form, which were checked before."""
        urls = (source_urls.mask(str(each["mask"])) for each in corrections if "mask" in each)
        mask_uploads = (self.find(url, key_id=key_id) for url in urls)
        return tuple(upload.id for upload in mask_uploads if upload is not None)

    def _checked(self, url: SourceUrl, *, key_id: str | None) -> Upload | None:
        own = self.find(url, key_id=key_id)
        grant = self._grant(url.url)
        if own is not None or grant is None:
            return own
        upload = self._upload(url.url)
        if upload is not None:
            _check_kind(upload, url)
        elif not grant.blob.startswith(f"{blob_keys.OUTPUTS}/"):
            raise _refused(url.field, "there is no such upload.", hint="Upload the file first.")
        if grant.expires <= self.clock.now().timestamp():
            raise _refused(url.field, "this link has expired.", hint="Ask for the job again, or upload the file again.")
        return None

    def _upload(self, url: str) -> Upload | None:
        upload_id = signed_urls.upload_id(url)
        return self.store.upload(upload_id) if upload_id is not None else None

    def _grant(self, url: str) -> FileGrant | None:
        return signed_urls.grant_of(url, self.link_secret)


def _check_kind(upload: Upload, url: SourceUrl) -> None:
    if upload.kind != url.kind:
        raise _refused(url.field, f"the upload is of kind {upload.kind}, but must be of kind {url.kind}.")


def _refused(field: str, message: str, *, hint: str = "") -> InvalidRequest:
    return InvalidRequest(f"{field}: {message}", hint=hint, details=[FieldProblem(field, message)])
