"""Outbound POST requests that reach no private network. No redirect is followed."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import httpcore2
import httpx2

from alphareel.domain.errors import FetchFailed, FetchRefused
from alphareel.service.net.download import check_form
from alphareel.service.net.ssrf_guard import GuardedBackend, Network, trusted_authorities

_MOST_READ = 64 * 1024  # of a body
_MOST_RECEIVED = 512 * 1024  # with headers, and responses before the final one


@dataclass(frozen=True)
class GuardedPoster:
    """Poster over httpcore2. ``allowed``: private networks that may be reached. ``seconds``: for the whole exchange."""

    allowed: Sequence[Network] = ()
    seconds: float = 10.0

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        try:
            return self._post(httpx2.URL(url), headers, body)
        except httpcore2.TimeoutException as error:
            raise FetchFailed(f"The receiver did not answer within {self.seconds:g} seconds.") from error
        except (httpcore2.ReadError, httpcore2.ProtocolError) as error:
            raise FetchFailed(f"The receiver sent no valid response: {_reason(error)}.") from error
        except httpcore2.NetworkError as error:
            raise FetchFailed(f"The receiver cannot be reached: {_reason(error)}.") from error
        except (httpcore2.UnsupportedProtocol, httpx2.InvalidURL) as error:
            raise FetchRefused("The address is not a URL that can be reached.") from error

    def _post(self, url: httpx2.URL, headers: Mapping[str, str], body: bytes) -> int:
        check_form(url)
        backend = GuardedBackend(self.allowed, time.monotonic() + self.seconds, _at_most(_MOST_RECEIVED))
        full = [(b"Host", url.netloc), (b"Content-Length", b"%d" % len(body))]
        full += [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), self.seconds)
        with (
            httpcore2.ConnectionPool(
                ssl_context=trusted_authorities(), network_backend=backend, max_connections=1
            ) as pool,
            pool.stream("POST", str(url), headers=full, content=body, extensions={"timeout": timeouts}) as response,
        ):
            _read_rest(response)
            return response.status


def _at_most(most: int) -> Callable[[int, float], None]:
    """Counts the bytes that arrive. Without a limit, an endless flow of interim responses costs a core."""
    received = 0

    def count(size: int, _seconds: float) -> None:
        nonlocal received
        received += size
        if received > most:
            raise httpcore2.ReadError(f"it is longer than {most} bytes")

    return count


def _reason(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__


def _read_rest(response: httpcore2.Response) -> None:
    """Read the rest of a short response. Only the status counts, so errors are ignored."""
    size = 0
    with suppress(httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError):
        for piece in response.iter_stream():
            size += len(piece)
            if size > _MOST_READ:
                return
