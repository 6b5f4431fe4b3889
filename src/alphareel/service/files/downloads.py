"""Downloads of blobs through signed links."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Self

from alphareel.service.files.signed_urls import FileGrant
from alphareel.service.ports import Blobs

_TYPES = {
    ".apng": "image/apng",
    ".avi": "video/x-msvideo",
    ".flv": "video/x-flv",
    ".gif": "image/gif",
    ".jpg": "image/jpeg",
    ".mkv": "video/x-matroska",
    ".mov": "video/quicktime",
    ".mp4": "video/mp4",
    ".mpg": "video/mpeg",
    ".mxf": "application/mxf",
    ".ogv": "video/ogg",
    ".png": "image/png",
    ".ts": "video/mp2t",
    ".webm": "video/webm",
    ".webp": "image/webp",
    ".wmv": "video/x-ms-wmv",
    ".zip": "application/zip",
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
            content_type=_TYPES.get(path.suffix, "application/octet-stream"),
            etag=hashlib.sha256(grant.blob.encode()).hexdigest()[:32],
            blob=grant.blob,
            blobs=blobs,
        )

    def read(self, start: int, length: int) -> Iterator[bytes]:
        """At most ``length`` bytes from ``start``, in bounded pieces."""
        return self.blobs.read(self.blob, start, length)
