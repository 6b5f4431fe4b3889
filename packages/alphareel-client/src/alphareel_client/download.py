"""Downloads: resumed after an interruption, verified, and moved to the target in one step."""

import hashlib
import mimetypes
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import httpx2

from alphareel_client.errors import ApiError, DownloadFailed, JobFailed
from alphareel_client.transport import is_passing, pause, unreachable
from alphareel_client.types import Job

OnBytes = Callable[[int, int], None]

_MAX_STALLS = 5
_SEPARATORS = (os.sep, os.altsep or os.sep)
_LINK_IS_STALE = frozenset({403, 404, 410})


def fetch(
    http: httpx2.Client,
    get_job: Callable[[], Job],
    path: str | Path,
    *,
    overwrite: bool,
    on_progress: OnBytes | None,
) -> Path:
    """Download the output of the job; ``get_job`` brings it with a fresh link each time.

    What was received is kept beside the target as ``<name>.<hash>.part`` until the download is complete.
    """
    _check_path(path, overwrite=overwrite)
    job = _completed(get_job())
    target = _target(path, job, overwrite=overwrite)
    partial = _Partial.of(job, target, on_progress)
    stalls = 0
    while not partial.is_complete:
        before = partial.size
        try:
            partial.receive(http, _link(job))
        except ApiError as error:
            if not (is_passing(error) or error.status_code in _LINK_IS_STALE):
                raise
            stalls = stalls + 1 if partial.size == before else 0
            if stalls > _MAX_STALLS:
                raise
            time.sleep(pause(stalls, error.retry_after))
            job = _completed(get_job())
    return partial.deliver(overwrite=overwrite)


def _check_path(path: str | Path, *, overwrite: bool) -> None:
    """Refuse what can be refused before the first request."""
    folder = Path(path)
    if not folder.is_dir():
        if os.fspath(path).endswith(_SEPARATORS):
            kind = NotADirectoryError if folder.exists() else FileNotFoundError
            raise kind(f"{path} is not a folder. Create it first, or name a file.")
        if not folder.parent.is_dir():
            raise FileNotFoundError(f"The folder {folder.parent} does not exist. Create it first.")
        _check_target(folder, overwrite=overwrite)


def _target(path: str | Path, job: Job, *, overwrite: bool) -> Path:
    """The file to write; in a folder it is named after the job, with the suffix of the link."""
    target = Path(path)
    if target.is_dir():
        suffix = PurePosixPath(urlsplit(_link(job)).path).suffix
        if not re.fullmatch(r"\.[A-Za-z0-9]{1,8}", suffix):
            suffix = mimetypes.guess_extension(job["output"]["mime"] if job["output"] else "") or ""
        target /= re.sub(r"[^A-Za-z0-9_-]", "", job["id"]) + suffix
        _check_target(target, overwrite=overwrite)
    return target


def _check_target(target: Path, *, overwrite: bool) -> None:
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a folder. Name a file.")
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists. Choose another name, or pass overwrite=True.")


@dataclass
class _Partial:
    """A file that is not complete yet. ``total`` and ``sha256`` are None while they are unknown."""

    path: Path
    target: Path
    total: int | None
    sha256: str | None
    on_progress: OnBytes | None

    @classmethod
    def of(cls, job: Job, target: Path, on_progress: OnBytes | None) -> "_Partial":
        output = job.get("output")
        total, sha256 = (output["size"], output["sha256"]) if output else (None, None)
        version = re.sub(r"[^A-Za-z0-9]", "", sha256 or job["id"])[:24]
        return cls(target.with_name(f"{target.name}.{version}.part"), target, total, sha256, on_progress)

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def is_complete(self) -> bool:
        return self.total is not None and self.size >= self.total

    def receive(self, http: httpx2.Client, url: str) -> None:
        """Append what is missing; raises ApiError when the server refuses or the connection is lost."""
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
            raise ApiError("The partial file is longer than the server's file. It was deleted.", code="connection_lost")
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
        if self.total is None:  # there was no Content-Length, and the stream ended without an error
            self.total = self.size

    def deliver(self, *, overwrite: bool) -> Path:
        """Verify and move to the target. Raises DownloadFailed, FileExistsError."""
        if self.size != self.total or (self.sha256 is not None and _hash(self.path) != self.sha256):
            self.path.unlink()
            raise DownloadFailed(f"{self.target.name} is damaged: its size or SHA-256 is not the job's. Try again.")
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        _check_target(self.target, overwrite=overwrite)  # it may have appeared meanwhile
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
        raise ApiError(f"Job {job['id']} has no output any more: its files have expired or were deleted.")
    return url


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
