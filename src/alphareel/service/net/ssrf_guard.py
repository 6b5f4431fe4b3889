"""Connects only to allowed network addresses, and ends every connection at its deadline."""

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

import httpcore2
import httpx2

from alphareel.domain.errors import FetchRefused

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
T = TypeVar("T")

HeartbeatReader = Callable[[int, float], None]
"""Called at least twice a second while a connection is waited for: bytes that came and seconds that it took.

It may raise to end the connection.
"""


@cache
def trusted_authorities() -> ssl.SSLContext:
    """The certificate authorities that the service trusts. Reading them takes long, so it is done once."""
    return httpx2.create_ssl_context()


def no_pulse(count: int, seconds: float) -> None:
    """A pulse that never ends the exchange."""


_SLICE_SECONDS = 0.5
_WEB_PORTS = (80, 443)
_DEFAULT_PORTS = {"http": 80, "https": 443}
REFUSED_HINT = "Use a public http or https address, or have the operator allow it with ALPHAREEL_FETCH_ALLOW_CIDRS."
_LOWEST_FREE_PORT = 1024  # below it live mail, name and file services, which are not for a fetcher to talk to

# Not for us to reach although the registries call some of them global: protocol assignments, 6to4 relays, a
# cloud's machine service, a local NAT64 prefix, site-local addresses.
_NEVER = tuple(
    map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "64:ff9b:1::/48", "fec0::/10"))
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet; for IPv6 that carries an IPv4 address, whether that does."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _embedded_ipv4(address)
        if inner is not None:
            return is_public(inner)
        if int(address) >> 32 == 0:  # the obsolete IPv4-compatible form, and ::1
            return False
    refused = address.is_multicast or address.is_reserved or address.is_unspecified or not address.is_global
    return not refused and not _in_any(address, _NEVER)


def is_refused(url: str, allowed: Sequence[Network]) -> bool:
    """Whether a URL names an address that the service never connects to; False for host names, which need a lookup."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        host = "127.0.0.1"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return not _may_reach(address, parts.port or _DEFAULT_PORTS.get(parts.scheme, 443), allowed)


def _may_reach(address: Address, port: int, allowed: Sequence[Network]) -> bool:
    if _in_any(address, allowed):
        return True
    return is_public(address) and (port in _WEB_PORTS or port >= _LOWEST_FREE_PORT)


def _embedded_ipv4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)


def _in_any(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks if network.version == address.version)


@dataclass(frozen=True)
class GuardedBackend(httpcore2.NetworkBackend):
    """Resolves a host once, checks every address it has, and connects to one of those that were checked.

    ``allowed``: networks that may be reached, on any port, although they are private. ``deadline``
    (time.monotonic): when every connection made here ends, however busy, and every attempt to make one.
    """

    allowed: Sequence[Network]
    deadline: float
    pulse: HeartbeatReader = no_pulse

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """Raises FetchRefused for a host with an address that must not be reached."""
        failure: Exception = httpcore2.ConnectError(f"{host} has no address")
        for address in self._checked(
            host, port, seconds=_seconds_left(self.deadline, timeout, httpcore2.ConnectTimeout)
        ):
            left = _seconds_left(self.deadline, timeout, httpcore2.ConnectTimeout)
            connect = partial(
                httpcore2.SyncBackend().connect_tcp,
                str(address),
                port,
                timeout=left,
                local_address=local_address,
                socket_options=socket_options,
            )
            try:
                stream = _connection(connect, left, self.pulse)
                return _DeadlineStream(stream, self.deadline, self.pulse)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure

    def _checked(self, host: str, port: int, *, seconds: float) -> list[Address]:
        addresses = list(dict.fromkeys(_resolve_within(host, port, seconds, self.pulse)))
        if not all(_may_reach(address, port, self.allowed) for address in addresses):
            raise FetchRefused(f"{host} is not an address that this server connects to.", hint=REFUSED_HINT)
        return addresses


def _resolve_within(host: str, port: int, seconds: float, pulse: HeartbeatReader) -> list[Address]:
    """Resolve in a thread that may outlive this call: the system's resolver takes no timeout and cannot be interrupted.

    Such threads are bounded by the number of callers, and by the resolver's own timeout of about a minute.
    """
    late = httpcore2.ConnectTimeout(f"{host} was not resolved within {seconds:g} seconds")
    return _wait_for(_run_in_thread(lambda: list(_resolve(host, port))), seconds, pulse, late)


def _connection(
    connect: Callable[[], httpcore2.NetworkStream], seconds: float, pulse: HeartbeatReader
) -> httpcore2.NetworkStream:
    """Connect in a thread that may outlive this call; a connection that comes too late is closed."""
    connecting = _run_in_thread(connect)
    try:
        return _wait_for(
            connecting, seconds + _SLICE_SECONDS, pulse, httpcore2.ConnectTimeout("the connection takes too long")
        )
    except BaseException:
        connecting.add_done_callback(_close)
        raise


def _close(connecting: "Future[httpcore2.NetworkStream]") -> None:
    if connecting.exception() is None:
        connecting.result().close()


def _run_in_thread(call: Callable[[], T]) -> "Future[T]":
    answer = Future[T]()

    def work() -> None:
        try:
            answer.set_result(call())
        except Exception as error:  # noqa: BLE001  # raised again by who waits
            answer.set_exception(error)

    threading.Thread(target=work, name="connect", daemon=True).start()
    return answer


def _wait_for(answer: "Future[T]", seconds: float, pulse: HeartbeatReader, late: Exception) -> T:
    """Raises ``late`` after this many seconds, and what ``pulse`` raises."""
    until = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        done, _ = wait([answer], timeout=max(0.0, min(_SLICE_SECONDS, until - began)))
        pulse(0, time.monotonic() - began)
        if done:
            return answer.result()
        if time.monotonic() >= until:
            raise late


def _resolve(host: str, port: int) -> Iterator[Address]:
    try:
        records = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore2.ConnectError(f"{host} cannot be resolved") from error
    for *_, where in records:
        yield ipaddress.ip_address(str(where[0]).partition("%")[0])


@dataclass(frozen=True)
class _DeadlineStream(httpcore2.NetworkStream):
    """A connection that ends at the deadline even if the sender keeps sending single bytes."""

    stream: httpcore2.NetworkStream
    deadline: float
    pulse: HeartbeatReader

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left = _seconds_left(self.deadline, timeout, httpcore2.ReadTimeout)
        while True:
            began = time.monotonic()
            try:
                data = self.stream.read(max_bytes, min(_SLICE_SECONDS, left))
            except httpcore2.ReadTimeout:
                waited = time.monotonic() - began
                self.pulse(0, waited)
                left -= waited
                if left <= 0:
                    raise
            else:
                self.pulse(len(data), time.monotonic() - began)
                return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.stream.write(buffer, _seconds_left(self.deadline, timeout, httpcore2.WriteTimeout))

    def close(self) -> None:
        self.stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        left = _seconds_left(self.deadline, timeout, httpcore2.ConnectTimeout)
        secured = _connection(partial(self.stream.start_tls, ssl_context, server_hostname, left), left, self.pulse)
        return _DeadlineStream(secured, self.deadline, self.pulse)

    def get_extra_info(self, info: str) -> Any:
        return self.stream.get_extra_info(info)


def _seconds_left(deadline: float, timeout: float | None, late: type[Exception]) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise late("the time for the whole exchange is over")
    return left if timeout is None else min(left, timeout)
