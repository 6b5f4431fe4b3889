"""Downloads one URL to one file: HTTPS only, resumable, and never more than the announced size."""

import ipaddress
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from alphareel.domain.errors import FetchFailed, FetchRefused, StorageFailed, WeightsInvalid

_REDIRECT_STATUS = (301, 302, 303, 307, 308)
_TRANSIENT_STATUS = (408, 425, 429, 500, 502, 503, 504)
MAX_REDIRECTS = 5
MIN_FREE_BYTES = 64 * 1024 * 1024

OnProgress = Callable[[int, int | None], None]
"""Called as bytes arrive, with the bytes so far and the total (None if unknown)."""


class DownloadRefused(FetchFailed):
    """The server refused permanently. A retry will not help."""

    retryable = False


class _RestartRequired(Exception):
    """The partial file is not the beginning of the file on the server."""


@dataclass(frozen=True)
class RetryPolicy:
    """When to give up and how long to wait. All times are in seconds."""

    max_attempts: int = 5
    """Consecutive attempts without a new byte."""
    connect_timeout: float = 15.0
    idle_timeout: float = 60.0
    delay: float = 1.0
    """Delay before the first retry. Doubles with each one."""


@dataclass(frozen=True)
class Downloader:
    """Downloads files with the proxies and certificates of the environment."""

    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)
    sleep: Callable[[float], None] = time.sleep

    def fetch(
        self, url: str, part: Path, *, size: int | None = None, resumable: bool = False, on_progress: OnProgress
    ) -> None:
        """Download ``url`` to ``part``. After an interruption, the next call resumes.

        ``size``: the expected size in bytes. ``resumable``: resume even if the server sends no ETag or Last-Modified,
        because the caller checks a hash. Raises FetchFailed (DownloadRefused if permanent), FetchRefused,
        WeightsInvalid for another size, or StorageFailed.
        """
        failures = 0
        while True:
            before = _length(part)
            try:
                self._continue(_PartialDownload(url, part, size, resumable), on_progress)
            except _RestartRequired:
                discard(part)
                failures += 1
            except FetchFailed as error:
                failures = 1 if _length(part) > before else failures + 1
                if not error.retryable or failures >= self.retry_policy.max_attempts:
                    raise
            else:
                return
            if failures >= self.retry_policy.max_attempts:
                raise FetchFailed(f"{url} changed during every attempt to download it.")
            self.sleep(self.retry_policy.delay * 2 ** (failures - 1))

    def _continue(self, partial: "_PartialDownload", on_progress: OnProgress) -> None:
        offset = partial.offset()
        if partial.size is not None and offset == partial.size:
            on_progress(offset, offset)
            return
        timeout = httpx2.Timeout(self.retry_policy.idle_timeout, connect=self.retry_policy.connect_timeout)
        with (
            translate_errors(partial.url),
            httpx2.Client(timeout=timeout) as client,
            _open(client, partial.url, partial.headers(offset)) as response,
        ):
            offset, total = partial.check_response(response, offset)
            _check_space(partial.part, total, offset)
            partial.write_state(response)
            _append(response, partial.part, offset, total=total, on_progress=on_progress)


@dataclass(frozen=True)
class _PartialDownload:
    """A partial file, with a JSON file next to it that holds its URL and its ETag or Last-Modified."""

    url: str
    part: Path
    size: int | None
    resumable: bool

    def offset(self) -> int:
        """The number of bytes to keep. Discards a file that cannot be resumed."""
        length = _length(self.part)
        if not length:
            return 0
        state = _read_state(self.part)
        is_valid = state.get("url") == self.url and (bool(state.get("validator")) or self.resumable)
        if not is_valid or (self.size is not None and length > self.size):
            discard(self.part)
            return 0
        return length

    def headers(self, offset: int) -> dict[str, str]:
        headers = {"User-Agent": "alphareel", "Accept": "*/*", "Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            validator = _read_state(self.part).get("validator")
            if validator:
                headers["If-Range"] = validator
        return headers

    def check_response(self, response: httpx2.Response, offset: int) -> tuple[int, int | None]:
        """The offset of the body and the total size. Raises for a response that cannot be used."""
        status = response.status_code
        if status == 416:
            raise _RestartRequired
        if status not in (200, 206):
            raise _status_error(self.url, status)
        if response.headers.get("content-encoding", "identity") != "identity":
            raise DownloadRefused(f"{self.url} was sent compressed although an uncompressed file was requested.")
        if status == 200:
            offset, total = 0, _number(response.headers.get("content-length"))
        else:
            start, total = _range_of(response)
            if start != offset:
                raise _RestartRequired
        if self.size is not None and total is not None and total != self.size:
            raise WeightsInvalid(
                f"{self.url} has {total} bytes, not {self.size}.",
                hint="The publisher has changed the file: update alphareel, or use a mirror.",
            )
        return offset, total if total is not None else self.size

    def write_state(self, response: httpx2.Response) -> None:
        etag = response.headers.get("etag", "")
        validator = etag if etag and not etag.startswith("W/") else response.headers.get("last-modified", "")
        _state_file(self.part).write_text(json.dumps({"url": self.url, "validator": validator}))


@contextmanager
def _open(client: httpx2.Client, url: str, headers: dict[str, str]) -> Iterator[httpx2.Response]:
    """The response after all redirects. Each redirect is checked before it is followed."""
    current = httpx2.URL(url)
    _check_scheme(current)
    for _ in range(MAX_REDIRECTS + 1):
        with client.stream("GET", current, headers=headers) as response:
            if response.status_code not in _REDIRECT_STATUS:
                yield response
                return
            target = current.join(response.headers.get("location", ""))
        if target.scheme != "https" and not (_is_loopback(current) and _is_loopback(target)):
            raise FetchRefused(f"{current.host} redirects to {target.scheme}://{target.host}, which is not encrypted.")
        current = target
    raise FetchRefused(f"{url} redirects more than {MAX_REDIRECTS} times.")


def _check_scheme(url: httpx2.URL) -> None:
    if url.scheme != "https" and not (url.scheme == "http" and _is_loopback(url)):
        raise FetchRefused(
            f"{url} is not an HTTPS URL.",
            hint="Weights are downloaded over HTTPS. Plain HTTP works only from this machine.",
        )


def _is_loopback(url: httpx2.URL) -> bool:
    try:
        return url.scheme in ("http", "https") and ipaddress.ip_address(url.host).is_loopback
    except ValueError:
        return url.scheme in ("http", "https") and url.host == "localhost"


def _append(response: httpx2.Response, part: Path, offset: int, *, total: int | None, on_progress: OnProgress) -> None:
    done = offset
    try:
        with part.open("r+b" if offset else "wb") as file:
            file.seek(offset)
            file.truncate()
            on_progress(done, total)
            for data in response.iter_raw():
                done += len(data)
                if total is not None and done > total:
                    raise DownloadRefused(f"{response.url.host} sent more than it announced.")
                file.write(data)
                on_progress(done, total)
    except OSError as error:
        raise StorageFailed(f"{part} cannot be written: {error.strerror or error}.") from error
    if total is not None and done < total:
        raise FetchFailed(f"{response.url.host} stopped after {done} of {total} bytes.", hint=_RESUME_HINT)


_RESUME_HINT = "Run the command again to resume."


def _check_space(part: Path, total: int | None, offset: int) -> None:
    free = shutil.disk_usage(part.parent).free
    required = (total or offset) - offset + MIN_FREE_BYTES
    if free < required:
        raise StorageFailed(
            f"{part.parent} has {free / 1e6:.0f} MB free, but {required / 1e6:.0f} MB are needed.",
            hint="Free some space, or choose another folder with --models-dir.",
        )


def _status_error(url: str, status: int) -> FetchFailed:
    if status in _TRANSIENT_STATUS:
        return FetchFailed(f"{url} returned status {status}.", hint=_RESUME_HINT)
    if status in (401, 403):
        return DownloadRefused(f"{url} returned status {status}: it is not public.", hint="Download it by hand.")
    return DownloadRefused(f"{url} returned status {status}.", hint="See the model card for other sources.")


def _range_of(response: httpx2.Response) -> tuple[int, int | None]:
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("content-range", ""))
    if match is None:
        raise _RestartRequired
    return int(match[1]), _number(match[2])


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


def _length(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _state_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_state(part: Path) -> dict[str, str]:
    try:
        note = json.loads(_state_file(part).read_text())
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def discard(part: Path) -> None:
    """Delete the partial download."""
    part.unlink(missing_ok=True)
    _state_file(part).unlink(missing_ok=True)


@contextmanager
def translate_errors(url: str) -> Iterator[None]:
    try:
        yield
    except httpx2.TimeoutException as error:
        raise FetchFailed(f"{url} did not respond in time.", hint=_RESUME_HINT) from error
    except httpx2.TransportError as error:
        raise FetchFailed(
            f"{url} cannot be downloaded: {str(error) or type(error).__name__}.", hint=_RESUME_HINT
        ) from error
    except httpx2.InvalidURL as error:
        raise FetchRefused(f"{url} is not a URL.") from error
