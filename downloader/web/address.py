"""From where a call comes: the peer, or what a trusted proxy says of it."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from aiohttp import HttpVersion, HttpVersion11, web

from downloader.web.parts import PARTS

# What one household or one machine is given: an IPv6 caller has at least a /64 to choose addresses from.
IPV6_PREFIX = 64
# Many calls come from few addresses: so many texts are taken apart only once.
REMEMBERED = 1024
# No address is longer, with its zone.
ADDRESS_CHARS = 64
_PROXY_HEADERS = frozenset({"forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip"})


def peer_address(request: web.Request) -> str:
    """The address at the other end of the connection, empty when it is gone."""
    peer = request.transport.get_extra_info("peername") if request.transport else None
    return str(peer[0]) if isinstance(peer, tuple) else ""


def caller_address(request: web.Request) -> str:
    """Who called: the peer, or where that is a trusted proxy, the address that it names."""
    trusted = request.app[PARTS].settings.server.trusted_proxies
    if not trusted:
        return peer_address(request)[:ADDRESS_CHARS]
    # Several lines are one list (RFC 9110, section 5.3): some proxies add a line of their own behind the client's.
    forwarded_for = ",".join(request.headers.getall("X-Forwarded-For", []))
    return client_address(peer_address(request), forwarded_for, trusted)


def client_address(peer: str, forwarded_for: str, trusted: Sequence[str]) -> str:
    """Who called: the first address from the right in X-Forwarded-For that is no trusted proxy."""
    hops = [_bare(hop.strip()) for hop in forwarded_for.split(",") if hop.strip()]
    address = peer
    while hops and is_trusted(address, trusted):
        address = hops.pop()
    return address[:ADDRESS_CHARS]


def _bare(hop: str) -> str:
    """An address without the port and the brackets that some proxies write."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


@dataclass(frozen=True)
class Way:
    """What a call shows of its way here: the peer's address, the Host it was sent to, its headers and version."""

    peer: str
    host: str
    headers: Mapping[str, str]
    version: HttpVersion = HttpVersion11

    @cached_property
    def is_passed_on(self) -> bool:
        """Whether a proxy has passed the call on, as far as that shows.

        HTTP/1.0 counts: no client of today speaks it by itself, but nginx does to what lies behind it, and with its
        shortest settings that is all there is to see.
        """
        names = [name.lower() for name in self.headers]
        told = any(name in _PROXY_HEADERS or name.startswith("x-forwarded-") for name in names)
        return told or self.version < HttpVersion11

    @property
    def is_from_here(self) -> bool:
        """Whether this machine has called itself, directly and by a name of its own.

        A proxy on this machine would make the whole world local, and a foreign Host is a web page whose name was bent
        to this machine (DNS rebinding).
        """
        return is_loopback(self.peer) and is_loopback(_hostname(self.host)) and not self.is_passed_on


WAY = web.RequestKey("way", Way)


def way_of(request: web.Request) -> Way:
    """The way of a call, as it was when it was first asked for."""
    way = request.get(WAY)
    if way is None:
        way = request[WAY] = Way(peer_address(request), request.host, request.headers, request.version)
    return way


def _hostname(host: str) -> str:
    """The Host header without its port and the brackets of an IPv6 address."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def is_trusted(name: str, networks: Sequence[str]) -> bool:
    """True when the address lies in one of the networks (`server.trusted_proxies`)."""
    try:
        address = ipaddress.ip_address(name)
        return any(address in ipaddress.ip_network(network, strict=False) for network in networks)
    except ValueError:
        return False


def is_loopback(name: str) -> bool:
    """True for `localhost` and the addresses of this machine itself."""
    return len(name) <= ADDRESS_CHARS and _is_loopback(name)


@lru_cache(REMEMBERED)
def _is_loopback(name: str) -> bool:
    if name.lower().rstrip(".") == "localhost":
        return True
    address = _parsed(name)
    return address is not None and address.is_loopback


@lru_cache(REMEMBERED)
def counted_as(name: str) -> str:
    """What an address is counted by: itself, an IPv6 one by its /64."""
    address = _parsed(name)
    if address is None:
        return "unknown"
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
