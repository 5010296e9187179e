"""From a source's URL to its answer: each hop judged, asked and, if it redirects, followed by hand.

aiohttp's own redirects re-quote URLs, keep headers of the caller across hosts and know no guard for names.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import aiohttp
from multidict import MultiMapping

from downloader.config import SourcesSettings
from downloader.errors import SourceError
from downloader.jobs import Source
from downloader.s3url import is_s3
from downloader.work import faults
from downloader.work.asking import Answer, ask
from downloader.work.buckets import Buckets
from downloader.work.credentials import Credentials
from downloader.work.deadlines import Deadlines, Limit
from downloader.work.dial import begin_dial
from downloader.work.guard import Guard
from downloader.work.hosts import HostGate, Place
from downloader.work.trusted import TrustedHosts, Way
from downloader.work.urls import HostRules, Target, parse, redirect_invalid, resolve

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# A pool may hold this many connections that their server has closed meanwhile; each costs one try at once.
_STALE_MAX = 20


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is no redirect: its head is read, its body waits; `target` is where it came from.

    `place` is its connection's at the host; `closed` ends with the connection, with an exception if that was broken.
    """

    response: Answer
    target: Target
    place: Place
    closed: asyncio.Future[None] | None = None

    def close(self) -> None:
        """Be done with it; a body that was read to its end has given its connection back before."""
        self.response.close()
        self.place.give_back()


@dataclass(frozen=True, slots=True)
class Sessions:
    """Two clients that share no connection: one that is guarded, one for endpoints that the operator configured."""

    guarded: aiohttp.ClientSession
    trusted: aiohttp.ClientSession


@dataclass(frozen=True, slots=True)
class Trust:
    """Where the operator's word counts."""

    buckets: Buckets
    hosts: TrustedHosts


class Client:
    """Asks sources, politely and only those that may be asked."""

    def __init__(self, settings: SourcesSettings, sessions: Sessions, guard: Guard, trust: Trust) -> None:
        self._guarded = Way(sessions.guarded)
        self._to_bucket = Way(sessions.trusted)
        self._guard = guard
        self._buckets = trust.buckets
        self._hosts = trust.hosts
        self._rules = HostRules(settings.allow_hosts, settings.deny_hosts)
        self._gate = HostGate(settings.per_host)
        self._max_redirects = settings.max_redirects
        self._answer_deadlines = Deadlines(settings.idle_timeout_s)

    async def answer(self, source: Source, conditions: tuple[tuple[str, str], ...], tenant: str) -> Reply:
        """The answer to `source`, its place at the host held until the caller closes it; raises SourceError."""
        target, way = self._first(source, tenant)
        credentials = Credentials(source.headers, target)
        for _ in range(self._max_redirects + 1):
            self._judge(target, way)
            headers = credentials.headers_for(target, conditions, way.headers, alone=way.alone)
            reply = await self._reply(way.session, target, headers)
            if reply.response.status not in _REDIRECTS:
                return reply
            try:
                credentials.received(reply.response.headers, target)
                target = _next(reply.response, target)
            finally:
                reply.close()
            credentials.moved_to(target)
            way = self._onward(way, target, tenant)
        raise SourceError("too_many_redirects", f"the source redirects more than {self._max_redirects} times")

    def _first(self, source: Source, tenant: str) -> tuple[Target, Way]:
        if is_s3(source.url):
            return self._buckets.target(source.url, tenant), self._to_bucket
        target = parse(source.url)
        return target, self._hosts.first(source, target, tenant) or self._guarded

    def _onward(self, way: Way, target: Target, tenant: str) -> Way:
        """The way after a redirect: a stranger's, or a bucket's, leads nowhere by the operator's word."""
        if way is self._guarded or way is self._to_bucket:
            return self._guarded
        return self._hosts.onward(way, target, tenant) or self._guarded

    def _judge(self, target: Target, way: Way) -> None:
        """Refuse what can be told from the URL alone; names are judged again at the socket, by their address."""
        if way is self._to_bucket:
            return
        is_allowed = way is not self._guarded or target.address is None or self._guard.allows(target.address)
        if not is_allowed or not self._rules.admits(target.host):
            raise faults.blocked_address()

    async def _reply(self, session: aiohttp.ClientSession, target: Target, headers: MultiMapping[str]) -> Reply:
        """Take a place at the host and ask for its answer there."""
        place = Place(self._gate, target.host)
        await place.take()
        try:
            response, closed = await self._ask(session, target, headers)
        except BaseException:
            place.give_back()
            raise
        return Reply(response, target, place, closed)

    async def _ask(
        self, session: aiohttp.ClientSession, target: Target, headers: MultiMapping[str]
    ) -> tuple[Answer, asyncio.Future[None] | None]:
        for _ in range(_STALE_MAX):
            try:
                with Limit(self._answer_deadlines) as limit:
                    dial = begin_dial(limit)
                    return await ask(session, target, headers), dial.closed
            except faults.CLIENT_ERRORS as error:
                fault = faults.request_fault(error, dial)
            # A pooled connection that its server has just closed says nothing about the source.
            if dial.dialled or fault.code != "protocol_error":
                break
        raise fault


def _next(response: Answer, target: Target) -> Target:
    location = response.headers.get("Location")
    if location is None:
        raise redirect_invalid()
    return resolve(target, location)
