"""Who may call. Without keys there is one tenant, and by default only this machine may call as it."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence

from aiohttp import web

from downloader.config import AccessSettings
from downloader.errors import RequestError
from downloader.web.parts import PARTS, TENANT, Handler

PUBLIC_TENANT = "public"
REMEDY = (
    'This service takes calls from its own machine only (access.open = "loopback"). Set access.open = true to let'
    " everybody in who can reach it."
)
CLOSED = "This service takes no calls without a key (access.open = false)."


@web.middleware
async def access(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a call to the API pass when its caller may make it, with the tenant it is made for."""
    if request.path.startswith("/v1/"):
        settings = request.app[PARTS].settings.access
        request[TENANT] = tenant(settings, peer_address(request), request.host, request.headers)
    return await handler(request)


def tenant(settings: AccessSettings, peer: str, host: str, headers: Mapping[str, str]) -> str:
    """The tenant a call is made for; RequestError `access_denied` when it may not be made.

    Loopback means that peer and Host are loopback and no proxy has passed the call on: a proxy on this machine would
    make the whole world local, and a foreign Host is a web page whose name was bent to this machine (DNS rebinding).
    """
    if settings.open is False:
        raise RequestError("access_denied", CLOSED)
    if settings.open == "loopback" and not (
        _is_loopback(peer) and _is_loopback(_hostname(host)) and not _passed_on(headers)
    ):
        raise RequestError("access_denied", REMEDY)
    return PUBLIC_TENANT


def peer_address(request: web.Request) -> str:
    """The address at the other end of the connection, empty when it is gone."""
    peer = request.transport.get_extra_info("peername") if request.transport else None
    return str(peer[0]) if isinstance(peer, tuple) else ""


def _hostname(host: str) -> str:
    """The Host header without its port and the brackets of an IPv6 address."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_loopback(name: str) -> bool:
    if name.lower().rstrip(".") == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _passed_on(headers: Mapping[str, str]) -> bool:
    return any(name.lower() == "forwarded" or name.lower().startswith("x-forwarded-") for name in headers)


def client_address(peer: str, forwarded_for: str, trusted: Sequence[str]) -> str:
    """Who called, for the log: the first address from the right in X-Forwarded-For that is no trusted proxy."""
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
