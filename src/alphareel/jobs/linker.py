"""Makes the links that callers get: to a job's output, to an upload, each for a while."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath

from alphareel.jobs import links
from alphareel.jobs.job import Job, Upload
from alphareel.jobs.ports import Clock


@dataclass(frozen=True)
class Link:
    """A signed, expiring address of a blob: absolute on this server ('/files/...?exp=..&name=..&sig=..')."""

    url: str
    expires_at: datetime


@dataclass(frozen=True)
class Linker:
    """``secret`` signs and is one for the installation."""

    secret: str
    lifetime: timedelta
    clock: Clock

    def output_link(self, job: Job) -> Link | None:
        """A fresh link that ends with the file at the latest; None while there is no file, or no more."""
        if job.output is None or job.files_expired_at is not None:
            return None
        return self._link(job.output.blob, job.id + PurePosixPath(job.output.blob).suffix, job.files_expire_at)

    def upload_link(self, upload: Upload) -> Link:
        """Names the upload itself, because its blob may be another's too."""
        return self._link(f"uploads/{upload.id}{PurePosixPath(upload.blob).suffix}", upload.filename)

    def _link(self, blob: str, name: str, until: datetime | None = None) -> Link:
        expires = self.clock.now().replace(microsecond=0) + self.lifetime
        if until is not None:
            expires = min(expires, until.replace(microsecond=0))
        return Link(links.sign(links.Claim(blob, name, int(expires.timestamp())), self.secret), expires)
