"""All figures: one table, in the order in which they are measured."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import uvloop

from tests.bench import doors, life, memory, replicas, split
from tests.bench.peers.run import compare
from tests.bench.peers.workloads import Workload, workloads
from tests.bench.plan import GB, Figure, Measured, Plan

PEERS = tuple(workloads(1))


def _about(measure: Callable[..., object]) -> str:
    return (measure.__doc__ or "").strip().splitlines()[0]


def _files(workload: Workload) -> str:
    delay = f", {workload.delay_s * 1000:.0f} ms before each" if workload.delay_s else ""
    return f"{workload.title}, {workload.files:,} files of {workload.total / GB:.2f} GB together{delay}"


def _plain(measure: Callable[[Plan], dict[str, float]]) -> Figure:
    return Figure(measure.__name__, _about(measure), lambda plan: Measured(measure(plan)))


def _asynchronous(measure: Callable[[Plan], Awaitable[dict[str, float]]]) -> Figure:
    async def measured(plan: Plan) -> dict[str, float]:
        return await measure(plan)

    def run(plan: Plan) -> Measured:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as the service itself
            return Measured(runner.run(measured(plan)))

    return Figure(measure.__name__, _about(measure), run)


FIGURES = {
    figure.name: figure
    for figure in (
        *(
            Figure(name, f"Beside its peers and the limit: {_files(workload)}.", partial(compare, name))
            for name, workload in workloads(1).items()
        ),
        *map(_plain, split.FIGURES),
        *map(_asynchronous, (*memory.FIGURES, *doors.FIGURES, *replicas.FIGURES, *life.FIGURES)),
    )
}
