"""Names: whether those that the settings have, and a public one, lead to addresses."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from urllib.parse import urlsplit

from downloader.config import Settings
from downloader.doctor.findings import Finding, fail, ok, warn

RESOLVE_S = 4.0
PUBLIC_NAME = "example.com"  # RFC 2606: there for this


class Lookups:
    """Names that are being looked up while other things are looked at: a name server that is away takes its time."""

    def __init__(self, settings: Settings) -> None:
        self.configured = sorted(_configured_hosts(settings))
        self._until = asyncio.get_running_loop().time() + RESOLVE_S
        self._found = {host: _begun(host) for host in {*self.configured, PUBLIC_NAME}}

    async def has_address(self, host: str) -> bool:
        """Whether the name leads anywhere; a lookup without an answer in RESOLVE_S does not."""
        try:
            async with asyncio.timeout_at(self._until):
                return await asyncio.shield(self._found[host])
        except TimeoutError:
            return False


async def examine_names(lookups: Lookups) -> AsyncIterator[Finding]:
    """Tell which names were found."""
    unknown = [host for host in lookups.configured if not await lookups.has_address(host)]
    if unknown:
        yield fail("names", f"no address is found for {', '.join(unknown)}", "correct the settings or the name server")
    elif lookups.configured:
        yield ok("names", f"addresses are found for {', '.join(lookups.configured)}")
    if await lookups.has_address(PUBLIC_NAME):
        yield ok("public names", f"an address is found for {PUBLIC_NAME}")
    else:
        remedy = "sources with public names will fail; check the name server if there are any"
        yield warn("public names", f"no address is found for {PUBLIC_NAME}", remedy)


def _configured_hosts(settings: Settings) -> set[str]:
    urls = [settings.storage.endpoint_url, settings.storage.public_endpoint_url, settings.sources.url_template]
    urls += [bucket.endpoint_url for bucket in settings.sources.buckets]
    urls += [host.proxy for host in settings.sources.hosts] + [settings.telemetry.otlp_endpoint]
    origins = [host.origin for host in settings.sources.hosts]
    urls += [f"{scheme}://{name}" for scheme, name, _ in origins if "*" not in name]
    if settings.redis.url.startswith(("redis://", "rediss://", "redis+cluster://")):
        urls.append(settings.redis.url)
    found = {urlsplit(url).hostname for url in urls if "://" in url and not url.startswith("s3://")}
    return {host for host in found if host and "{" not in host}


def _begun(host: str) -> asyncio.Future[bool]:
    """Look a name up in a thread that nobody waits for when it takes too long; a pool's would be waited for."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[bool] = loop.create_future()

    def tell(found: bool) -> None:
        if not future.done():
            future.set_result(found)

    def look() -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody asks any more
            loop.call_soon_threadsafe(tell, _resolves(host))

    threading.Thread(target=look, daemon=True, name=f"lookup-{host}").start()
    return future


def _resolves(host: str) -> bool:
    try:
        return bool(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError):
        return False
