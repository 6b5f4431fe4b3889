"""Downloads of blobs through signed links."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Self

from alphareel.media.format import mime_types
from alphareel.service.files.signed_urls import FileGrant
from alphareel.service.ports import Blobs

# Types that can be uploaded and are no output format. The formats state their own.
_UPLOAD_TYPES = {
    ".avi": "video/x-msvideo",
    ".flv": "video/x-flv",
    ".jpg": "image/jpeg",
    ".mpg": "video/mpeg",
    ".mxf": "application/mxf",
    ".ogv": "video/ogg",
    ".ts": "video/mp2t",
    ".wmv": "video/x-ms-wmv",
}


@dataclass(frozen=True)
class FileDownload:
    """A blob that a valid link grants access to.

    ``etag`` is derived from the key alone, because a key is never written twice.
    """

    size: int
    name: str
    content_type: str
    etag: str
    blob: str = field(repr=False)
    blobs: Blobs = field(repr=False)

    @classmethod
    def of(cls, grant: FileGrant, blobs: Blobs) -> Self:
        """Raises NotFound when the blob is gone."""
        path = PurePosixPath(grant.blob)
        return cls(
            size=blobs.size(grant.blob),
            name=grant.name or path.name,
            content_type=_content_type(path.suffix),
            etag=hashlib.sha256(grant.blob.encode()).hexdigest()[:32],
            blob=grant.blob,
            blobs=blobs,
        )

    def read(self, start: int, length: int) -> Iterator[bytes]:
        """At most ``length`` bytes from ``start``, in bounded pieces."""
        return self.blobs.read(self.blob, start, length)


def _content_type(suffix: str) -> str:
    return mime_types().get(suffix) or _UPLOAD_TYPES.get(suffix, "application/octet-stream")
