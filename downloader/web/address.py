"""From where a call comes: the peer, or what a trusted proxy says of it."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from aiohttp import web

from downloader.web.parts import PARTS

# What one household or one machine is given: an IPv6 caller has at least a /64 to choose addresses from.
IPV6_PREFIX = 64


def peer_address(request: web.Request) -> str:
    """The address at the other end of the connection, empty when it is gone."""
    peer = request.transport.get_extra_info("peername") if request.transport else None
    return str(peer[0]) if isinstance(peer, tuple) else ""


def caller_address(request: web.Request) -> str:
    """Who called: the peer, or where that is a trusted proxy, the address that it names."""
    trusted = request.app[PARTS].settings.server.trusted_proxies
    return client_address(peer_address(request), request.headers.get("X-Forwarded-For", ""), trusted)


def client_address(peer: str, forwarded_for: str, trusted: Sequence[str]) -> str:
    """Who called: the first address from the right in X-Forwarded-For that is no trusted proxy."""
    hops = [hop.strip() for hop in forwarded_for.split(",") if hop.strip()]
    address = peer
    while hops and is_trusted(address, trusted):
        address = hops.pop()
    return address[:64]


def is_trusted(name: str, networks: Sequence[str]) -> bool:
    """True when the address lies in one of the networks (`server.trusted_proxies`)."""
    try:
        address = ipaddress.ip_address(name)
        return any(address in ipaddress.ip_network(network, strict=False) for network in networks)
    except ValueError:
        return False


def is_loopback(name: str) -> bool:
    """True for `localhost` and the addresses of this machine itself."""
    if name.lower().rstrip(".") == "localhost":
        return True
    address = _parsed(name)
    return address is not None and address.is_loopback


def counted_as(name: str) -> str:
    """What an address is counted by: itself, an IPv6 one by its /64; "" for loopback, which is not counted."""
    address = _parsed(name)
    if address is None:
        return "unknown"
    if address.is_loopback:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False).network_address) + f"/{IPV6_PREFIX}"
    return str(address)


def _parsed(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
