"""Which network addresses this service connects to, and connections that reach no other and do not last for ever."""

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeAlias

import httpcore2

from alphareel.domain.errors import FetchRefused

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_WEB_PORTS = (80, 443)
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
        inner = _carried(address)
        if inner is not None:
            return is_public(inner)
        if int(address) >> 32 == 0:  # the obsolete IPv4-compatible form, and ::1
            return False
    refused = address.is_multicast or address.is_reserved or address.is_unspecified or not address.is_global
    return not refused and not _in_any(address, _NEVER)


def _carried(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
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
        for address in self._checked(host, port, seconds=_left(self.deadline, timeout, httpcore2.ConnectTimeout)):
            try:
                stream = httpcore2.SyncBackend().connect_tcp(
                    str(address),
                    port,
                    timeout=_left(self.deadline, timeout, httpcore2.ConnectTimeout),
                    local_address=local_address,
                    socket_options=socket_options,
                )
                return _EndingStream(stream, self.deadline)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure

    def _checked(self, host: str, port: int, *, seconds: float) -> list[Address]:
        found = list(dict.fromkeys(_resolve_within(host, port, seconds)))
        if not all(self._may_reach(address, port) for address in found):
            raise FetchRefused(
                f"{host} is not an address that this server connects to.", hint="Use a public http or https address."
            )
        return found

    def _may_reach(self, address: Address, port: int) -> bool:
        if _in_any(address, self.allowed):
            return True
        return is_public(address) and (port in _WEB_PORTS or port >= _LOWEST_FREE_PORT)


def _resolve_within(host: str, port: int, seconds: float) -> list[Address]:
    """The system's resolver can neither be bounded nor interrupted, so a thread asks it that may stay behind.

    How many stay behind is bounded by who waits here, and by the resolver's own patience of about a minute.
    """
    answer = Future[list[Address]]()

    def ask() -> None:
        try:
            answer.set_result(list(_resolve(host, port)))
        except Exception as error:  # noqa: BLE001  # raised again by who waits
            answer.set_exception(error)

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        return answer.result(timeout=seconds)
    except TimeoutError:
        raise httpcore2.ConnectTimeout(f"{host} was not resolved within {seconds:g} seconds") from None


def _resolve(host: str, port: int) -> Iterator[Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore2.ConnectError(f"{host} cannot be resolved") from error
    for *_, where in found:
        yield ipaddress.ip_address(str(where[0]).partition("%")[0])


@dataclass(frozen=True)
class _EndingStream(httpcore2.NetworkStream):
    """A connection that ends at the deadline even for a sender who dribbles byte after byte."""

    stream: httpcore2.NetworkStream
    deadline: float

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.stream.read(max_bytes, _left(self.deadline, timeout, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.stream.write(buffer, _left(self.deadline, timeout, httpcore2.WriteTimeout))

    def close(self) -> None:
        self.stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        left = _left(self.deadline, timeout, httpcore2.ConnectTimeout)
        return _EndingStream(self.stream.start_tls(ssl_context, server_hostname, left), self.deadline)

    def get_extra_info(self, info: str) -> Any:
        return self.stream.get_extra_info(info)


def _left(deadline: float, timeout: float | None, late: type[Exception]) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise late("the time for the whole exchange is over")
    return left if timeout is None else min(left, timeout)
