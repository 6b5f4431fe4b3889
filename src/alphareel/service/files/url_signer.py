"""Makes the links that callers get: to a job's output, to an upload, each for a while."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath

from alphareel.service.files import blob_keys, signed_urls
from alphareel.service.jobs.models import Job, Status
from alphareel.service.ports import Clock
from alphareel.service.uploads.models import Upload

_PREVIEW_STEADY = timedelta(minutes=10)


@dataclass(frozen=True)
class Link:
    """A signed, expiring address of a blob: absolute on this server ('/files/...?exp=..&name=..&sig=..')."""

    url: str
    expires_at: datetime


@dataclass(frozen=True)
class UrlSigner:
    """``secret`` signs and is one for the installation."""

    secret: str
    lifetime: timedelta
    clock: Clock

    def output_link(self, job: Job) -> Link | None:
        """A fresh link that ends with the file at the latest; None while there is no file, or no more."""
        if job.output is None or job.files_expired_at is not None:
            return None
        return self._link(job.output.blob, job.id + PurePosixPath(job.output.blob).suffix, job.files_expire_at)

    def preview_link(self, job: Job) -> Link | None:
        """To the newest small picture of a job that runs. The same for a while, or polls would always find news."""
        if job.preview is None or job.status is not Status.PROCESSING:
            return None
        period = _PREVIEW_STEADY.total_seconds()
        past = self.clock.now().timestamp() % period
        return self._link(
            job.preview, job.id + PurePosixPath(job.preview).suffix, later=timedelta(seconds=period - past)
        )

    def upload_link(self, upload: Upload) -> Link:
        """Names the upload itself, because its blob may be another's too."""
        return self._link(blob_keys.upload_key(upload.id, PurePosixPath(upload.blob).suffix[1:]), upload.filename)

    def _link(self, blob: str, name: str, until: datetime | None = None, *, later: timedelta = timedelta()) -> Link:
        expires = (self.clock.now() + later).replace(microsecond=0) + self.lifetime
        if until is not None:
            expires = min(expires, until.replace(microsecond=0))
        return Link(signed_urls.sign(signed_urls.FileGrant(blob, name, int(expires.timestamp())), self.secret), expires)
