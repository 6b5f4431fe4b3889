"""Blobs on their way to whoever holds a good link."""

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
    """A blob whose link was found good, and how to present it.

    ``etag`` is opaque; a key is never written twice, so the key alone makes it.
    """

    size: int
    name: str
    content_type: str
    etag: str
    blob: str = field(repr=False)
    blobs: Blobs = field(repr=False)

    @classmethod
    def of(cls, claim: FileGrant, blobs: Blobs) -> Self:
        """Raises NotFound when the blob is gone."""
        path = PurePosixPath(claim.blob)
        return cls(
            size=blobs.size(claim.blob),
            name=claim.name or path.name,
            content_type=_content_type(path.suffix),
            etag=hashlib.sha256(claim.blob.encode()).hexdigest()[:32],
            blob=claim.blob,
            blobs=blobs,
        )

    def read(self, start: int, length: int) -> Iterator[bytes]:
        """At most ``length`` bytes from ``start``, in bounded pieces."""
        return self.blobs.read(self.blob, start, length)


def _content_type(suffix: str) -> str:
    return mime_types().get(suffix) or _UPLOAD_TYPES.get(suffix, "application/octet-stream")
