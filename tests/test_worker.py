"""The pool of jobs of one process, on a real queue: what it takes and stops, and never twice at one job."""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from downloader.config import Settings
from downloader.jobs import Archive, Claim, Completed, JobRequest, JobState, Source
from downloader.state.client import Client, connect, opened
from downloader.state.queue import Queue
from downloader.state.scripts import Scripts
from downloader.state.store import Order, Store
from downloader.work.budget import ByteBudget
from downloader.work.checkpoint import Ledger
from downloader.work.progress import Progress
from downloader.work.worker import Worker
from tests.servers import Redis
from tests.waiting import wait_until


@dataclass
class Pool:
    """A worker whose jobs wait until they are let go, and its memory."""

    client: Client
    prefix: str
    store: Store
    queue: Queue
    at_work: list[Claim] = field(default_factory=list)
    stopped: list[Claim] = field(default_factory=list)
    most_at_once: int = 0
    gates: dict[str, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))

    async def run_job(self, claim: Claim, progress: Progress, ledger: Ledger) -> Completed:
        """Wait until the job's gate is open."""
        self.at_work.append(claim)
        self.most_at_once = max(self.most_at_once, len(self.at_work))
        try:
            await self.gates[claim.job_id].wait()
        except asyncio.CancelledError:
            self.stopped.append(claim)
            raise
        finally:
            self.at_work.remove(claim)
        return Completed(Archive(f"none/{claim.token}", "none.zip", 1, 1, "none"), 1, 0)

    async def enqueue(self, tenant: str = "t") -> str:
        """Take a job in."""
        job_id = secrets.token_hex(8)
        request = JobRequest((Source(0, 1, "http://origin.test/a.bin"),), "none.zip")
        await self.store.enqueue(Order(job_id, tenant, request, 1, ""))
        return job_id

    async def crash(self, job_id: str) -> None:
        """Let the job's lease lapse, as if its worker were silent, and have it taken back."""
        key = f"{self.prefix}job:{job_id}"
        before = int(await self.client.hget(key, "crashes") or 0)
        await self.client.zadd(f"{self.prefix}leases", {job_id: 1})

        async def taken_back() -> bool:
            return int(await self.client.hget(key, "crashes") or 0) > before

        await wait_until(taken_back)

    def attempts_at_work(self, job_id: str) -> list[int]:
        """The attempts at a job that are being worked on."""
        return [claim.attempt for claim in self.at_work if claim.job_id == job_id]

    async def completed(self, job_id: str) -> None:
        """Wait until the job is done."""

        async def done() -> bool:
            record = await self.store.record("t", job_id)
            return record is not None and record.state is JobState.COMPLETED

        await wait_until(done)


@asynccontextmanager
async def pool(valkey: Redis, concurrency: int) -> AsyncIterator[Pool]:
    """A worker at work."""
    settings = Settings.model_validate({"worker": {"concurrency": concurrency, "reap_s": 0.1}})
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(opened(connect(valkey.url)))
        doorbell = await stack.enter_async_context(opened(connect(valkey.url, blocking=True)))
        scripts = Scripts(client, f"w{secrets.token_hex(6)}")
        parts = (settings.jobs, settings.limits, settings.worker)
        queue = Queue(client, doorbell, scripts, *parts)
        made = Pool(client, scripts.prefix, Store(client, scripts, settings.redis, *parts), queue)
        available = asyncio.Event()
        available.set()

        async def tidy(job_id: str, token: str) -> None:
            raise AssertionError(f"{job_id} {token} has stored nothing")

        worker = Worker(
            queue,
            made.run_job,
            tidy,
            settings.worker,
            memory=ByteBudget(concurrency),
            job_minimum_bytes=1,
            store_available=available,
        )
        async with worker.working(0):
            yield made


async def test_a_process_is_never_twice_at_one_job(valkey: Redis) -> None:
    """A process that was held up gets its own job back: the old attempt is stopped, and the new one counts."""
    async with pool(valkey, 2) as made:
        job_id = await made.enqueue()
        await wait_until(lambda: made.at_work)
        (old,) = made.at_work
        await made.crash(job_id)
        await wait_until(lambda: made.stopped == [old] and made.at_work)
        (new,) = made.at_work
        assert (new.job_id, new.attempt, made.most_at_once) == (job_id, 2, 1)
        assert await made.queue.renew({job_id: new.token}) == frozenset()
        made.gates[job_id].set()
        await made.completed(job_id)


async def test_a_suspect_runs_alone(valkey: Redis) -> None:
    """A job that took its worker down twice waits until the process is idle, and nothing is taken beside it."""
    async with pool(valkey, 3) as made:
        suspect, other = await made.enqueue(), await made.enqueue()
        for attempt in (1, 2):
            await wait_until(lambda attempt=attempt: made.attempts_at_work(suspect) == [attempt])
            await made.crash(suspect)
        await wait_until(lambda: made.client.exists(f"{made.prefix}drainer"))
        await wait_until(lambda: [claim.job_id for claim in made.at_work] == [other])
        late = await made.enqueue()
        made.gates[other].set()
        await wait_until(lambda: made.attempts_at_work(suspect) == [3])
        made.most_at_once = 1
        made.gates[suspect].set()
        made.gates[late].set()
        for job_id in (suspect, other, late):
            await made.completed(job_id)
        assert made.most_at_once == 1
