"""One address into one file: over HTTPS alone, from where it stopped, and never more than was announced."""

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

_REDIRECTS = (301, 302, 303, 307, 308)
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_MOST_HOPS = 6
_SPACE_KEPT = 64 * 1024 * 1024

Report = Callable[[int, int | None], None]
"""Called as bytes arrive: how many lie there, and how many there will be (None while nobody knows)."""


class DownloadRefused(FetchFailed):
    """The other side answered, and the answer was no: asking again will not help."""

    retryable = False


class _StartAgain(Exception):
    """What lies there is not the beginning of what the other side has."""


@dataclass(frozen=True)
class RetryPolicy:
    """``tries``: attempts in a row that bring nothing. Seconds; ``pause`` doubles with each of them."""

    tries: int = 5
    connect: float = 15.0
    idle: float = 60.0
    pause: float = 1.0


@dataclass(frozen=True)
class Downloader:
    """Fetches files; proxies and certificates are those of the environment."""

    patience: RetryPolicy = field(default_factory=RetryPolicy)
    sleep: Callable[[float], None] = time.sleep

    def fetch(self, url: str, part: Path, *, size: int | None = None, safe: bool = False, report: Report) -> None:
        """Bring ``part`` to the whole of ``url``; after an interruption the next call goes on where this one stopped.

        ``size`` is what the whole must have. ``safe``: a hash will tell whether the pieces belong together, so a server
        that cannot say so is resumed all the same. Raises FetchFailed (Gone when it is final), FetchRefused,
        WeightsInvalid for another size, StorageFailed.
        """
        failures = 0
        while True:
            before = _length(part)
            try:
                self._continue(_PartialDownload(url, part, size, safe), report)
            except _StartAgain:
                forget(part)
                failures += 1
            except FetchFailed as error:
                failures = 1 if _length(part) > before else failures + 1
                if not error.retryable or failures >= self.patience.tries:
                    raise
            else:
                return
            if failures >= self.patience.tries:
                raise FetchFailed(f"{url} does not keep still: each answer was of another file.")
            self.sleep(self.patience.pause * 2 ** (failures - 1))

    def _continue(self, piece: "_PartialDownload", report: Report) -> None:
        begun = piece.begun()
        if piece.size is not None and begun == piece.size:
            report(begun, begun)
            return
        timeout = httpx2.Timeout(self.patience.idle, connect=self.patience.connect)
        with (
            _failures_as_ours(piece.url),
            httpx2.Client(timeout=timeout) as client,
            _open(client, piece.url, piece.headers(begun)) as response,
        ):
            begun, whole = piece.reserve(response, begun)
            _check_space(piece.part, whole, begun)
            piece.remember(response)
            _append(response, piece.part, begun, whole=whole, report=report)


@dataclass(frozen=True)
class _PartialDownload:
    """A file that grows. Beside it lies a note: from where it came, and by what the other side knows that version."""

    url: str
    part: Path
    size: int | None
    safe: bool

    def begun(self) -> int:
        """Bytes that may be kept."""
        length = _length(self.part)
        if not length:
            return 0
        note = _read_note(self.part)
        kept = note.get("url") == self.url and (bool(note.get("validator")) or self.safe)
        if not kept or (self.size is not None and length > self.size):
            forget(self.part)
            return 0
        return length

    def headers(self, begun: int) -> dict[str, str]:
        made = {"User-Agent": "alphareel", "Accept": "*/*", "Accept-Encoding": "identity"}
        if begun:
            made["Range"] = f"bytes={begun}-"
            validator = _read_note(self.part).get("validator")
            if validator:
                made["If-Range"] = validator
        return made

    def reserve(self, response: httpx2.Response, begun: int) -> tuple[int, int | None]:
        """Where the body begins and how long the whole is, or the reason why not."""
        status = response.status_code
        if status == 416:
            raise _StartAgain
        if status not in (200, 206):
            raise _refusal(self.url, status)
        if response.headers.get("content-encoding", "identity") != "identity":
            raise DownloadRefused(f"{self.url} was sent compressed, although it was asked for as it is.")
        if status == 200:
            begun, whole = 0, _number(response.headers.get("content-length"))
        else:
            start, whole = _range_of(response)
            if start != begun:
                raise _StartAgain
        if self.size is not None and whole is not None and whole != self.size:
            raise WeightsInvalid(
                f"{self.url} has {whole} bytes, not {self.size}.",
                hint="The publisher has changed the file: look for a newer alphareel, or use a mirror.",
            )
        return begun, whole if whole is not None else self.size

    def remember(self, response: httpx2.Response) -> None:
        etag = response.headers.get("etag", "")
        validator = etag if etag and not etag.startswith("W/") else response.headers.get("last-modified", "")
        _note_of(self.part).write_text(json.dumps({"url": self.url, "validator": validator}))


@contextmanager
def _open(client: httpx2.Client, url: str, headers: dict[str, str]) -> Iterator[httpx2.Response]:
    """The answer behind all redirects, each of which is checked before it is followed."""
    here = httpx2.URL(url)
    _check_first(here)
    for _ in range(_MOST_HOPS):
        with client.stream("GET", here, headers=headers) as response:
            if response.status_code not in _REDIRECTS:
                yield response
                return
            there = here.join(response.headers.get("location", ""))
        if there.scheme != "https" and not (_is_loopback(here) and _is_loopback(there)):
            raise FetchRefused(f"{here.host} redirects to {there.scheme}://{there.host}, which is not encrypted.")
        here = there
    raise FetchRefused(f"{url} redirects more than {_MOST_HOPS - 1} times.")


def _check_first(url: httpx2.URL) -> None:
    if url.scheme != "https" and not (url.scheme == "http" and _is_loopback(url)):
        raise FetchRefused(
            f"{url} is not an https address.", hint="Weights are fetched over HTTPS; plain HTTP only from this machine."
        )


def _is_loopback(url: httpx2.URL) -> bool:
    try:
        return url.scheme in ("http", "https") and ipaddress.ip_address(url.host).is_loopback
    except ValueError:
        return url.scheme in ("http", "https") and url.host == "localhost"


def _append(response: httpx2.Response, part: Path, begun: int, *, whole: int | None, report: Report) -> None:
    done = begun
    try:
        with part.open("r+b" if begun else "wb") as file:
            file.seek(begun)
            file.truncate()
            report(done, whole)
            for piece in response.iter_raw():
                done += len(piece)
                if whole is not None and done > whole:
                    raise DownloadRefused(f"{response.url.host} sent more than it announced.")
                file.write(piece)
                report(done, whole)
    except OSError as error:
        raise StorageFailed(f"{part} cannot be written: {error.strerror or error}.") from error
    if whole is not None and done < whole:
        raise FetchFailed(f"{response.url.host} stopped after {done} of {whole} bytes.", hint=_GOES_ON)


_GOES_ON = "Run the same command again: it goes on where it stopped."


def _check_space(part: Path, whole: int | None, begun: int) -> None:
    free = shutil.disk_usage(part.parent).free
    wanted = (whole or begun) - begun + _SPACE_KEPT
    if free < wanted:
        raise StorageFailed(
            f"{part.parent} has {free / 1e6:.0f} MB free, and {wanted / 1e6:.0f} MB are needed.",
            hint="Make room, or name another folder with --models-dir.",
        )


def _refusal(url: str, status: int) -> FetchFailed:
    if status in _PASSING:
        return FetchFailed(f"{url} answered with status {status}.", hint=_GOES_ON)
    if status in (401, 403):
        return DownloadRefused(
            f"{url} answered with status {status}: it is not open to everybody.", hint="Fetch it by hand."
        )
    return DownloadRefused(
        f"{url} answered with status {status}.", hint="See the model's card for where else it can be had."
    )


def _range_of(response: httpx2.Response) -> tuple[int, int | None]:
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("content-range", ""))
    if match is None:
        raise _StartAgain
    return int(match[1]), _number(match[2])


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


def _length(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _note_of(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_note(part: Path) -> dict[str, str]:
    try:
        note = json.loads(_note_of(part).read_text())
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def forget(part: Path) -> None:
    """Remove what was fetched so far."""
    part.unlink(missing_ok=True)
    _note_of(part).unlink(missing_ok=True)


@contextmanager
def _failures_as_ours(url: str) -> Iterator[None]:
    try:
        yield
    except httpx2.TimeoutException as error:
        raise FetchFailed(f"{url} did not answer in time.", hint=_GOES_ON) from error
    except httpx2.TransportError as error:
        raise FetchFailed(f"{url} cannot be fetched: {str(error) or type(error).__name__}.", hint=_GOES_ON) from error
    except httpx2.InvalidURL as error:
        raise FetchRefused(f"{url} is no address.") from error
