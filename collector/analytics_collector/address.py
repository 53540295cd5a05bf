"""Whose request is it: the address of the visitor, seen through the proxies that are known. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from .exceptions import ConfigError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def networks(text: str) -> tuple[Network, ...]:
    """Read the setting ANALYTICS_TRUSTED_PROXIES: addresses and networks with commas between them.

    Raises:
        ConfigError: One of them is neither.
    """
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ConfigError(
            f"ANALYTICS_TRUSTED_PROXIES: {error}; write addresses or networks like 10.0.0.0/8,::1"
        ) from None


def of_visitor(remote: str | None, forwarded_for: str, trusted: Sequence[Network]) -> str | None:
    """Find who sent a request.

    Args:
        remote: The other end of the connection.
        forwarded_for: The header X-Forwarded-For. Each proxy adds whom it heard from at the end, so it is believed
            from there, as far as trusted proxies reach; what stands before was made up by anybody.
        trusted: The proxies' networks.

    Returns:
        None if the connection has no address, as on a Unix socket.
    """
    hops = [hop.strip() for hop in forwarded_for.split(",") if hop.strip()]
    visitor = _read(remote or "")
    while visitor is not None and hops and any(visitor in network for network in trusted):
        earlier = _read(hops.pop())
        if earlier is None:
            break
        visitor = earlier
    return None if visitor is None else str(visitor)


def _read(text: str) -> _Address | None:
    """An address, as proxies write it: in brackets and with a port, too."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
