"""The web side alone, served for real on a real Valkey; the tests play the worker through the queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp

from downloader.config import Settings
from downloader.jobs import Archive, Claim, Completed, Failed, Figures
from downloader.state.budgets import Budgets
from downloader.state.client import connect, opened
from downloader.state.feed import Feed
from downloader.state.keys import Keys
from downloader.state.listing import Listing
from downloader.state.overview import Watch
from downloader.state.queue import Queue
from downloader.state.scripts import Scripts
from downloader.state.store import Store
from downloader.web.app import build
from downloader.web.connection import Patience
from downloader.web.parts import Pace, ServiceState, WebParts
from downloader.web.serve import serve
from tests.api import Api
from tests.waiting import wait_until

USUAL = Pace()
ARCHIVE = Archive("archives/secret-key", "download.zip", 1234, 2, "etag")


@dataclass(frozen=True)
class Link:
    """A link as the signer makes them."""

    url: str
    expires_at: datetime


def sign(key: str, filename: str, archive_expires_ms: int, now_s: float, /) -> Link:
    """A link that anybody can see through; the window is the default one of 5 minutes."""
    start_s = int(now_s) // 300 * 300
    expires_s = min(start_s + 3600, archive_expires_ms // 1000)
    return Link(f"https://s3.example/{key}?name={filename}&from={start_s}", datetime.fromtimestamp(expires_s, UTC))


@dataclass(frozen=True)
class Front:
    """The served web side, a client of it, and the worker's end of the queue."""

    api: Api
    parts: WebParts
    queue: Queue
    port: int

    async def claimed(self) -> Claim:
        """Take the next job, as a worker does."""
        claim = await wait_until(lambda: self.queue.claim(0, 1))
        assert isinstance(claim, Claim)
        return claim

    async def report(self, claim: Claim, sequence: int, progress: int, event: bytes = b"") -> None:
        """Report progress, as a worker does."""
        await self.queue.report(claim, sequence, Figures(progress=progress), [], event)

    async def complete(self, claim: Claim) -> None:
        """End the job well."""
        assert await self.queue.settle(claim, Completed(ARCHIVE, 2, 0), Figures(done=2, bytes_fetched=99))

    async def fail(self, claim: Claim) -> None:
        """End the job badly."""
        assert await self.queue.settle(claim, Failed("all_failed", "No file could be had."), Figures(failed=2))


async def _stopped(task: asyncio.Task[None]) -> None:
    """Cancel until it is done: before Python 3.12 `asyncio.wait_for`, which redis-py uses, may swallow one."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.2)


@asynccontextmanager
async def fronted(
    redis_url: str, *, pace: Pace = USUAL, patience: Patience | None = None, **sections: Any
) -> AsyncIterator[Front]:
    """Serve the web side on any free port, with its feed running."""
    settings = Settings.model_validate({"redis": {"url": redis_url}} | sections)
    async with aiohttp.ClientSession() as session, AsyncExitStack() as stack:
        client = await stack.enter_async_context(opened(connect(redis_url)))
        reader = await stack.enter_async_context(opened(connect(redis_url, blocking=True)))
        scripts = Scripts(client, settings.redis.prefix)
        store = Store(client, scripts, settings.redis, settings.jobs, settings.limits, settings.worker)
        queue = Queue(client, reader, scripts, settings.jobs, settings.limits, settings.worker)
        feed = Feed(reader, settings.redis.prefix)
        parts = WebParts(
            settings,
            store,
            Listing(client, scripts),
            Watch(scripts),
            Keys(client, scripts),
            Budgets(scripts),
            feed,
            sign,
            {"redis": store.ping},
            ServiceState(ready=True),
            pace,
        )
        stack.push_async_callback(_stopped, asyncio.create_task(feed.run()))
        port = await stack.enter_async_context(serve(build(parts), "127.0.0.1", 0, patience=patience))
        yield Front(Api(session, f"http://127.0.0.1:{port}"), parts, queue, port)
