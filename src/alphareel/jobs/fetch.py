"""Outbound downloads that cannot be turned against the network they run in; bounded in size, time and redirects."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import httpcore2
import httpx2

from alphareel.domain.errors import FetchFailed, FetchRefused, FileTooLarge, StorageFailed
from alphareel.jobs.addresses import GuardedBackend, Network
from alphareel.jobs.ports import Fetched
from alphareel.jobs.uploads import plain_name

_REDIRECTS = (301, 302, 303, 307, 308)
_PASSING_REFUSALS = (408, 425, 429)

Tick = Callable[[], None]


class SourceMissing(FetchFailed):
    """The other side answered, and the answer was no: asking again will not help."""

    retryable = False


@dataclass(frozen=True)
class FetchRules:
    """``allowed``: networks that may be reached although they are private. Times in seconds."""

    allowed: Sequence[Network] = ()
    connect_seconds: float = 10.0
    idle_seconds: float = 30.0
    total_seconds: float = 900.0
    max_redirects: int = 5


@dataclass(frozen=True)
class GuardedFetcher:
    """Fetcher over httpcore2; it takes no proxy and no credentials from the environment."""

    rules: FetchRules = field(default_factory=FetchRules)

    def fetch(self, url: str, target: Path, *, max_bytes: int, tick: Tick = lambda: None) -> Fetched:
        backend = GuardedBackend(self.rules.allowed, time.monotonic() + self.rules.total_seconds)
        trust = httpx2.create_ssl_context()
        with (
            _failures_as_ours(),
            httpcore2.ConnectionPool(ssl_context=trust, network_backend=backend, max_connections=1) as pool,
        ):
            return self._follow(pool, httpx2.URL(url), target, _Bounds(max_bytes, tick))

    def _follow(self, pool: httpcore2.ConnectionPool, url: httpx2.URL, target: Path, bounds: "_Bounds") -> Fetched:
        for _ in range(self.rules.max_redirects + 1):
            check_form(url)
            with pool.stream("GET", str(url), headers=_headers(url), extensions=self._patience()) as response:
                if response.status not in _REDIRECTS:
                    return _save(response, url, target, bounds)
                url = url.join(_header(response, b"location"))
        raise FetchRefused(f"The address redirects more than {self.rules.max_redirects} times.")

    def _patience(self) -> dict[str, dict[str, float]]:
        idle = self.rules.idle_seconds
        return {"timeout": {"connect": self.rules.connect_seconds, "read": idle, "write": idle, "pool": idle}}


def check_form(url: httpx2.URL) -> None:
    """Raises FetchRefused for what is no plain web address."""
    if url.scheme not in ("http", "https") or not url.host:
        raise FetchRefused("Only http and https addresses are fetched.")
    if url.userinfo:
        raise FetchRefused("An address with a user name or password in it is not fetched.")


def _headers(url: httpx2.URL) -> list[tuple[bytes, bytes]]:
    return [
        (b"Host", url.netloc),
        (b"User-Agent", b"alphareel"),
        (b"Accept", b"*/*"),
        (b"Accept-Encoding", b"identity"),
    ]


@dataclass(frozen=True)
class _Bounds:
    """How much is taken, and whom to ask on the way whether it is still wanted."""

    max_bytes: int
    tick: Tick


def _save(response: httpcore2.Response, url: httpx2.URL, target: Path, bounds: _Bounds) -> Fetched:
    _check_status(response.status)
    if _header(response, b"content-encoding") not in ("", "identity"):
        raise SourceMissing("The other side sent the file compressed, although it was asked not to.")
    declared = _header(response, b"content-length")
    if declared.isdigit() and int(declared) > bounds.max_bytes:
        raise _too_large(bounds.max_bytes)
    size = _copy(response, target, bounds)
    name = plain_name(unquote(url.path.rpartition("/")[2]))
    return Fetched(target, name, _header(response, b"content-type"), size)


def _copy(response: httpcore2.Response, target: Path, bounds: _Bounds) -> int:
    size = 0
    try:
        with target.open("wb") as file:
            for piece in response.iter_stream():
                size += len(piece)
                if size > bounds.max_bytes:
                    raise _too_large(bounds.max_bytes)
                bounds.tick()
                file.write(piece)
    except OSError as error:
        raise StorageFailed(f"The fetched file could not be stored: {error.strerror or error}.") from error
    return size


def _check_status(status: int) -> None:
    if status == 200:
        return
    message = f"The address answered with status {status}."
    if 400 <= status < 500 and status not in _PASSING_REFUSALS:
        raise SourceMissing(message, hint="Check that the address is right and open to everybody.")
    raise FetchFailed(message)


def _header(response: httpcore2.Response, name: bytes) -> str:
    return next((value.decode("latin-1").strip() for key, value in response.headers if key.lower() == name), "")


def _too_large(max_bytes: int) -> FileTooLarge:
    return FileTooLarge(f"File too large: more than {max_bytes} bytes.", hint="Cut or compress the video.")


@contextmanager
def _failures_as_ours() -> Iterator[None]:
    try:
        yield
    except httpcore2.TimeoutException as error:
        raise FetchFailed("The other side did not send the file in time.") from error
    except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
        raise FetchFailed(f"The address cannot be fetched: {str(error) or type(error).__name__}.") from error
    except (httpcore2.UnsupportedProtocol, httpx2.InvalidURL) as error:
        raise FetchRefused("The address is no URL that can be fetched.") from error
