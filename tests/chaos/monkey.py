"""What is broken, and when: one loop per kind of fault, each at random instants, each fault mended after a while."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable

from tests.chaos.history import Broken, Fault, History
from tests.chaos.plan import Plan
from tests.chaos.replicas import Replica
from tests.chaos.stage import LEASE_S, Stage
from tests.proxy import Proxy

# While Redis or a connection to it is away a lease cannot be renewed, and a call that got no answer is given up
# only after its own time.
STOPS_EVERY_S = 30.0
TERMS_EVERY_S = 30.0
PROXY_FAULTS_EVERY_S = 15.0


class Monkey:
    """Breaks things until told to stop; everything is mended when `run` ends."""

    def __init__(self, plan: Plan, stage: Stage, history: History, dice: random.Random) -> None:
        self._plan = plan
        self._stage = stage
        self._history = history
        self._dice = dice
        self._over = asyncio.Event()
        self._redis = asyncio.Lock()
        self.kills = 0
        self.redis_kills = 0

    @property
    def is_done(self) -> bool:
        """Whether all kills have been made."""
        return self.kills >= self._plan.kills and self.redis_kills >= self._plan.redis_kills

    def stop(self) -> None:
        """Break nothing any more."""
        self._over.set()

    async def run(self) -> None:
        """Break until `stop`, then wait until everything is mended."""
        spread_s = self._plan.busy_s
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._often(spread_s / max(1, self._plan.kills), self._kill, self._enough_kills))
            loops.create_task(
                self._often(spread_s / max(1, self._plan.redis_kills), self._kill_redis, self._enough_redis_kills)
            )
            loops.create_task(self._often(STOPS_EVERY_S, self._stop_for_a_while))
            loops.create_task(self._often(TERMS_EVERY_S, self._terminate))
            loops.create_task(self._often(PROXY_FAULTS_EVERY_S, self._break_redis_link))
            loops.create_task(self._often(PROXY_FAULTS_EVERY_S, self._break_s3_link))

    def _enough_kills(self) -> bool:
        return self.kills >= self._plan.kills

    def _enough_redis_kills(self) -> bool:
        return self.redis_kills >= self._plan.redis_kills

    async def _often(
        self, every_s: float, act: Callable[[], Awaitable[None]], enough: Callable[[], bool] = lambda: False
    ) -> None:
        """Act once in each stretch of `every_s`, at a random instant of it; what took longer is caught up."""
        begin = time.monotonic()
        stretch = 0
        while not enough():
            due = begin + (stretch + self._dice.random()) * every_s
            stretch += 1
            if await self._pause(due - time.monotonic()):
                return
            await act()

    async def _pause(self, seconds: float) -> bool:
        """Wait; True when it is over."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._over.wait()
        except TimeoutError:
            return self._over.is_set()
        return True

    # Replicas

    async def _victim(self, *, at_work: bool) -> Replica | None:
        """A ready replica that nobody else is breaking, with jobs running if asked for; None when it is over."""
        while True:
            free = [
                replica
                for replica in self._stage.replicas
                if replica.ready and not replica.busy.locked() and (not at_work or replica.running())
            ]
            if free:
                return self._dice.choice(free)
            if await self._pause(0.05):
                return None

    async def _kill(self) -> None:
        replica = await self._victim(at_work=True)
        if replica is None:
            return
        async with replica.busy:
            at = time.time()
            jobs = await replica.kill()
            self._note(at, "kill", replica, jobs)
            self.kills += 1
            await self._start(replica)

    async def _terminate(self) -> None:
        replica = await self._victim(at_work=True)
        if replica is None:
            return
        async with replica.busy:
            at, jobs = time.time(), replica.running()
            code = await replica.terminate()
            self._note(at, "term", replica, jobs)
            if code != 0:
                self._history.add(Broken(time.time(), f"replica {replica.number} ended with {code} on SIGTERM"))
            await self._start(replica)

    async def _stop_for_a_while(self) -> None:
        """A zombie: silent for longer than its leases, then back as if nothing had been."""
        replica = await self._victim(at_work=True)
        if replica is None:
            return
        async with replica.busy:
            at, jobs = time.time(), replica.running()
            replica.signal(signal.SIGSTOP)
            await asyncio.sleep(LEASE_S * self._dice.uniform(1.5, 2.5))
            replica.signal(signal.SIGCONT)
            self._note(at, "stop", replica, jobs)
            await asyncio.sleep(1)  # time to notice, before it may be killed

    async def revive(self, replica: Replica) -> None:
        """Start a replica that has died by itself, which it must not, as whoever runs it would."""
        async with replica.busy:
            at, jobs = time.time(), await replica.kill()
            self._history.add(Broken(at, f"replica {replica.number} died by itself with {replica.process.returncode}"))
            self._note(at, "death", replica, jobs)
            await self._start(replica)

    async def _start(self, replica: Replica) -> None:
        try:
            await replica.start()
        except (AssertionError, TimeoutError) as error:
            self._history.add(Broken(time.time(), f"replica {replica.number} did not come back: {error}"))

    def _note(self, at: float, kind: str, replica: Replica, jobs: tuple[str, ...]) -> None:
        self._history.add(Fault(at, time.time(), kind, f"replica {replica.number}", jobs))

    # Neighbours

    async def _kill_redis(self) -> None:
        async with self._redis:
            at = time.time()
            await self._stage.redis.kill()
            await asyncio.sleep(self._dice.uniform(0.0, 1.5))
            await self._stage.redis.start()
            self._history.add(Fault(at, time.time(), "kill", "redis"))
            self.redis_kills += 1

    async def _break_redis_link(self) -> None:
        async with self._redis:
            await self._break(self._stage.redis_proxy, "link to redis")

    async def _break_s3_link(self) -> None:
        await self._break(self._stage.s3_proxy, "link to s3")

    async def _break(self, proxy: Proxy, target: str) -> None:
        kind = self._dice.choice(("down", "hang", "delay", "reset", "half_open", "drop_reply", "cut_reply"))
        lasting_s = self._dice.uniform(0.2, 2.5)
        at = time.time()
        match kind:
            case "down":
                await proxy.down()
                await asyncio.sleep(lasting_s)
                await proxy.up()
            case "hang":
                proxy.hang()
                await asyncio.sleep(lasting_s)
                proxy.flow()
            case "delay":
                proxy.delay(self._dice.uniform(0.02, 0.2))
                await asyncio.sleep(lasting_s)
                proxy.delay(0)
            case "reset":
                proxy.reset()
            case "half_open":
                proxy.half_open()
            case "drop_reply":
                proxy.drop_next_reply()
            case _:
                proxy.truncate_next_reply(self._dice.randint(1, 20))
        self._history.add(Fault(at, time.time(), kind, target))
