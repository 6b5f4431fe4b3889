"""Outbound PUT requests that reach no private network. No redirect is followed."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import httpcore2
import httpx2

from alphareel.domain.errors import FetchFailed, FetchRefused
from alphareel.service.net.download import check_form
from alphareel.service.net.ssrf_guard import GuardedBackend, trusted_authorities
from alphareel.service.settings import FetchSettings

_PIECE = 64 * 1024
_MOST_READ = 64 * 1024

Tick = Callable[[], None]


class ReceiverTooSlow(FetchFailed):
    """The receiver accepts the file, but too slowly for the time limit; another try would take as long."""

    retryable = False


@dataclass(frozen=True)
class GuardedSender:
    """FileSender over httpcore2; it takes no proxy and no credentials from the environment."""

    settings: FetchSettings = field(default_factory=FetchSettings)

    def send(
        self,
        url: str,
        headers: Mapping[str, str],
        pieces: Iterable[bytes],
        *,
        size: int,
        seconds: float,
        tick: Tick = lambda: None,
    ) -> int:
        deadline = time.monotonic() + seconds
        try:
            backend = GuardedBackend(self.settings.allow_cidrs, deadline, lambda _count, _seconds: tick())
            own_names = {name.lower() for name in headers}
            own = {"User-Agent": "alphareel", "Content-Length": str(size)}
            full = {**{name: value for name, value in own.items() if name.lower() not in own_names}, **headers}
            return self._send(backend, httpx2.URL(url), full, _small(pieces, tick))
        except httpcore2.TimeoutException as error:
            if time.monotonic() >= deadline:
                raise ReceiverTooSlow(f"The receiver did not take the file within {seconds:.0f} seconds.") from error
            raise FetchFailed(f"The receiver was silent for {self.settings.idle_seconds:g} seconds.") from error
        except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            raise FetchFailed(f"The receiver cannot be reached: {str(error) or type(error).__name__}.") from error
        except (httpcore2.UnsupportedProtocol, httpx2.InvalidURL) as error:
            raise FetchRefused("The address is not a URL that can be reached.") from error

    def _send(
        self, backend: GuardedBackend, url: httpx2.URL, headers: Mapping[str, str], pieces: Iterator[bytes]
    ) -> int:
        check_form(url)
        full = [(b"Host", url.netloc)]
        full += [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
        idle = self.settings.idle_seconds
        timeouts = {"connect": self.settings.connect_seconds, "read": idle, "write": idle, "pool": idle}
        with (
            httpcore2.ConnectionPool(
                ssl_context=trusted_authorities(), network_backend=backend, max_connections=1
            ) as pool,
            pool.stream("PUT", str(url), headers=full, content=pieces, extensions={"timeout": timeouts}) as response,
        ):
            _read_rest(response)
            return response.status


def _small(pieces: Iterable[bytes], tick: Tick) -> Iterator[bytes]:
    """The same bytes in pieces that a slow receiver takes in a moment, with a tick after each."""
    for piece in pieces:
        for start in range(0, len(piece), _PIECE):
            yield piece[start : start + _PIECE]
            tick()


def _read_rest(response: httpcore2.Response) -> None:
    """Read a short response to its end: stores report some failures by breaking it off.

    Raises what reading raises.
    """
    size = 0
    for piece in response.iter_stream():
        size += len(piece)
        if size > _MOST_READ:
            return
