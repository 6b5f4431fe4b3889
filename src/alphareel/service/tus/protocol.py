"""The values of tus headers: lengths, metadata, checksums.

The protocol: https://tus.io/protocols/resumable-upload
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Any

from alphareel.domain.errors import FieldProblem, InvalidRequest

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,termination,expiration,checksum"
CHECKSUM_ALGORITHMS = ("sha1", "sha256")
CONTENT_TYPE = "application/offset+octet-stream"

_NUMBER = re.compile(r"[0-9]{1,18}")
_METADATA_KEY = re.compile(r"[!-+\--~]{1,64}")  # printable ASCII without spaces and commas
_MAX_METADATA = 4096


@dataclass(frozen=True)
class Checksum:
    """What the body of a request must hash to. ``algorithm``: sha1 or sha256."""

    algorithm: str
    digest: bytes

    def start(self) -> Any:
        """A new hash object."""
        return hashlib.new(self.algorithm, usedforsecurity=False)


def parse_number(name: str, value: str | None) -> int:
    """Bytes in a header. Raises InvalidRequest if it is missing or no whole number."""
    if value is None or not _NUMBER.fullmatch(value):
        raise _bad_header(name, "must be a whole number of bytes.")
    return int(value)


def parse_metadata(value: str | None) -> dict[str, str]:
    """The pairs of Upload-Metadata, decoded. Raises InvalidRequest."""
    pairs: dict[str, str] = {}
    if value is not None and len(value) > _MAX_METADATA:
        raise _bad_header("Upload-Metadata", f"must have at most {_MAX_METADATA} characters.")
    for pair in (value or "").split(",") if (value or "").strip() else ():
        key, _, encoded = pair.strip().partition(" ")
        if not _METADATA_KEY.fullmatch(key) or key in pairs:
            raise _bad_header("Upload-Metadata", "must be pairs of a name and a Base64 value, separated by commas.")
        pairs[key] = _decode_base64("Upload-Metadata", encoded.strip()).decode("utf-8", "replace")
    return pairs


def parse_checksum(value: str | None) -> Checksum | None:
    """Upload-Checksum; None without one. Raises InvalidRequest, also for an unknown algorithm."""
    if value is None:
        return None
    algorithm, _, encoded = value.strip().partition(" ")
    if algorithm not in CHECKSUM_ALGORITHMS:
        raise _bad_header("Upload-Checksum", f"must begin with one of {', '.join(CHECKSUM_ALGORITHMS)}.")
    digest = _decode_base64("Upload-Checksum", encoded.strip())
    if len(digest) != hashlib.new(algorithm, usedforsecurity=False).digest_size:
        raise _bad_header("Upload-Checksum", f"must have the length of {algorithm}.")
    return Checksum(algorithm, digest)


def _decode_base64(name: str, encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise _bad_header(name, "must have values in Base64.") from None


def _bad_header(name: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{name} {message}", details=[FieldProblem(name, message)])
