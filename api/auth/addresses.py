"""The address a request comes from, as far as it can be believed.

peer = client_address(host, forwarded=["203.0.113.7, 10.0.0.1"], trusted=[ip_network("10.0.0.0/8")])
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from starlette.requests import HTTPConnection

Network = IPv4Network | IPv6Network
UNKNOWN: Final = "unknown"
# Who has an IPv6 address has 2^64 of them.
_OF_ONE_SUBSCRIBER: Final = 64


def client_address(
    host: str | None, *, forwarded: Sequence[str], trusted: Sequence[Network]
) -> str:
    """Returns the client's address for throttling: an IPv4 address, or the /64 of an IPv6 one.

    Args:
        host: the peer of the connection; None where there is none, as on a Unix socket.
        forwarded: the values of ``X-Forwarded-For``, in order. Each proxy adds its peer at the end,
            so that they are read from there, for as long as who added them is trusted.
        trusted: the networks of the proxies.
    """
    hops = [part.strip() for value in forwarded for part in value.split(",")]
    believed = _parsed(host)
    while hops and believed is not None and _is_in(believed, trusted):
        nearer = _parsed(hops.pop())
        if nearer is None:
            break
        believed = nearer
    return UNKNOWN if believed is None else _subscriber(believed)


def _parsed(text: str | None) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text or "")
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _is_in(address: IPv4Address | IPv6Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _subscriber(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    return str(IPv6Network((int(address), _OF_ONE_SUBSCRIBER), strict=False))


def peer_of(connection: HTTPConnection, trusted: Sequence[Network]) -> str:
    """Returns the client's address of a request."""
    return client_address(
        connection.client.host if connection.client else None,
        forwarded=connection.headers.getlist("x-forwarded-for"),
        trusted=trusted,
    )
