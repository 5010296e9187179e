"""More than one replica on one Redis and one S3: nothing is sticky."""

from __future__ import annotations

import asyncio

from tests.conftest import Start
from tests.files import Origin
from tests.waiting import wait_until


async def test_a_stream_on_one_replica_follows_a_job_of_another(start: Start, origin: Origin) -> None:
    """One replica only serves, the other only works: stream, status and link of the first show what the second does."""
    async with start(worker={"concurrency": 0}) as front:
        job_id = await front.submit([origin.slow(1000 + n, delay_s=0.2) for n in range(20)])
        stream = asyncio.ensure_future(front.events(job_id))
        async with start():
            events = await asyncio.wait_for(stream, 30)
        assert events[-1].event == "complete"
        assert len([event for event in events if event.event == "progress"]) > 2
        assert (await front.archive(job_id)).testzip() is None


async def test_a_stream_goes_on_at_another_replica(start: Start, origin: Origin) -> None:
    """A client that comes back elsewhere with its last id gets what it missed: no gap, no repeat."""
    async with start() as first, start(worker={"concurrency": 0}) as second:
        job_id = await first.submit([origin.slow(1000 + n, delay_s=0.3) for n in range(24)])
        seen: list[str] = []
        async for frame in first.stream(job_id):
            seen.append(frame.id)
            if len(seen) == 3:
                break
        rest = await second.events(job_id, last_event_id=seen[-1])
        whole = [frame.id for frame in await second.events(job_id, last_event_id=seen[0])]
        assert rest[-1].event == "complete"
        ids = [frame.id for frame in rest]
        assert len(set(seen + ids)) == len(seen + ids)
        assert whole[-1] == ids[-1]
        assert "reset" not in [frame.event for frame in rest]


async def test_cancel_reaches_the_replica_that_works(start: Start, origin: Origin) -> None:
    """A cancel at one replica lets go of the source at another, long before the next renewal of the lease."""
    async with start(worker={"lease_s": 60, "renew_s": 25}), start(worker={"concurrency": 0}) as front:
        job_id = await front.submit([origin.endless()])
        await origin.wait_for_connection()
        await front.call("POST", f"/v1/download/{job_id}/cancel")
        await origin.wait_for_disconnection()


async def test_a_job_goes_on_elsewhere_when_its_replica_stops(start: Start, origin: Origin) -> None:
    """A replica that is stopped gives its job back uncharged, and another finishes it."""
    async with start(worker={"concurrency": 0}) as front:
        async with start():
            job_id = await front.submit([origin.slow(1000 + n, delay_s=0.5) for n in range(32)])
            await wait_until(lambda: len(origin.requests) > 8)
        assert (await front.status(job_id))["status"] == "queued"
        async with start():
            status = await front.finished(job_id)
        assert (status["status"], status["attempt"], status["filesCompleted"]) == ("completed", 1, 32)
        await front.archive(job_id)


async def test_jobs_are_shared_and_each_is_done_once(start: Start, origin: Origin) -> None:
    """Thirty jobs over two replicas: all complete, each in one attempt, and no source is asked twice."""
    async with start() as first, start() as second:
        jobs = [await (first, second)[n % 2].submit([origin.url(100 + n, f"job{n}")]) for n in range(30)]
        ends = await asyncio.gather(*(second.finished(job) for job in jobs))
        assert {(end["status"], end["attempt"]) for end in ends} == {("completed", 1)}
        assert len(origin.requests) == len(set(origin.requests)) == 30
