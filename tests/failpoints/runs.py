"""One run: a service is killed at a point, another comes after it, and the rules are looked at."""

from __future__ import annotations

import asyncio
import enum
import signal
import time
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.api import TERMINAL
from tests.failpoints import rules
from tests.failpoints.points import AFTER, BEFORE, MOMENTS, RAISED
from tests.failpoints.shapes import Role, Shape
from tests.failpoints.stage import Child, Plot, Stage
from tests.waiting import wait_until

END_S = 30.0
LEAVE_S = 15.0
LOOK_S = 0.05
# Nothing is stored for so long: whoever works on a held file has sent all that can be sent.
QUIET_S = 0.3
STORING = ("work.storage.Storage.", "work.checkpoint.Checkpointer.write")
TAIL_LINES = 12


class Verdict(enum.Enum):
    """What came of a run."""

    GREEN = "green"
    FAILED = "failed"
    NOT_REACHED = "not reached"


@dataclass
class Run:
    """A kill of a shape's job at the `nth` hit of a point; without a point it is the recording."""

    shape: Shape
    point: str = ""
    nth: int = 1
    broken: list[str] = field(default_factory=list)
    killed: bool = False
    counts: list[int] = field(default_factory=list)
    seconds: float = 0.0
    tail: str = ""

    @property
    def verdict(self) -> Verdict:
        """Green only if the service died at the point and all rules hold."""
        if self.broken:
            return Verdict.FAILED
        return Verdict.GREEN if self.killed or not self.point else Verdict.NOT_REACHED


async def run(stage: Stage, shape: Shape, point: str = "", nth: int = 1) -> Run:
    """Do one run; what goes wrong with the run itself counts as a broken rule."""
    done = Run(shape, point, nth)
    plot = stage.plot()
    began = time.monotonic()
    try:
        await _Play(plot, done).perform()
    except (AssertionError, OSError, RuntimeError, TimeoutError, aiohttp.ClientError) as error:
        done.broken.append(f"the run broke off: {error!r}")
    finally:
        if done.broken:
            done.tail = _tail(plot)
        await plot.close()
    done.seconds = time.monotonic() - began
    return done


class _Play:
    """The steps of a run."""

    def __init__(self, plot: Plot, done: Run) -> None:
        self._plot = plot
        self._done = done
        self._shape = done.shape
        self._target = plot.stage.points.index(done.point) if done.point else -1
        self._job_id = ""

    async def perform(self) -> None:
        """Kill, come after, judge."""
        match self._shape.role:
            case Role.FIRST | Role.DOOR:
                victim = await self._first()
            case Role.HEIR:
                victim = await self._heir()
            case Role.LEAVING:
                victim = await self._leaving()
        code = await victim.end(LEAVE_S)
        self._done.counts = victim.board.counts
        self._done.killed = code == -signal.SIGKILL and self._done.counts[self._target] == self._done.nth
        if code not in (0, -signal.SIGKILL):
            self._done.broken.append(f"the armed service ended with {code}")
        self._plot.stage.origin.let_go(self._plot.name)
        await self._after()

    async def _first(self) -> Child:
        """Ask the armed one itself for the job."""
        slots = 0 if self._shape.role is Role.DOOR else 1
        victim = self._plot.start(target=self._target, nth=self._done.nth, concurrency=slots)
        port = await self._up(victim)
        victim.board.arm()
        await self._ask(port)
        if self._shape.role is Role.FIRST:
            await self._over(victim)
        victim.send(signal.SIGTERM)
        return victim

    async def _heir(self) -> Child:
        """Kill the first late in its upload; the armed one comes after it."""
        first = await self._stuck(self._plot.start())
        first.send(signal.SIGKILL)
        await first.end(LEAVE_S)
        self._plot.stage.origin.let_go(self._plot.name)
        victim = self._plot.start(target=self._target, nth=self._done.nth, armed=True)
        if await victim.up() is not None:
            await self._over(victim)
        victim.send(signal.SIGTERM)
        return victim

    async def _leaving(self) -> Child:
        """Tell the armed one to leave late in its upload."""
        victim = await self._stuck(self._plot.start(target=self._target, nth=self._done.nth))
        victim.board.arm()
        victim.send(signal.SIGTERM)
        return victim

    async def _after(self) -> None:
        """Let an unarmed one come, ask again if there was no answer, and look at the rules."""
        heir = self._plot.start()
        port = await self._up(heir)
        await self._ask_again(port)
        if not await self._wait_for_end(heir):
            self._done.broken.append(f"the job has not ended within {END_S:g} s")
        else:
            await self._judge(port)
        heir.send(signal.SIGTERM)
        code = await heir.end(LEAVE_S)
        if code != 0:
            self._done.broken.append(f"the service after it ended with {code}")
        self._done.broken += rules.empty_cache(self._plot)

    async def _judge(self, port: int) -> None:
        api = self._plot.api(port)
        self._done.broken += await rules.clean(self._plot, objects=1 + len(self._shape.kept))
        self._done.broken += await rules.only_one_job(self._plot, self._job_id)
        self._done.broken += await rules.ended_once(self._plot, api, self._job_id)
        self._done.broken += await rules.right_archive(api, self._job_id, self._shape)
        self._done.broken += await rules.right_files(api, self._job_id, self._shape)

    async def _up(self, child: Child) -> int:
        port = await child.up()
        if port is None:
            raise RuntimeError(f"a service did not start: it ended with {child.ended.result()}")
        return port

    async def _ask(self, port: int) -> None:
        """Ask for the job; an answer that does not come is no fault."""
        origin, name = self._plot.stage.origin, self._plot.name
        files = [{"url": origin.url(name, file), "name": file.name} for file in self._shape.files]
        try:
            answer = await self._plot.api(port).initiate(
                files, headers={"Idempotency-Key": name}, options=dict(self._shape.options)
            )
        except aiohttp.ClientError:
            return
        if answer.status != 202:
            self._done.broken.append(f"the request was answered with {answer.status}: {answer.body}")
        elif self._job_id not in ("", answer.body["jobId"]):
            self._done.broken.append(f"the same request made another job: {self._job_id}, {answer.body['jobId']}")
        else:
            self._job_id = answer.body["jobId"]

    async def _ask_again(self, port: int) -> None:
        """The same request again finds the job there was, or makes the first."""
        before = await rules.jobs(self._plot)
        if len(before) > 1 or (self._job_id and before != [self._job_id]):
            self._done.broken.append(f"the jobs are {before}, and {self._job_id or 'none'} was answered")
        self._job_id = self._job_id or next(iter(before), "")
        await self._ask(port)

    async def _stuck(self, child: Child) -> Child:
        """Have the child work on the job until it can go no further without the file that is held back."""
        child.board.watch()  # from its very start, so that what has begun and what has ended can be compared
        port = await self._up(child)
        await self._ask(port)
        others = sum(file.kind != "held" for file in self._shape.files)
        async with asyncio.timeout(END_S):
            await self._plot.stage.origin.holding(self._plot.name)
            await wait_until(lambda: self._has_done(port, others), within_s=END_S, every_s=LOOK_S)
            before: list[int] = []
            while (now := self._storing(child)) != before or _in_flight(now):
                before = now
                await asyncio.sleep(QUIET_S)
        return child

    async def _has_done(self, port: int, files: int) -> bool:
        return bool((await self._plot.api(port).status(self._job_id))["filesCompleted"] == files)

    def _storing(self, child: Child) -> list[int]:
        """How often each point was hit where something is stored or written down."""
        pairs = zip(self._plot.stage.points, child.board.counts, strict=True)
        return [count for name, count in pairs if name.startswith(STORING)]

    async def _over(self, child: Child) -> None:
        """Wait until the armed child is dead, or has done everything and cleaned up."""
        if await self._wait_for_end(child) and not child.ended.done():
            cleaning: asyncio.Future[Any] = asyncio.ensure_future(rules.clean(self._plot))
            await asyncio.wait([cleaning, child.ended], return_when=asyncio.FIRST_COMPLETED)
            cleaning.cancel()

    async def _wait_for_end(self, child: Child) -> bool:
        """Whether the job has ended before the child did."""
        deadline = time.monotonic() + END_S
        while not child.ended.done() and time.monotonic() < deadline:
            if self._job_id and await self._state() in TERMINAL:
                return True
            await asyncio.wait([child.ended], timeout=LOOK_S)
        return False

    async def _state(self) -> str:
        key = f"{self._plot.key_prefix}job:{self._job_id}"
        state: Any = await self._plot.stage.client.hget(key, "state")
        return state.decode() if state else ""


def _in_flight(counts: list[int]) -> int:
    """How many awaits have begun and not ended."""
    return (
        sum(counts[BEFORE :: len(MOMENTS)]) - sum(counts[AFTER :: len(MOMENTS)]) - sum(counts[RAISED :: len(MOMENTS)])
    )


def _tail(plot: Plot) -> str:
    """The last lines of the logs."""
    said = []
    for number, child in enumerate(plot.children):
        lines = child.log.read_text(errors="replace").splitlines() if child.log.exists() else []
        said += [f"    {number}| {line[:400]}" for line in lines[-TAIL_LINES:]]
    return "\n".join(said)
