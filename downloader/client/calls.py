"""One call of the API, with what a client must bear: a service that restarts, a proxy that answers for it.

The key goes to the service only, never to the store that a link leads to, and stands in no message.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlencode
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from downloader import __version__
from downloader.client import answers
from downloader.client.answers import Fits
from downloader.client.server import API, JobRef, Server
from downloader.client.stream import NOTHING_MORE, Event, events
from downloader.client.text import printable
from downloader.errors import AwayError, Fault, RefusedError

PAGE_FILES = 1000
# More than the longest page of files.
ANSWER_BYTES_MAX = 32 * 1024 * 1024
# Whatever answers with these says nothing about the call: it may be repeated, under its idempotency key too.
PASSING = frozenset({408, 429, 502, 503, 504})
# These come with such a status, but waiting a little does not mend them.
LASTING_CODES = frozenset({"maintenance", "queue_full", "quota_exceeded", "redis_full"})
# What the service says of these is said to who writes a program.
REMEDIES = {"key_required": "a key is needed; give it with --key-file, or in DOWNLOADER_KEY"}
TOLD_S = 5
_SECONDS = re.compile(r"[0-9]{1,6}")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for what, in seconds."""

    call_s: float = 30
    calls_s: float = 60  # one call with its repeats
    asked_s: float = 120  # the same where the service asks for more
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

    def __init__(
        self,
        session: aiohttp.ClientSession,
        server: Server,
        patience: Patience,
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._notice = notice
        self.session = session
        self.server = server
        self.patience = patience
        self._has_answered = False

    @classmethod
    @asynccontextmanager
    async def open(
        cls, server: Server, patience: Patience | None = None, notice: Callable[[str], None] = lambda _: None
    ) -> AsyncIterator[Calls]:
        """Yield calls to `server`; their connections end with the block. `notice` hears of long waits."""
        headers = {"User-Agent": f"downloader/{__version__}"}
        async with aiohttp.ClientSession(headers=headers, cookie_jar=aiohttp.DummyCookieJar()) as session:
            yield cls(session, server, patience or Patience(), notice)

    async def initiate(self, body: Mapping[str, Any], idempotency_key: str) -> dict[str, Any]:
        """Post a job; the key makes it safe to be repeated."""
        headers = {"Idempotency-Key": idempotency_key}
        return await self._call("POST", "/initiate", answers.ACCEPTED, json=body, headers=headers)

    async def retry(self, ref: JobRef, idempotency_key: str) -> dict[str, Any]:
        """Post a new job for the files of `ref` that failed."""
        headers = {"Idempotency-Key": idempotency_key}
        return await self._call("POST", f"/{ref.job_id}/retry", answers.ACCEPTED, headers=headers)

    async def status(self, ref: JobRef, *, files: bool = True) -> dict[str, Any]:
        """The job as it is now."""
        query = {} if files else {"files": "false"}
        return await self._call("GET", f"/status/{ref.job_id}", answers.JOB, ref, query)

    async def cancel(self, ref: JobRef) -> dict[str, Any]:
        """Cancel the job; gives what it is now."""
        return await self._call("POST", f"/{ref.job_id}/cancel", answers.JOB)

    async def jobs(self, limit: int, states: str, after: str | None) -> dict[str, Any]:
        """A page of the caller's jobs."""
        query = {"limit": str(limit), **({"status": states} if states else {}), **({"after": after} if after else {})}
        return await self._call("GET", "/jobs", answers.JOBS, None, query)

    async def files(self, ref: JobRef) -> AsyncIterator[list[dict[str, Any]]]:
        """All files of the job, a page at a time."""
        query = {"limit": str(PAGE_FILES)}
        while True:
            page = await self._call("GET", f"/{ref.job_id}/files", answers.FILES, ref, query)
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
        self,
        method: str,
        path: str,
        fits: Fits,
        ref: JobRef | None = None,
        query: Mapping[str, str] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """A call and its repeats. Who never answered is not waited for: the address is more likely wrong."""
        loop = asyncio.get_running_loop()
        since, tries = loop.time(), 0
        while True:
            try:
                return await self._once(method, self._url(path, ref, query or {}), fits, ref, **more)
            except AwayError as error:
                if not self._has_answered:
                    raise AwayError(f"{self.server.base} does not answer: {error.message}") from error
                asked = error.retry_after_s
                pause = max(asked, self.patience.pause(tries))
                if loop.time() + pause - since > max(self.patience.calls_s, min(asked + 1, self.patience.asked_s)):
                    what = "does not answer any more" if error.code == "away" else "does not take it now"
                    raise AwayError(f"{self.server.base} {what}: {error.message}", error.code) from error
                if asked >= TOLD_S:
                    self._notice(f"{error.message} The service asks to wait {asked:.0f} s.")
            tries += 1
            await asyncio.sleep(pause)

    async def _once(self, method: str, url: URL, fits: Fits, ref: JobRef | None, **more: Any) -> dict[str, Any]:
        headers = self._headers(ref) | {"Accept": "application/json"} | more.pop("headers", {})
        limits = aiohttp.ClientTimeout(total=self.patience.call_s)
        try:
            async with self.session.request(
                method, url, headers=headers, timeout=limits, allow_redirects=False, proxy=proxy_of(url), **more
            ) as response:
                await self._check(response)
                body = await _read(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise AwayError(reason(error)) from error
        if not fits(body):
            raise self._stranger(response.status)
        return cast("dict[str, Any]", body)

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
        given = problem.get("detail") or f"the answer was {response.status} {response.reason}"
        detail = REMEDIES.get(code) or printable(given)
        if response.status in PASSING and code not in LASTING_CODES:
            asked = response.headers.get("Retry-After", "")
            raise AwayError(detail, code or "away", retry_after_s=int(asked) if _SECONDS.fullmatch(asked) else 0)
        if not problem:
            raise self._stranger(response.status)
        faults = tuple(
            Fault(printable(fault.get("pointer") or ""), printable(fault.get("detail") or ""))
            for fault in problem.get("errors") or []
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
    body = await _read(response)
    return cast("dict[str, Any]", body) if answers.PROBLEM(body) else {}


async def _read(response: aiohttp.ClientResponse) -> object:
    """The JSON that an answer carries; None when it is none, or longer than any of the service's."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > ANSWER_BYTES_MAX:
            return None
    try:
        return cast("object", json.loads(body))
    except (ValueError, RecursionError):
        return None


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
