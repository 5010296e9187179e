"""Figures of a job's life: how soon it starts, how many a process can take and settle, what a death costs."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from downloader import logs
from downloader.config import MIB, LogSettings, Settings
from downloader.jobs import Archive, Claim, Completed, JobRequest, Source
from downloader.state.client import connect, opened
from downloader.state.queue import Queue
from downloader.state.scripts import Scripts
from downloader.state.store import Order, Store
from downloader.work.budget import ByteBudget
from downloader.work.checkpoint import Ledger
from downloader.work.progress import Progress
from downloader.work.worker import Worker
from tests.api import Api
from tests.bench.place import Place
from tests.bench.plan import Plan, spread, spread_of
from tests.bench.running import WEED, origin, service, store
from tests.servers import Redis, start_valkey
from tests.waiting import wait_until


@dataclass
class _Idle:
    """A worker whose jobs do nothing; `started` has the time of each start."""

    store: Store
    started: dict[str, float] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def run_job(self, claim: Claim, progress: Progress, ledger: Ledger) -> Completed:
        self.started[claim.job_id] = time.perf_counter()
        self.news.set()
        return Completed(Archive(f"none/{claim.token}", "none.zip", 1, 1, "none"), 1, 0)

    async def enqueue(self) -> tuple[str, float]:
        """Take a job in; its id, and when the call began."""
        job_id, began = secrets.token_hex(8), time.perf_counter()
        request = JobRequest((Source(0, 1, "http://origin.test/a.bin"),), "none.zip")
        await self.store.enqueue(Order(job_id, "bench", request, 1, ""))
        return job_id, began


@asynccontextmanager
async def _idle(url: str, concurrency: int) -> AsyncIterator[tuple[_Idle, Worker]]:
    settings = Settings.model_validate(
        {
            "worker": {"concurrency": concurrency},
            "limits": {
                "queued_jobs": 10**6,
                "initiate_per_minute": 10**6,
                "posts_per_minute": 10**6,
                "running_jobs": 10**6,
            },
        }
    )
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(opened(connect(url)))
        doorbell = await stack.enter_async_context(opened(connect(url, blocking=True)))
        scripts = Scripts(client, f"b{secrets.token_hex(4)}")
        parts = (settings.jobs, settings.limits, settings.worker)
        idle = _Idle(Store(client, scripts, settings.redis, *parts))
        available = asyncio.Event()
        available.set()

        async def tidy(job_id: str, token: str) -> None:
            raise AssertionError(f"nothing to tidy after {job_id} {token}")

        queue = Queue(client, doorbell, scripts, *parts)
        memory = ByteBudget(concurrency * MIB)
        worker = Worker(
            queue, idle.run_job, tidy, settings.worker, memory=memory, job_minimum_bytes=MIB, store_available=available
        )
        yield idle, worker


async def queue(plan: Plan) -> dict[str, float]:
    """Enqueue to start on an idle worker, and jobs that one process claims and settles per second (they do nothing)."""
    logs.set_up(LogSettings(level="error"))
    with start_valkey() as valkey:
        async with _idle(valkey.url, 4) as (idle, worker), worker.working(0):
            delays = []
            for _ in range(plan.of(500, 20)):
                idle.news.clear()
                job_id, began = await idle.enqueue()
                await idle.news.wait()
                delays.append((idle.started[job_id] - began) * 1000)
                await asyncio.sleep(0.01)
            print(f"enqueue to start, idle: {spread(delays)}")
        async with _idle(valkey.url, 16) as (idle, worker):
            count = plan.of(5000, 50)
            for _ in range(count):
                await idle.enqueue()
            start = time.perf_counter()
            async with worker.working(60):
                await wait_until(lambda: len(idle.started) == count)
            taken = time.perf_counter() - start
            print(f"claim and settle, one process: {count / taken:.0f} jobs/s ({count} jobs in {taken:.2f} s)")
    return spread_of(delays, "start_") | {"settled_per_s": count / taken}


@dataclass(frozen=True)
class Replicas:
    """Processes on one Valkey and one store, with a source that counts what it sends."""

    session: aiohttp.ClientSession
    valkey: Redis
    place: Place
    origin: str
    settings: Sequence[str]

    @asynccontextmanager
    async def serving(self, *settings: str) -> AsyncIterator[tuple[int, Api]]:
        """Run a replica; gives its process id and how to ask it."""
        told = ("server.drain_s=0", "log.level=error", *self.settings, *settings)
        with service(self.place, *told, redis_url=self.valkey.url) as ours:
            yield ours.pid, Api(self.session, ours.url)

    async def sent(self) -> int:
        """Bytes that the source has sent so far."""
        async with self.session.get(f"{self.origin}/sent") as answer:
            return int(await answer.text())


@asynccontextmanager
async def _replicas(plan: Plan) -> AsyncIterator[Replicas]:
    with start_valkey() as valkey, store(WEED) as place, origin() as source:
        async with aiohttp.ClientSession() as session:
            yield Replicas(session, valkey, place, source, plan.settings)


async def _until(api: Api, job_id: str, true: Callable[[dict[str, object]], bool]) -> None:
    async def holds() -> bool:
        return true(await api.status(job_id))

    await wait_until(holds, within_s=300)


async def takeover(plan: Plan) -> dict[str, float]:
    """How long a job waits for another worker: after SIGKILL at default timings, after SIGTERM, and how cancel acts."""
    numbers: dict[str, float] = {}
    async with _replicas(plan) as replicas, replicas.serving("worker.concurrency=0") as (_, front):
        for how in (signal.SIGTERM, signal.SIGKILL):
            url = f"{replicas.origin}/file/slow.bin?size=1000&delay_s=4"
            async with replicas.serving() as (first, _):
                job_id = await front.submit([url])
                await _until(front, job_id, lambda status: status["status"] == "processing")
                async with replicas.serving():
                    before = str((await front.status(job_id))["updatedAt"])
                    start = time.perf_counter()
                    os.kill(first, how)
                    await _until(front, job_id, _taken_after(before))
                    numbers[f"{how.name.lower()}_s"] = time.perf_counter() - start
                    print(f"takeover after {how.name}: {numbers[f'{how.name.lower()}_s']:.1f} s")
                    await front.finished(job_id)
    return numbers


def _taken_after(before: str) -> Callable[[dict[str, object]], bool]:
    """True once another attempt has started (a released job is queued in between)."""
    seen_queued = False

    def true(status: dict[str, object]) -> bool:
        nonlocal seen_queued
        seen_queued |= status["status"] == "queued"
        started_again = status["attempt"] == 2 or seen_queued
        return bool(started_again and status["status"] == "processing" and str(status["updatedAt"]) > before)

    return true


async def resume(plan: Plan) -> dict[str, float]:
    """A worker is killed at 80 % of 1 GiB: what its heir fetches again, for a hundred files and for one."""
    quick = ("worker.lease_s=2", "worker.renew_s=0.5", "worker.reap_s=0.5")
    numbers: dict[str, float] = {}
    for count in (100, 1):
        async with _replicas(plan) as replicas, replicas.serving("worker.concurrency=0", *quick) as (_, front):
            size = plan.of(1024 * MIB, 64 * MIB) // count
            async with replicas.serving(*quick) as (first, _):
                job_id = await front.submit([f"{replicas.origin}/file/{n}.bin?size={size}" for n in range(count)])
                await _until(front, job_id, _has_packed(size * count * 8 // 10, size))
                os.kill(first, signal.SIGKILL)
            before = await replicas.sent()
            async with replicas.serving(*quick):
                status = await front.finished(job_id, within_s=300)
                again = await replicas.sent() - before
            share = again / (size * count)
            print(
                f"killed at 80 % of 1 GiB in {count} file(s): {status['status']}, attempt {status['attempt']}, sent "
                f"before {before / MIB:.0f} MiB, by the heir {again / MIB:.0f} MiB = {share:.0%} of the bytes"
            )
            numbers[f"again_of_{count}"] = share
    return numbers


def _has_packed(least: int, size: int) -> Callable[[dict[str, object]], bool]:
    return lambda status: _packed(status, size) >= least


def _packed(status: dict[str, object], size: int) -> int:
    """Bytes of whole files in the archive; for a single file what was fetched."""
    if status["totalFiles"] == 1:
        return int(str(status["bytesFetched"]))
    return int(str(status["filesCompleted"])) * size


FIGURES = (queue, takeover, resume)
