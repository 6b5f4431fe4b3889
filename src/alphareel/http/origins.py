"""Which callers count as one where their address is all that is known of them."""

import ipaddress

_ONE_HOLDER = 64  # bits of an IPv6 address that say whose it is; the rest its holder may choose

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address, as IPv4 where it is one mapped into IPv6; None for what is no address, as of a Unix socket."""
    try:
        parsed = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return (parsed.ipv4_mapped or parsed) if isinstance(parsed, ipaddress.IPv6Address) else parsed


def network_of(host: str) -> Network | None:
    """An IPv4 address alone, an IPv6 address with its /64; None for what is no address."""
    parsed = address_of(host)
    if parsed is None:
        return None
    return ipaddress.ip_network((parsed, _ONE_HOLDER if parsed.version == 6 else 32), strict=False)


def origin_of(host: str) -> str:
    """The name under which limits count requests from this address."""
    network = network_of(host)
    if network is None:
        return host
    return str(network.network_address) if network.version == 4 else str(network)
