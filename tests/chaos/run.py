"""One run from end to end: post, follow, break, wait for the last job, look at what is left."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import aiohttp

from tests.chaos.archives import judged
from tests.chaos.clients import Clients
from tests.chaos.history import REPLAY, Broken, History, Seen, Told, Verified
from tests.chaos.leftovers import count_open, look, look_at_open_files
from tests.chaos.monkey import Monkey
from tests.chaos.plan import Plan
from tests.chaos.stage import Stage, staged
from tests.chaos.story import order

# Of the time of a run, so much is for posting; the rest is for the last jobs and the look at what is left.
POSTING_SHARE = 0.9
LAST_JOBS_S = 90.0
ASKING_S = 120.0
SAY_EVERY_S = 15.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the run reached besides its history."""

    posted: int
    kills: int
    redis_kills: int
    reconnects: int
    duration_s: float
    timed_out: bool


async def perform(plan: Plan, history: History, say: Say) -> Outcome:
    """Run the plan; what happened is in the history."""
    began = time.monotonic()
    connector = aiohttp.TCPConnector(limit=0)
    async with staged(plan) as stage, aiohttp.ClientSession(connector=connector) as session:
        say(f"{plan.replicas} replicas are up after {time.monotonic() - began:.1f} s")
        run = _Run(plan, stage, history, session, deadline=began + plan.limit_s * POSTING_SHARE)
        await run.whole(say)
        return Outcome(
            run.posted,
            run.monkey.kills,
            run.monkey.redis_kills,
            run.clients.reconnects,
            time.monotonic() - began,
            run.late,
        )


class _Run:
    def __init__(
        self, plan: Plan, stage: Stage, history: History, session: aiohttp.ClientSession, *, deadline: float
    ) -> None:
        self._plan = plan
        self._deadline = deadline
        self.late = False
        self._stage = stage
        self._history = history
        self._dice = random.Random(plan.seed)
        self.clients = Clients(session, stage, history, random.Random(plan.seed + 1))
        self.monkey = Monkey(plan, stage, history, random.Random(plan.seed + 2))
        self.posted = 0
        self.ended = 0
        self._results: dict[str, Told] = {}
        self._places = asyncio.Semaphore(plan.outstanding_max)
        self._verifying = asyncio.Semaphore(4)

    async def whole(self, say: Say) -> None:
        """The run, one stretch after the other."""
        baseline = max(count_open(self._stage))
        async with self._watched(say):
            async with asyncio.TaskGroup() as group:
                group.create_task(self.monkey.run())
                await self._post_all(group)
                self.monkey.stop()
            say(f"{self.ended} jobs have ended; asking every replica about each")
            await self._ask_all()
            say("looking for leftovers")
            results = self._results.items()
            archives = {job_id: (told.size, told.etag) for job_id, told in results if told.state == "completed"}
            await look(self._stage, self._history, archives, frozenset(self._results))
            await look_at_open_files(self._stage, self._history, baseline)
        await self._end_replicas()

    # Jobs

    async def _post_all(self, group: asyncio.TaskGroup) -> None:
        """Post at a steady pace; beyond the planned jobs for as long as kills are missing."""
        pause_s = self._plan.busy_s / self._plan.jobs
        open_jobs: set[asyncio.Task[None]] = set()
        due = time.monotonic()
        while (self.posted < self._plan.jobs or not self.monkey.is_done) and await self._place():
            open_jobs.add(group.create_task(self._one_job(self.posted)))
            self.posted += 1
            due += self._dice.expovariate(1 / pause_s)
            await asyncio.sleep(due - time.monotonic())  # what was late is caught up
            open_jobs = {job for job in open_jobs if not job.done()}
        _, open_jobs = await asyncio.wait(open_jobs, timeout=LAST_JOBS_S) if open_jobs else ((), set())
        for job in open_jobs:  # the checker will find them: they are lost
            job.cancel()

    async def _place(self) -> bool:
        """Wait until one more job may be open; False when the time for posting is over."""
        try:
            async with asyncio.timeout(self._deadline - time.monotonic()):
                await self._places.acquire()
        except TimeoutError:
            self.late = True
        return not self.late

    async def _one_job(self, number: int) -> None:
        job_id = await self.clients.post(number)
        async with asyncio.TaskGroup() as followers:
            for follower in range(self._plan.followers):
                followers.create_task(self.clients.follow(job_id, follower))
            told = await self.clients.told(job_id)
            if told.state == "completed":
                await self._verify(number, told)
        self._results[job_id] = told
        self.ended += 1
        self._places.release()

    async def _verify(self, number: int, told: Told) -> None:
        async with self._verifying:
            data = await self.clients.archive(told.job_id)
            problems = await asyncio.to_thread(judged, self._stage.workload.job(number), data)
            if len(data) != told.size:
                problems.append(f"{len(data)} bytes, but the status says {told.size}")
            self._history.add(Verified(time.time(), told.job_id, len(data), told.entries, tuple(problems)))

    # The end

    async def _ask_all(self) -> None:
        """Ask every replica for the result of every job, and read every stream from its first event."""
        first = _first_ids(self._history)
        gate = asyncio.Semaphore(8)

        async def ask(job_id: str) -> None:
            async with gate:
                for replica in range(len(self._stage.replicas)):
                    await self.clients.told(job_id, replica)
                await self.clients.replay(job_id, first[job_id])

        with suppress(TimeoutError):  # the checker says which streams could not be read
            async with asyncio.timeout(ASKING_S), asyncio.TaskGroup() as group:
                for job_id in self._results:
                    group.create_task(ask(job_id))

    async def _end_replicas(self) -> None:
        async def end(number: int) -> None:
            code = await self._stage.replicas[number].terminate()
            if code != 0:
                self._history.add(Broken(time.time(), f"replica {number} ended with {code} on the last SIGTERM"))

        await asyncio.gather(*(end(number) for number in range(len(self._stage.replicas))))
        self._collect_faults()

    @asynccontextmanager
    async def _watched(self, say: Say) -> AsyncIterator[None]:
        """Look after the replicas and say now and then how far it is."""
        watching = asyncio.create_task(self._watch(say))
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self, say: Say) -> None:
        said = time.monotonic()
        while True:
            await asyncio.sleep(1)
            for replica in self._stage.replicas:
                if replica.has_died() and not replica.busy.locked():
                    await self.monkey.revive(replica)
            self._collect_faults()
            if time.monotonic() - said >= SAY_EVERY_S:
                said = time.monotonic()
                say(
                    f"posted {self.posted}, ended {self.ended}, kills {self.monkey.kills}, "
                    f"of Redis {self.monkey.redis_kills}, reconnects {self.clients.reconnects}"
                )

    def _collect_faults(self) -> None:
        for replica in self._stage.replicas:
            replica.log.read()
            for fault in replica.log.faults:
                self._history.add(Broken(time.time(), f"replica {replica.number} logged: {fault}"))
            replica.log.faults.clear()


def _first_ids(history: History) -> dict[str, str]:
    """The first event of each job that any follower saw."""
    first: dict[str, str] = {}
    for entry in history.entries:
        if isinstance(entry, Seen) and entry.id and entry.follower != REPLAY:
            known = first.get(entry.job_id)
            if known is None or order(entry.id) < order(known):
                first[entry.job_id] = entry.id
    return first
