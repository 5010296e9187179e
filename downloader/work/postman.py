"""One try to deliver a callback: a guarded POST without redirects, and what its answer means.

It has a client session of its own: nothing that a source does to ours can hold a callback up, nor the other way round.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp

from downloader.callbacks import Attempt
from downloader.config import SourcesSettings
from downloader.errors import SourceError
from downloader.work import faults
from downloader.work.answers import retry_after_s
from downloader.work.connector import ThreadedLookup, open_session, system_lookup, tls_context
from downloader.work.deadlines import Deadlines, Limit
from downloader.work.dial import begin_dial
from downloader.work.guard import Guard
from downloader.work.urls import HostRules, Target, parse

# More than there are deliveries at once: the thread of a look-up that was given up stays busy until the resolver gives
# up too. They are made when they are needed.
LOOKUP_THREADS = 96
NAMES_TTL_S = 10
# Read for the receiver's sake, who may not like to be hung up on; nothing in it counts.
ANSWER_BYTES = 4096
ANSWER_S = 1.0
_USUAL = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "downloader/1.0"}
_ASKS_FOR_PATIENCE = frozenset({429, 503})


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of a try; `wait_s` is the pause that the receiver asks for, 0 when it does not."""

    attempt: Attempt
    wait_s: float = 0


class Postman:
    """Posts messages to where the same rules lead that hold for sources."""

    def __init__(self, session: aiohttp.ClientSession, guard: Guard, rules: HostRules, timeout_s: float) -> None:
        self._session = session
        self._guard = guard
        self._rules = rules
        self._timeout_s = timeout_s
        self._deadlines = Deadlines(timeout_s)

    @classmethod
    @asynccontextmanager
    async def open(cls, sources: SourcesSettings, timeout_s: float) -> AsyncIterator[Postman]:
        """Open the session, and close it at the end."""
        guard = Guard(sources.allow_networks)
        with ThreadPoolExecutor(LOOKUP_THREADS, "webhooks") as threads:
            lookup = ThreadedLookup(threads, system_lookup, timeout_s)
            async with open_session(sources, guard, lookup, NAMES_TTL_S, tls_context()) as session:
                yield cls(session, guard, HostRules(sources.allow_hosts, sources.deny_hosts), timeout_s)

    async def post(self, url: str, body: str, headers: Mapping[str, str]) -> Answered:
        """Send `body` and give what the answer's head says; whatever goes wrong is the attempt's error code."""
        started = time.monotonic()

        def took_ms() -> int:
            return round((time.monotonic() - started) * 1000)

        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._ask(self._target(url), body.encode(), headers)
        except TimeoutError:
            return Answered(Attempt(None, "timeout", took_ms()))
        except SourceError as fault:
            return Answered(Attempt(None, fault.code, took_ms()))
        answered = Answered(Attempt(response.status, None, took_ms()), _patience_s(response))
        await _hear_out(response)
        return answered

    def _target(self, url: str) -> Target:
        target = parse(url)
        is_allowed = target.address is None or self._guard.allows(target.address)
        if not is_allowed or not self._rules.admits(target.host):
            raise faults.blocked_address()
        return target

    async def _ask(self, target: Target, body: bytes, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        login = {"Authorization": target.authorization} if target.authorization else {}
        try:
            with Limit(self._deadlines) as limit:
                dial = begin_dial(limit)
                return await self._session.post(
                    target.wire_url(), data=body, headers={**_USUAL, **login, **headers}, allow_redirects=False
                )
        except faults.CLIENT_ERRORS as error:
            raise faults.request_fault(error, dial) from None  # its text may hold the URL


def _patience_s(response: aiohttp.ClientResponse) -> float:
    if response.status not in _ASKS_FOR_PATIENCE:
        return 0
    return retry_after_s(response.headers.get("Retry-After"), datetime.now(UTC)) or 0


async def _hear_out(response: aiohttp.ClientResponse) -> None:
    """Read a short answer to its end; then hang up, so that no delivery meets a connection that has died meanwhile."""
    try:
        with suppress(TimeoutError, *faults.CLIENT_ERRORS):
            async with asyncio.timeout(ANSWER_S):
                await response.content.read(ANSWER_BYTES)
    finally:
        response.close()
