"""All runs: record each shape once, pick the points to kill at, run the kills side by side, and say what came of it."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tests.failpoints.points import BEFORE, MOMENTS
from tests.failpoints.runs import Run, Verdict, run
from tests.failpoints.shapes import SHAPES, Shape
from tests.failpoints.stage import Stage

Hits = Literal["first", "last", "both"]
TELL_EVERY = 100


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run."""

    shapes: tuple[int, ...] = tuple(SHAPES)
    points: str = ""
    hits: Hits = "first"
    sample: int | None = None
    seed: int = 0
    workers: int = 3


@dataclass(frozen=True, slots=True)
class Kill:
    """A point of a shape, and which of its hits kills."""

    shape: Shape
    point: str
    nth: int


@dataclass
class Report:
    """What came of it."""

    generated: int = 0
    reached: dict[int, int] = field(default_factory=dict)
    unreached: list[str] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def failed(self) -> list[Run]:
        """Runs after which a rule was broken."""
        return [done for done in self.runs if done.verdict is Verdict.FAILED]

    @property
    def summary(self) -> str:
        """The figures."""
        verdicts = Counter(done.verdict for done in self.runs)
        reached = ", ".join(f"shape {number}: {count}" for number, count in sorted(self.reached.items()))
        counts = ", ".join(f"{verdicts[verdict]} {verdict.value}" for verdict in Verdict)
        return (
            f"{self.generated} points generated; reached by {reached}; no shape begins {len(self.unreached)} sites\n"
            f"{len(self.runs)} runs: {counts}; {time.monotonic() - self.began:.0f} s"
        )


async def perform(stage: Stage, plan: Plan, tell: Callable[[str], None], report: Report | None = None) -> Report:
    """Do all runs of the plan; each failure is told at once. `report` is filled as they end."""
    report = report or Report()
    report.generated = len(stage.points)
    shapes = [SHAPES[number] for number in plan.shapes]
    recordings: list[Run] = []
    await _side_by_side(stage, [Kill(shape, "", 1) for shape in shapes], plan.workers, tell, recordings)
    recordings.sort(key=lambda done: done.shape.number)
    report.runs += [done for done in recordings if done.verdict is Verdict.FAILED]
    report.unreached = _unreached(stage, recordings)
    kills: list[Kill] = []
    for done in recordings:
        reached = list(_reached(stage, done, plan.hits))
        report.reached[done.shape.number] = len({kill.point for kill in reached})
        kills += [kill for kill in reached if re.search(plan.points, kill.point)]
    await _side_by_side(stage, picked(kills, plan), plan.workers, tell, report.runs)
    return report


def picked(kills: Sequence[Kill], plan: Plan) -> list[Kill]:
    """All of them, or a sample that is the same for the same seed."""
    if plan.sample is None or plan.sample >= len(kills):
        return list(kills)
    return random.Random(plan.seed).sample(list(kills), plan.sample)


def _reached(stage: Stage, recording: Run, hits: Hits) -> Iterable[Kill]:
    for point, count in zip(stage.points, recording.counts, strict=False):
        if count and hits != "last":
            yield Kill(recording.shape, point, 1)
        if (count > 1 or hits == "last") and count and hits != "first":
            yield Kill(recording.shape, point, count)


def _unreached(stage: Stage, recordings: Sequence[Run]) -> list[str]:
    """The sites that no recorded job has come by."""
    reached = {number for done in recordings for number, count in enumerate(done.counts) if count}
    begun = range(BEFORE, len(stage.points), len(MOMENTS))
    return [site.name for number, site in zip(begun, stage.zygote.sites, strict=True) if number not in reached]


async def _side_by_side(
    stage: Stage, kills: Sequence[Kill], workers: int, tell: Callable[[str], None], done: list[Run]
) -> None:
    """Do these runs and add them to `done`, in the order in which they end."""
    waiting = iter(kills)

    async def work() -> None:
        for kill in waiting:
            finished = await run(stage, kill.shape, kill.point, kill.nth)
            done.append(finished)
            if finished.verdict is not Verdict.GREEN:
                tell(told(finished))
            if not len(done) % TELL_EVERY:
                tell(f"{len(done)} of {len(kills)} runs")

    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(work())


def told(done: Run) -> str:
    """A run in one line, with how to repeat it; after a failure the ends of its logs follow."""
    where = f"shape {done.shape.number}, {f'{done.point}, hit {done.nth}' if done.point else 'the recording'}"
    if done.verdict is Verdict.NOT_REACHED:
        return f"not reached: {where}"
    again = f"python -m tests.failpoints --shapes {done.shape.number}"
    if done.point:
        hits = "first" if done.nth == 1 else "last"
        again += f" --hits {hits} --points '^{re.escape(done.point)}$'"
    return f"FAILED: {where}: {'; '.join(done.broken)}; again: {again}\n{done.tail}"
