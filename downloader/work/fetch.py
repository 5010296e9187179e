"""Fetch: the sources' files, politely, guarded and complete.

Read on in this order: `urls`, `guard` and `trusted` (where may we go), `redirects` (how we get an answer), `transfer`
(how it becomes a file). This module has the retries: what may help is tried again, up to `sources.attempts` times,
after a growing, jittered pause or the one that the source asks for.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import structlog

from downloader.config import SourcesSettings
from downloader.errors import SourceError
from downloader.jobs import Source, public_url
from downloader.work.buckets import Buckets
from downloader.work.connector import Lookup, ThreadedLookup, open_session, system_lookup, tls_context
from downloader.work.guard import EVERYWHERE, Guard
from downloader.work.redirects import Client, Sessions, Trust
from downloader.work.threads import Threads
from downloader.work.throttle import Throttle
from downloader.work.transfer import Offer, Sink, SinkRefusedError, Transfer
from downloader.work.trusted import TrustedHosts

__all__ = ["Fetcher", "Offer", "Sink", "Surroundings"]

_log = structlog.get_logger(__name__)

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 10.0
# A source may ask for at most this much patience; more is as good as no.
RETRY_AFTER_MAX_S = 60.0
# We have held a source up when its file had to wait this long for us in one go; if it then gives up, that costs no
# attempt. The steady back-pressure of a sink that is slower than the source is no such wait.
HELD_UP_S = 2.0
HELD_UP_MAX = 4


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What lies outside: names (looked-up addresses are kept for `names_ttl_s`), trust and time."""

    lookup: Lookup = system_lookup
    names_ttl_s: int = 10
    tls: ssl.SSLContext | None = None
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    jitter: Callable[[], float] = random.random


class Fetcher:
    """Fetches files for all jobs of the process over the same few client sessions."""

    def __init__(
        self,
        settings: SourcesSettings,
        threads: Threads,
        client: Client,
        surroundings: Surroundings,
        throttle: Throttle | None,
    ) -> None:
        self._throttle = throttle
        self._settings = settings
        self._threads = threads
        self._client = client
        self._surroundings = surroundings

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        settings: SourcesSettings,
        threads: Threads,
        surroundings: Surroundings | None = None,
        *,
        bytes_per_s: int = 0,
    ) -> AsyncIterator[Fetcher]:
        """Open the sessions and close them at the end; all files together get `bytes_per_s` (0 = what there is)."""
        outside = surroundings or Surroundings()
        guard = Guard(settings.allow_networks)
        tls = outside.tls or tls_context()
        lookup = ThreadedLookup(threads.lookup, outside.lookup, settings.connect_timeout_s)

        def anywhere(own_tls: ssl.SSLContext | None = None, proxy: str = "") -> aiohttp.ClientSession:
            return open_session(settings, Guard(EVERYWHERE), lookup, outside.names_ttl_s, own_tls or tls, proxy)

        async with (
            Buckets.open(settings.buckets) as buckets,
            open_session(settings, guard, lookup, outside.names_ttl_s, tls) as guarded,
            anywhere() as plain,
            TrustedHosts.open(settings, plain, anywhere) as hosts,
        ):
            client = Client(settings, Sessions(guarded, plain), guard, Trust(buckets, hosts))
            yield cls(settings, threads, client, outside, Throttle.of(bytes_per_s))

    async def fetch(self, source: Source, sink: Sink, tenant: str = "") -> None:
        """Bring the whole of `source` into `sink` for `tenant`; raises SourceError, its own or the sink's."""
        transfer = Transfer(source, sink, self._client, self._settings, self._threads, tenant, self._throttle)
        failures = held_up = 0
        while True:
            try:
                await transfer.attempt()
            except SinkRefusedError as refused:
                fault, is_final = refused.fault, True
            except SourceError as error:
                fault, is_final = error, not error.transient
            else:
                return
            if transfer.held_up_s >= HELD_UP_S and held_up < HELD_UP_MAX:
                held_up += 1
            else:
                failures += 1
            if is_final or failures >= self._settings.attempts or (fault.retry_after_s or 0) > RETRY_AFTER_MAX_S:
                raise fault
            await self._pause(source, fault, failures)

    async def _pause(self, source: Source, fault: SourceError, failures: int) -> None:
        jitter = self._surroundings.jitter()
        if fault.retry_after_s is not None:
            pause_s = fault.retry_after_s + jitter * FIRST_PAUSE_S
        else:
            pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** max(0, failures - 1)) * (0.5 + jitter / 2)
        _log.info("fetch.retry", url=public_url(source.url), code=fault.code, pause_s=round(pause_s, 3))
        await self._surroundings.sleep(pause_s)
