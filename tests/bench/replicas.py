"""Three processes against one, on jobs that wait more than they compute."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp

from tests.api import Api
from tests.bench.plan import Plan
from tests.bench.running import DONE_S, KIB, Service, origin, service, store
from tests.servers import start_valkey

# A job waits for its files in three turns of 200 ms; a process takes four jobs at a time, and has no more than 16
# connections to one host.
JOBS, FILES, DELAY_S = 120, 24, 0.2
SETTINGS = ("worker.concurrency=4", "limits.running_jobs=1000", "log.level=error")


async def replicas(plan: Plan) -> dict[str, float]:
    """Jobs per minute of three replicas and of one, from a source that takes 200 ms for each file; CPU of each."""
    one, _ = await _rate(plan, 1)
    three, shares = await _rate(plan, 3)
    print(f"three replicas by one: {three / one:.2f} x")
    return {
        "one_jobs_per_min": one,
        "three_jobs_per_min": three,
        "three_by_one": three / one,
        "cpu_share_least": min(shares),
        "cpu_share_most": max(shares),
    }


async def _rate(plan: Plan, count: int) -> tuple[float, Sequence[float]]:
    """Jobs per minute, and the share of all CPU seconds that each replica used."""
    jobs = plan.of(JOBS, 6)
    async with _replicas(plan, count) as (api, source, processes):
        urls = [f"{source}/file/{number}.bin?size={10 * KIB}&delay_s={DELAY_S}" for number in range(FILES)]
        before, begun = [each.cpu_s() for each in processes], time.perf_counter()
        ids = await asyncio.gather(*(api.submit(urls) for _ in range(jobs)))
        ended = await asyncio.gather(*(api.finished(job_id, within_s=DONE_S) for job_id in ids))
        wall = time.perf_counter() - begun
        used = [each.cpu_s() - cpu for each, cpu in zip(processes, before, strict=True)]
    assert all(job["status"] == "completed" for job in ended)
    shares = [cpu / sum(used) if sum(used) else 1 / count for cpu in used]
    said = ", ".join(
        f"{cpu:.2f} s ({share:.0%}, {cpu / wall:.0%} of a core)" for cpu, share in zip(used, shares, strict=True)
    )
    print(
        f"{count} replica(s): {jobs / wall * 60:.0f} jobs per minute ({jobs} in {wall:.1f} s); CPU {said}", flush=True
    )
    return jobs / wall * 60, shares


@asynccontextmanager
async def _replicas(plan: Plan, count: int) -> AsyncIterator[tuple[Api, str, Sequence[Service]]]:
    """So many replicas on one Valkey and one store; the first is also the one that is asked."""
    async with AsyncExitStack() as stack:
        valkey = stack.enter_context(start_valkey())
        place, source = stack.enter_context(store()), stack.enter_context(origin())
        processes = [
            stack.enter_context(service(place, *SETTINGS, *plan.settings, redis_url=valkey.url)) for _ in range(count)
        ]
        connector = aiohttp.TCPConnector(limit=0)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        yield Api(session, processes[0].url), source, processes


FIGURES = (replicas,)
