"""The comparison as a table and as bars."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from tests.bench.chart import Bar, Group
from tests.bench.peers.run import Run, median
from tests.bench.peers.workloads import Workload
from tests.bench.plan import CONTESTANTS, GB
from tests.bench.running import STORES

MIB = 1024 * 1024


def table(runs: Sequence[Run], workload: Workload) -> str:
    """One workload in Markdown."""
    lines = ["| store | contestant | wall s (min to max) | CPU | peak MiB | archive MB |", "|---|---|---|---|---|---|"]
    for (store, contestant), own in _grouped(runs):
        lines.append(f"| {STORES[store]} | {contestant} | {' | '.join(_cells(own, workload))} |")
    return "\n".join(lines)


def _cells(runs: Sequence[Run], workload: Workload) -> list[str]:
    finished = [run.took for run in runs if run.took is not None]
    if not finished:
        return ["did not finish", "", "", ""]
    walls, cpu = [took.wall_s for took in finished], median(runs, "cpu_s")
    is_many = workload.files > 1000
    per = f"{cpu / workload.files * 1000:.2f} ms/file" if is_many else f"{cpu / workload.total * GB:.2f} s/GB"
    size = max(run.archive_bytes for run in runs)
    return [
        f"{median(runs, 'wall_s'):.2f} ({min(walls):.2f} to {max(walls):.2f})",
        per,
        f"{max(took.peak_bytes for took in finished) / MIB:.0f}",
        f"{size / 1e6:.1f}" if size else "",
    ]


def groups(runs: Sequence[Run], workload: Workload) -> Iterable[Group]:
    """Wall time as bars, a group for each store."""
    for store in dict.fromkeys(run.store for run in runs):
        bars = []
        for (_, who), own in _grouped([run for run in runs if run.store == store]):
            wall = median(own, "wall_s")
            if not math.isnan(wall):
                bars.append(Bar(who, wall, f"{wall:.2f} s", CONTESTANTS.index(who)))
        yield Group(f"{workload.name} {workload.title}, {STORES[store]}: wall", tuple(bars))


def _grouped(runs: Sequence[Run]) -> Iterable[tuple[tuple[str, str], list[Run]]]:
    for key in dict.fromkeys((run.store, run.contestant) for run in runs):
        yield key, [run for run in runs if (run.store, run.contestant) == key]
