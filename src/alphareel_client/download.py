"""A result on its way to disk: resumed after interruptions, verified, and at its place in one step."""

import hashlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx2

from alphareel_client.errors import ApiError, DownloadFailed, JobFailed
from alphareel_client.types import Job
from alphareel_client.wire import is_passing, pause, unreachable

OnBytes = Callable[[int, int], None]

_MOST_STALLS = 5
_LINK_IS_STALE = frozenset({403, 404, 410})


def fetch(http: httpx2.Client, look: Callable[[], Job], target: Path, *, on_progress: OnBytes | None) -> Path:
    """Bring the output of the job that ``look()`` shows to ``target``; each look brings a fresh link.

    What came so far stays beside the target as ``.<name>.<hash>.part``, so that nothing is fetched twice.
    """
    job = _completed(look())
    partial = _Partial.of(job, target, on_progress)
    stalls = 0
    while not partial.is_whole:
        before = partial.size
        try:
            partial.receive(http, _link(job))
        except ApiError as error:
            if not (is_passing(error) or error.status_code in _LINK_IS_STALE):
                raise
            stalls = stalls + 1 if partial.size == before else 0
            if stalls > _MOST_STALLS:
                raise
            time.sleep(pause(stalls, error.retry_after))
            job = _completed(look())
    return partial.deliver()


@dataclass
class _Partial:
    """A file that is not whole yet. ``total`` and ``sha256`` are None as long as nobody told them."""

    path: Path
    target: Path
    total: int | None
    sha256: str | None
    on_progress: OnBytes | None

    @classmethod
    def of(cls, job: Job, target: Path, on_progress: OnBytes | None) -> "_Partial":
        facts = job.get("output")
        total, sha256 = (facts["size"], facts["sha256"]) if facts else (None, None)
        mark = re.sub(r"[^A-Za-z0-9]", "", sha256 or job["id"])[:24]
        return cls(target.with_name(f".{target.name}.{mark}.part"), target, total, sha256, on_progress)

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def is_whole(self) -> bool:
        return self.total is not None and self.size >= self.total

    def receive(self, http: httpx2.Client, url: str) -> None:
        """Append what is missing; raises ApiError when the server refuses or the connection breaks."""
        headers = {"Accept-Encoding": "identity"}  # ranges count bytes of the file, not of a compressed transfer
        if self.size:
            headers["Range"] = f"bytes={self.size}-"
        try:
            with http.stream("GET", url, headers=headers, follow_redirects=True) as response:
                self._check(response)
                self._append(response)
        except httpx2.TransportError as error:
            raise unreachable(error, url.partition("?")[0]) from error

    def _check(self, response: httpx2.Response) -> None:
        if response.status_code == 416:  # longer than the file: it cannot be the beginning of it
            self.path.unlink()
            raise ApiError("The server has less than was already there.", code="connection_lost")
        if response.status_code not in (200, 206):
            raise ApiError(f"The download was refused with {response.status_code}.", response.status_code)
        resumed = response.status_code == 206
        length = response.headers.get("content-length", "")
        if self.total is None and length.isdecimal():
            self.total = int(length) + (self.size if resumed else 0)

    def _append(self, response: httpx2.Response) -> None:
        with self.path.open("ab" if response.status_code == 206 else "wb") as file:
            for piece in response.iter_bytes():
                file.write(piece)
                if self.on_progress is not None:
                    self.on_progress(file.tell(), self.total or 0)
        if self.total is None:  # no length was told and the stream ended well
            self.total = self.size

    def deliver(self) -> Path:
        """Verify and move into place; raises DownloadFailed and keeps nothing when the bytes are not the promised."""
        if self.size != self.total or (self.sha256 is not None and _hash(self.path) != self.sha256):
            self.path.unlink()
            raise DownloadFailed(f"{self.target.name} arrived damaged: its size or SHA-256 is not the job's.")
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self.path.replace(self.target)
        return self.target


def _completed(job: Job) -> Job:
    if job["status"] == "failed":
        raise JobFailed(job)
    if job["status"] != "completed":
        raise ApiError(f"Job {job['id']} is {job['status']}, not completed.")
    return job


def _link(job: Job) -> str:
    url = job["output_url"]
    if not url:
        raise ApiError(f"Job {job['id']} has no output any more.")
    return url


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
