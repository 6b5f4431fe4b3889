"""Signed URLs of blobs: they expire, and carry the file name to save as."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from urllib.parse import quote, unquote, urlencode, urlsplit

from alphareel.domain.errors import NotFound
from alphareel.service.files import blob_keys
from alphareel.service.jobs.models import Job, Status
from alphareel.service.ports import Clock
from alphareel.service.uploads.models import Upload

PREFIX = "/files/"
_EMBED_PERIOD = timedelta(days=3652)
_PREVIEW_PERIOD = timedelta(minutes=10)
_UPLOAD = re.compile(rf"(?:^|/)files/{blob_keys.UPLOAD_KEY.pattern}$")


@dataclass(frozen=True)
class FileGrant:
    """What a link grants: to download ``blob`` as ``name`` until ``expires`` (Unix time)."""

    blob: str
    name: str
    expires: int


@dataclass(frozen=True)
class Link:
    """A signed URL without a host: ``/files/...?exp=..&name=..&sig=..``."""

    url: str
    expires_at: datetime


@dataclass(frozen=True)
class UrlSigner:
    """Signs the links that clients get. All processes of an installation share the ``secret``."""

    secret: str
    lifetime: timedelta
    clock: Clock

    def output_link(self, job: Job) -> Link | None:
        """A new link that expires with the file at the latest; None while there is no file, and from its expiry on."""
        if job.output is None or self._has_expired(job):
            return None
        return self._link(job.output.blob, job.id + PurePosixPath(job.output.blob).suffix, job.files_expire_at)

    def named_link(self, job: Job, blob: str, name: str) -> Link | None:
        """A new link to one of several outputs of a job, or of its exports; None from the expiry of its files on."""
        if self._has_expired(job):
            return None
        return self._link(blob, f"{job.id}-{name}{PurePosixPath(blob).suffix}", job.files_expire_at)

    def embed_link(self, job: Job, blob: str, name: str) -> Link:
        """A link for a web page; it is valid as long as the file exists."""
        return self._granted(blob, f"{job.id}-{name}{PurePosixPath(blob).suffix}", self.embed_expiry(job))

    def embed_expiry(self, job: Job) -> datetime:
        """When links of a page expire: with the job's files, or after ten years."""
        until = job.files_expire_at or self.clock.now() + _EMBED_PERIOD
        return until.replace(microsecond=0)

    def preview_link(self, job: Job) -> Link | None:
        """A link to the newest preview of a running job. It stays the same for minutes, so that polls see no change."""
        if job.preview is None or job.status is not Status.PROCESSING:
            return None
        period = _PREVIEW_PERIOD.total_seconds()
        past = self.clock.now().timestamp() % period
        return self._link(
            job.preview, job.id + PurePosixPath(job.preview).suffix, later=timedelta(seconds=period - past)
        )

    def upload_link(self, upload: Upload) -> Link:
        """The link names the upload, not its blob, which several uploads may share."""
        return self._link(blob_keys.upload_key(upload.id, PurePosixPath(upload.blob).suffix[1:]), upload.filename)

    def _has_expired(self, job: Job) -> bool:
        """Also before the files are removed, which happens some time after their expiry."""
        is_due = job.files_expire_at is not None and job.files_expire_at <= self.clock.now()
        return is_due or job.files_expired_at is not None

    def _link(self, blob: str, name: str, until: datetime | None = None, *, later: timedelta = timedelta()) -> Link:
        expires = (self.clock.now() + later).replace(microsecond=0) + self.lifetime
        if until is not None:
            expires = min(expires, until.replace(microsecond=0))
        return self._granted(blob, name, expires)

    def _granted(self, blob: str, name: str, expires: datetime) -> Link:
        return Link(sign(FileGrant(blob, name, int(expires.timestamp())), self.secret), expires)


def sign(grant: FileGrant, secret: str) -> str:
    """Path and query of the link: '/files/<blob>?exp=..&name=..&sig=..'."""
    query = urlencode({"exp": grant.expires, "name": grant.name, "sig": _signature(grant, secret)})
    return f"{PREFIX}{quote(grant.blob)}?{query}"


def verify(blob: str, query: Mapping[str, str], secret: str, *, now: datetime) -> FileGrant:
    """The grant of a link that this installation signed and that has not expired. Raises NotFound otherwise."""
    grant = _parse_grant(blob, query)
    if (
        grant is None
        or not _has_valid_signature(grant, query, secret)
        or grant.expires <= now.astimezone(UTC).timestamp()
    ):
        raise NotFound(
            "This link is not valid or has expired.", hint="Get the job again: every response has a fresh link."
        )
    return grant


def upload_id(url: str) -> str | None:
    """The ID of the upload that a URL's path names, whatever its host; None when it names none."""
    match = _UPLOAD.search(unquote(urlsplit(url).path))
    return match.group(1) if match else None


def grant_of(url: str, secret: str) -> FileGrant | None:
    """The grant of a URL that this installation signed, whatever its host, expired or not; None for any other."""
    parts = urlsplit(url)
    blob = unquote(parts.path).rpartition(PREFIX)[2]
    query = dict(pair.split("=", 1) for pair in parts.query.split("&") if "=" in pair)
    plain = {name: unquote(value.replace("+", " ")) for name, value in query.items()}
    grant = _parse_grant(blob, plain)
    return grant if grant is not None and _has_valid_signature(grant, plain, secret) else None


def _parse_grant(blob: str, query: Mapping[str, str]) -> FileGrant | None:
    expires = query.get("exp", "")
    if not (expires.isascii() and expires.isdigit() and len(expires) <= 12):
        return None
    return FileGrant(blob, query.get("name", ""), int(expires))


def _has_valid_signature(grant: FileGrant, query: Mapping[str, str], secret: str) -> bool:
    return hmac.compare_digest(_signature(grant, secret).encode(), query.get("sig", "").encode())


def _signature(grant: FileGrant, secret: str) -> str:
    words = f"{len(grant.blob)}:{grant.blob}{len(grant.name)}:{grant.name}{grant.expires}"
    return hmac.new(secret.encode(), words.encode(), hashlib.sha256).hexdigest()
