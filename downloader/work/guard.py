"""Which addresses a source may have: judged at the socket, where a name, a redirect and a rebinding all end.

Only public unicast addresses pass, and those that the operator allows (`sources.allow_networks`). An IPv6 address
that carries an IPv4 one inside (mapped, NAT64, 6to4, Teredo, IPv4-compatible) is judged by both. Python's own
`is_global` is no guard: it lets multicast, site-local and wrapped addresses pass, hence the table below, taken from
the IANA special-purpose registries (RFC 6890) and the clouds' metadata addresses.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from downloader.work.dial import current_dial

if TYPE_CHECKING:
    from aiohttp.connector import AddrInfoType

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_REFUSED_IPV4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # "this network"; Linux connects it to itself
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; 100.100.100.200 is a metadata service
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's host agent, though the range is public
        "169.254.0.0/16",  # link-local, metadata services
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays, deprecated
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
# Unicast that IANA has given out lies in 2000::/3; all else is refused, which covers ::1, ULA (with fd00:ec2::254),
# link-local, site-local, multicast, discard-only, local NAT64 and segment-routing ranges without naming them.
_PUBLIC_IPV6 = ipaddress.IPv6Network("2000::/3")
_REFUSED_IPV6 = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments (Teredo is unwrapped before)
        "2001:db8::/32",  # documentation
        "2620:4f:8000::/48",  # AS112
        "3ffe::/16",  # the old 6bone
        "3fff::/20",  # documentation
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")


def _low_ipv4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)


def inner_addresses(address: ipaddress.IPv6Address) -> tuple[ipaddress.IPv4Address, ...]:
    """Every IPv4 address that `address` carries and that a gateway may send us to; empty for a plain one."""
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address.teredo is not None:
        return address.teredo
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        return (_low_ipv4(address),)
    return ()


def _is_public_ipv4(address: ipaddress.IPv4Address) -> bool:
    return not any(address in network for network in _REFUSED_IPV4)


def is_public(address: Address) -> bool:
    """Whether `address` is public unicast, and so is every address it carries inside."""
    if isinstance(address, ipaddress.IPv4Address):
        return _is_public_ipv4(address)
    if address.scope_id is not None:
        return False
    inner = inner_addresses(address)
    if inner:
        return address not in _COMPATIBLE and all(_is_public_ipv4(one) for one in inner)
    return address in _PUBLIC_IPV6 and not any(address in network for network in _REFUSED_IPV6)


# For hosts that the operator has named himself.
EVERYWHERE = ("0.0.0.0/0", "::/0")


class BlockedAddressError(OSError):
    """The address may not be dialled; raised inside the connector, so it must be an OSError."""


class Guard:
    """Judges addresses by the public rule and the operator's exceptions."""

    def __init__(self, allow_networks: Iterable[str]) -> None:
        self._allowed: tuple[Network, ...] = tuple(ipaddress.ip_network(text, strict=False) for text in allow_networks)
        self._verdict = lru_cache(maxsize=4096)(self._judge)

    def allows(self, address: Address) -> bool:
        """Whether a source may be reached at `address`."""
        return self._verdict(address)

    def _judge(self, address: Address) -> bool:
        return is_public(address) or any(self._is_allowed(one) for one in _forms(address))

    def _is_allowed(self, address: Address) -> bool:
        return any(address in network for network in self._allowed)

    def socket_factory(self, address_info: AddrInfoType) -> socket.socket:
        """Make the socket for one address that is about to be dialled, or raise `BlockedAddressError`.

        Anything that cannot be read as an address is refused.
        """
        family, kind, protocol, _, sockaddr = address_info
        current_dial().dialled = True
        if not self._allows_text(str(sockaddr[0])):
            current_dial().blocked = True
            raise BlockedAddressError("the address is not public")
        made = socket.socket(family, kind, protocol)
        made.settimeout(0)
        return made

    def _allows_text(self, text: str) -> bool:
        try:
            return self.allows(ipaddress.ip_address(text))
        except ValueError:
            return False


def _forms(address: Address) -> Iterator[Address]:
    yield address
    # A mapped address is the same socket as the IPv4 one; the other wrappings go through a gateway, so an exception
    # for the inner address does not cover them.
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        yield address.ipv4_mapped
