"""Groups client addresses: limits count an IPv4 address alone and an IPv6 address with its /64 network."""

import ipaddress

_IPV6_PREFIX = 64  # bits; the holder of a /64 chooses the rest freely

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address, as IPv4 if it is mapped into IPv6; None if there is none, as for a Unix socket."""
    try:
        parsed = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return (parsed.ipv4_mapped or parsed) if isinstance(parsed, ipaddress.IPv6Address) else parsed


def network_of(host: str) -> Network | None:
    """An IPv4 address as a /32, an IPv6 address with its /64; None if ``host`` is not an address."""
    parsed = address_of(host)
    if parsed is None:
        return None
    return ipaddress.ip_network((parsed, _IPV6_PREFIX if parsed.version == 6 else 32), strict=False)


def origin_of(host: str) -> str:
    """The name under which limits count requests from this address."""
    network = network_of(host)
    if network is None:
        return host
    return str(network.network_address) if network.version == 4 else str(network)
