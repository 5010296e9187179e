"""One call of the API, with what a client must bear: a service that restarts, a proxy that answers for it.

The key goes to the service only, never to the store that a link leads to, and stands in no message.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from downloader import __version__
from downloader.client.server import API, JobRef, Server
from downloader.client.stream import NOTHING_MORE, Event, events
from downloader.client.text import printable
from downloader.errors import AwayError, Fault, RefusedError

PAGE_FILES = 1000
# Whatever answers with these says nothing about the call: it may be repeated, under its idempotency key too.
PASSING = frozenset({408, 429, 502, 503, 504})
# These come with such a status, but waiting a little does not mend them.
LASTING_CODES = frozenset({"maintenance", "queue_full", "quota_exceeded", "redis_full"})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for what, in seconds."""

    call_s: float = 30
    calls_s: float = 60  # one call with its repeats
    first_event_s: float = 10  # a stream says something at once
    silence_s: float = 45  # three of the service's heartbeats
    away_s: float = 600  # a service that is being moved
    poll_s: float = 2
    stream_again_s: float = 60
    pause_s: float = 0.5
    pause_max_s: float = 10

    def pause(self, tries: int) -> float:
        """How long to wait after so many tries in vain."""
        return min(self.pause_max_s, self.pause_s * 2.0 ** min(tries, 10))


class Calls:
    """Calls one service. Raises RefusedError for its no, AwayError when there is no answer in time."""

    def __init__(self, session: aiohttp.ClientSession, server: Server, patience: Patience) -> None:
        self.session = session
        self.server = server
        self.patience = patience
        self._has_answered = False

    @classmethod
    @asynccontextmanager
    async def open(cls, server: Server, patience: Patience | None = None) -> AsyncIterator[Calls]:
        """Yield calls to `server`; their connections end with the block."""
        headers = {"User-Agent": f"downloader/{__version__}"}
        async with aiohttp.ClientSession(headers=headers, cookie_jar=aiohttp.DummyCookieJar()) as session:
            yield cls(session, server, patience or Patience())

    async def initiate(self, body: Mapping[str, Any], idempotency_key: str) -> dict[str, Any]:
        """Post a job; the key makes it safe to be repeated."""
        return await self._call("POST", "/initiate", json=body, headers={"Idempotency-Key": idempotency_key})

    async def retry(self, ref: JobRef, idempotency_key: str) -> dict[str, Any]:
        """Post a new job for the files of `ref` that failed."""
        return await self._call("POST", f"/{ref.job_id}/retry", headers={"Idempotency-Key": idempotency_key})

    async def status(self, ref: JobRef, *, files: bool = True) -> dict[str, Any]:
        """The job as it is now."""
        return await self._call("GET", f"/status/{ref.job_id}", ref, {} if files else {"files": "false"})

    async def cancel(self, ref: JobRef) -> dict[str, Any]:
        """Cancel the job; gives what it is now."""
        return await self._call("POST", f"/{ref.job_id}/cancel")

    async def jobs(self, limit: int, states: str, after: str | None) -> dict[str, Any]:
        """A page of the caller's jobs."""
        query = {"limit": str(limit), **({"status": states} if states else {}), **({"after": after} if after else {})}
        return await self._call("GET", "/jobs", None, query)

    async def files(self, ref: JobRef) -> AsyncIterator[list[dict[str, Any]]]:
        """All files of the job, a page at a time."""
        query = {"limit": str(PAGE_FILES)}
        while True:
            page = await self._call("GET", f"/{ref.job_id}/files", ref, query)
            yield page["files"]
            if page["next"] is None:
                return
            query = {"limit": str(PAGE_FILES), "after": str(page["next"])}

    async def events(self, ref: JobRef, last_id: str) -> AsyncGenerator[Event]:
        """The job's events until the service ends the stream; AwayError when it breaks or falls silent."""
        headers = self._headers(ref) | {"Accept": "text/event-stream"}
        headers |= {"Last-Event-ID": last_id} if last_id else {}
        limits = aiohttp.ClientTimeout(total=None, connect=self.patience.call_s, sock_read=self.patience.silence_s)
        url = self._url(f"/subscribe/{ref.job_id}", ref, {})
        try:
            async with self.session.get(
                url, headers=headers, timeout=limits, allow_redirects=False, proxy=proxy_of(url)
            ) as response:
                if response.status == 204:
                    yield Event(NOTHING_MORE, {})
                    return
                await self._check(response)
                async for event in events(response.content):
                    yield event
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise AwayError(reason(error)) from error
        except ValueError as error:  # a page of somebody else's, or a line beyond all measure
            raise AwayError("what comes is no event stream") from error

    async def _call(
        self, method: str, path: str, ref: JobRef | None = None, query: Mapping[str, str] | None = None, **more: Any
    ) -> dict[str, Any]:
        """A call and its repeats. Who never answered is not waited for: the address is more likely wrong."""
        deadline = asyncio.get_running_loop().time() + self.patience.calls_s
        tries = 0
        while True:
            pause = self.patience.pause(tries)
            try:
                return await self._once(method, self._url(path, ref, query or {}), ref, **more)
            except AwayError as error:
                if not self._has_answered:
                    raise AwayError(f"{self.server.base} does not answer: {error.message}") from error
                if asyncio.get_running_loop().time() + pause > deadline:
                    raise AwayError(f"{self.server.base} does not answer any more: {error.message}") from error
            tries += 1
            await asyncio.sleep(pause)

    async def _once(self, method: str, url: URL, ref: JobRef | None, **more: Any) -> dict[str, Any]:
        headers = self._headers(ref) | {"Accept": "application/json"} | more.pop("headers", {})
        limits = aiohttp.ClientTimeout(total=self.patience.call_s)
        try:
            async with self.session.request(
                method, url, headers=headers, timeout=limits, allow_redirects=False, proxy=proxy_of(url), **more
            ) as response:
                await self._check(response)
                body = await response.json()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if isinstance(error, aiohttp.ContentTypeError):
                raise self._stranger(error.status) from error
            raise AwayError(reason(error)) from error
        except ValueError as error:
            raise self._stranger(200) from error
        if not isinstance(body, dict):
            raise self._stranger(200)
        return body

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        """RefusedError for the service's no, AwayError for a not now."""
        if response.status < 300:
            self._has_answered = True
            return
        if response.status < 400:
            target = response.headers.get("Location", "")
            where = printable(target.partition("?")[0].partition(API)[0])
            raise RefusedError("redirected", f"{self.server.base} leads to {where}; give that as --server")
        problem = await _problem(response)
        self._has_answered = self._has_answered or bool(problem)
        code = str(problem.get("code", ""))
        detail = printable(problem.get("detail") or f"the answer was {response.status} {response.reason}")
        if response.status in PASSING and code not in LASTING_CODES:
            raise AwayError(detail, code or "away")
        if not problem:
            raise self._stranger(response.status)
        faults = tuple(
            Fault(printable(fault.get("pointer", "")), printable(fault.get("detail", "")))
            for fault in problem.get("errors", [])
        )
        raise RefusedError(code, detail, faults, status=response.status)

    def _stranger(self, status: int) -> RefusedError:
        message = f"{self.server.base} answers ({status}), but not as a downloader does; give its base URL as --server"
        return RefusedError("not_a_downloader", message, status=status)

    def _headers(self, ref: JobRef | None) -> dict[str, str]:
        """The key, unless the job was named with a token of its own."""
        shows_key = self.server.key and not (ref and ref.token)
        return {"Authorization": f"Bearer {self.server.key}"} if shows_key else {}

    def _url(self, path: str, ref: JobRef | None, query: Mapping[str, str]) -> URL:
        given = dict(query) | ({"token": ref.token} if ref and ref.token else {})
        return URL(f"{self.server.base}{API}{path}{f'?{urlencode(given)}' if given else ''}", encoded=True)


async def _problem(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """The problem (RFC 9457) that an answer carries; empty when it comes from somebody else."""
    try:
        body = json.loads(await response.content.read(1024 * 1024))
    except ValueError:
        return {}
    return body if isinstance(body, dict) and isinstance(body.get("code"), str) else {}


def proxy_of(url: URL) -> str | None:
    """The proxy that the environment names for `url` (http_proxy, https_proxy, no_proxy); none on the way to here."""
    host = url.host or ""
    if host in _LOOPBACK or proxy_bypass(host):
        return None
    proxy = getproxies().get(url.scheme)
    return proxy if proxy and proxy.startswith("http") else None


def reason(error: BaseException) -> str:
    """Why there was no answer, in a few words without addresses and URLs."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            return "there is no such host"
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return "its certificate is not to be trusted, or it speaks no TLS"
        case TimeoutError():
            return "no answer in time"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            return "the connection broke off"
        case OSError(strerror=str(text)) if text:
            return text.lower().partition(" (")[0] if "Connect call" not in text else "connection refused"
        case _:
            return "the connection failed"
