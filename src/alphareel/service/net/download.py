"""Outbound downloads that reach no private network; bounded in size, time and redirects."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import httpcore2
import httpx2

from alphareel.domain.errors import FetchFailed, FetchRefused, FileTooLarge, StorageFailed
from alphareel.service.net.ssrf_guard import GuardedBackend, trusted_authorities
from alphareel.service.ports import FetchedFile
from alphareel.service.settings import FetchSettings
from alphareel.service.uploads.service import plain_name

_REDIRECTS = (301, 302, 303, 307, 308)
_LAST_PORT = 65535
_LONGEST_LABEL = 63
_PASSING_REFUSALS = (408, 425, 429)

Tick = Callable[[], None]


class SourceMissing(FetchFailed):
    """The server refused the request; another one would be refused too."""

    retryable = False


class SourceTooSlow(FetchFailed):
    """The server sends too slowly; another try would take as long."""

    retryable = False


@dataclass(frozen=True)
class GuardedFetcher:
    """Fetcher over httpcore2; it takes no proxy and no credentials from the environment."""

    settings: FetchSettings = field(default_factory=FetchSettings)

    def fetch(self, url: str, target: Path, *, max_bytes: int, tick: Tick = lambda: None) -> FetchedFile:
        deadline = time.monotonic() + self.settings.seconds
        backend = GuardedBackend(self.settings.allow_cidrs, deadline, _RateCheck(self.settings, tick))
        with (
            translate_errors(deadline),
            httpcore2.ConnectionPool(
                ssl_context=trusted_authorities(), network_backend=backend, max_connections=1
            ) as pool,
        ):
            return self._follow(pool, httpx2.URL(url), target, max_bytes)

    def _follow(self, pool: httpcore2.ConnectionPool, url: httpx2.URL, target: Path, max_bytes: int) -> FetchedFile:
        for _ in range(self.settings.max_redirects + 1):
            check_form(url)
            with pool.stream("GET", str(url), headers=_headers(url), extensions=self._timeouts()) as response:
                location = _header(response, b"location")
                if response.status not in _REDIRECTS or not location:
                    return _save(response, url, target, max_bytes)
                url = url.join(location)
        raise FetchRefused(f"The address redirects more than {self.settings.max_redirects} times.")

    def _timeouts(self) -> dict[str, dict[str, float]]:
        idle = self.settings.idle_seconds
        return {"timeout": {"connect": self.settings.connect_seconds, "read": idle, "write": idle, "pool": idle}}


def check_form(url: httpx2.URL) -> None:
    """Raises FetchRefused for what is no plain web address."""
    if url.scheme not in ("http", "https") or not url.host:
        raise FetchRefused("Only http and https addresses are fetched.")
    if url.port is not None and not 0 < url.port <= _LAST_PORT:
        raise FetchRefused(f"There is no port {url.port}.")
    if any(not 0 < len(label) <= _LONGEST_LABEL for label in url.raw_host.rstrip(b".").split(b".")):
        raise FetchRefused("The address has a host name with a part that is empty or longer than 63 characters.")
    if url.userinfo:
        raise FetchRefused("An address with a user name or password in it is not fetched.")


def _headers(url: httpx2.URL) -> list[tuple[bytes, bytes]]:
    return [
        (b"Host", url.netloc),
        (b"User-Agent", b"alphareel"),
        (b"Accept", b"*/*"),
        (b"Accept-Encoding", b"identity"),
    ]


class _RateCheck:
    """A HeartbeatReader that asks whether the file is still wanted, and ends a source that sends too slowly.

    Only the time that is spent waiting for the source counts against it.
    """

    def __init__(self, settings: FetchSettings, tick: Tick) -> None:
        self._settings = settings
        self._tick = tick
        self._waited = 0.0
        self._came = 0
        self._marks = deque([(0.0, 0)])  # the first one is a whole window old, once there was time for one

    def __call__(self, count: int, seconds: float) -> None:
        """Raises SourceTooSlow, and what the tick raises."""
        self._tick()
        self._waited += seconds
        self._came += count
        if self._waited - self._marks[-1][0] >= 1.0:
            self._marks.append((self._waited, self._came))
        window = self._settings.rate_seconds
        while len(self._marks) > 1 and self._waited - self._marks[1][0] >= window:
            self._marks.popleft()
        since, before = self._marks[0]
        span, came = self._waited - since, self._came - before
        if span >= window and came < self._settings.min_rate * span:
            raise SourceTooSlow(
                f"The address sends too slowly: {came} bytes in {span:.0f} seconds.",
                hint=f"Use one that sends at least {self._settings.min_rate} bytes a second, or upload the file.",
            )


def _save(response: httpcore2.Response, url: httpx2.URL, target: Path, max_bytes: int) -> FetchedFile:
    _check_status(response.status)
    if _header(response, b"content-encoding") not in ("", "identity"):
        raise SourceMissing("The server sent the file compressed, which is not supported.")
    declared = _header(response, b"content-length")
    if declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    size = _copy(response, target, max_bytes)
    name = plain_name(unquote(url.path.rpartition("/")[2]))
    return FetchedFile(target, name, _header(response, b"content-type"), size)


def _copy(response: httpcore2.Response, target: Path, max_bytes: int) -> int:
    size = 0
    try:
        with target.open("wb") as file:
            for piece in response.iter_stream():
                size += len(piece)
                if size > max_bytes:
                    raise _too_large(max_bytes)
                file.write(piece)
    except OSError as error:
        raise StorageFailed(f"The fetched file could not be stored: {error.strerror or error}.") from error
    return size


def _check_status(status: int) -> None:
    if status == 200:
        return
    message = f"The address answered with status {status}."
    if 400 <= status < 500 and status not in _PASSING_REFUSALS:
        raise SourceMissing(message, hint="Check that the address is right and publicly accessible.")
    raise FetchFailed(message)


def _header(response: httpcore2.Response, name: bytes) -> str:
    return next((value.decode("latin-1").strip() for key, value in response.headers if key.lower() == name), "")


def _too_large(max_bytes: int) -> FileTooLarge:
    return FileTooLarge(f"File too large: more than {max_bytes} bytes.", hint="Cut or compress the video.")


@contextmanager
def translate_errors(deadline: float) -> Iterator[None]:
    try:
        yield
    except httpcore2.TimeoutException as error:
        if time.monotonic() >= deadline:
            raise SourceTooSlow("The server did not send the whole file in time.") from error
        raise FetchFailed("The server did not send the file in time.") from error
    except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
        raise FetchFailed(f"The address cannot be fetched: {str(error) or type(error).__name__}.") from error
    except (httpcore2.UnsupportedProtocol, httpx2.InvalidURL) as error:
        raise FetchRefused("The address is not a URL that can be fetched.") from error
