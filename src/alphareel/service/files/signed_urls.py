"""Addresses of blobs: signed, expiring, naming the file they save as. Pure functions of a secret and a time."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote, urlencode, urlsplit

from alphareel.domain.errors import NotFound
from alphareel.service.files import blob_keys

PREFIX = "/files/"
_UPLOAD = re.compile(rf"(?:^|/)files/{blob_keys.UPLOAD_KEY.pattern}$")


@dataclass(frozen=True)
class FileGrant:
    """What a link says: this blob, under this name, until then (seconds since 1970, UTC)."""

    blob: str
    name: str
    expires: int


def sign(claim: FileGrant, secret: str) -> str:
    """Path and query of the link: '/files/<blob>?exp=..&name=..&sig=..'."""
    query = urlencode({"exp": claim.expires, "name": claim.name, "sig": _signature(claim, secret)})
    return f"{PREFIX}{quote(claim.blob)}?{query}"


def verify(blob: str, query: Mapping[str, str], secret: str, *, now: datetime) -> FileGrant:
    """What the link says, when we signed it and it has not expired; else NotFound, whatever is wrong with it."""
    claim = _claim(blob, query)
    if claim is None or not _is_ours(claim, query, secret) or claim.expires <= now.astimezone(UTC).timestamp():
        raise NotFound(
            "This link is not valid or has expired.", hint="Ask for the job again: every answer carries a fresh link."
        )
    return claim


def upload_id(url: str) -> str | None:
    """The upload that a URL's path names, wherever it claims to be hosted; None when it names none."""
    found = _UPLOAD.search(unquote(urlsplit(url).path))
    return found.group(1) if found else None


def is_signed_by_us(url: str, secret: str) -> bool:
    """Whether the URL is a link of this installation, expired or not, under whatever public address."""
    parts = urlsplit(url)
    blob = unquote(parts.path).rpartition(PREFIX)[2]
    query = dict(pair.split("=", 1) for pair in parts.query.split("&") if "=" in pair)
    plain = {name: unquote(value.replace("+", " ")) for name, value in query.items()}
    claim = _claim(blob, plain)
    return claim is not None and _is_ours(claim, plain, secret)


def _claim(blob: str, query: Mapping[str, str]) -> FileGrant | None:
    expires = query.get("exp", "")
    if not (expires.isascii() and expires.isdigit() and len(expires) <= 12):
        return None
    return FileGrant(blob, query.get("name", ""), int(expires))


def _is_ours(claim: FileGrant, query: Mapping[str, str], secret: str) -> bool:
    return hmac.compare_digest(_signature(claim, secret).encode(), query.get("sig", "").encode())


def _signature(claim: FileGrant, secret: str) -> str:
    words = f"{len(claim.blob)}:{claim.blob}{len(claim.name)}:{claim.name}{claim.expires}"
    return hmac.new(secret.encode(), words.encode(), hashlib.sha256).hexdigest()
