"""What was measured, as it lies in `bench.json`, and what is made of it: tables, a chart, verdicts."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench.chart import Bar, Group, chart
from tests.bench.peers import report
from tests.bench.peers.run import Run
from tests.bench.peers.workloads import workloads
from tests.bench.plan import Measured, Plan
from tests.bench.split import STAGES
from tests.bench.targets import TARGETS, Numbers, Target, Verdict


@dataclass(frozen=True, slots=True)
class Result:
    """One figure: when and how it was measured, and what came out."""

    at: str
    machine: Mapping[str, Any]
    plan: Mapping[str, Any]
    numbers: Mapping[str, float]
    runs: list[Mapping[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Results:
    """All figures that were measured so far, by name, in a folder."""

    folder: Path
    by_name: dict[str, Result] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Results:
        """What lies in the folder."""
        path = folder / "bench.json"
        raw = json.loads(path.read_text()) if path.exists() else {}
        return cls(folder, {name: Result(**each) for name, each in raw.items()})

    def add(self, name: str, plan: Plan, measured: Measured) -> None:
        """Take a figure in, in the place of an older one."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        self.by_name[name] = Result(at, machine(), asdict(plan), measured.numbers, list(measured.runs))

    def write(self) -> None:
        """Write raw numbers, tables and chart."""
        self.folder.mkdir(parents=True, exist_ok=True)
        raw = {name: asdict(result) for name, result in self.by_name.items()}
        (self.folder / "bench.json").write_text(json.dumps(raw, indent=1) + "\n")
        (self.folder / "bench.md").write_text(self.tables())
        (self.folder / "bench.svg").write_text(chart(self._groups(), "What each contestant took, and the targets"))

    @property
    def numbers(self) -> Numbers:
        """All numbers by figure and name."""
        return {name: result.numbers for name, result in self.by_name.items()}

    def verdicts(self, *, measured: bool = False) -> str:
        """The targets in Markdown, or those of them that were `measured`: what must be reached, what was."""
        lines = ["| figure | target | reached | verdict |", "|---|---|---|---|"]
        for target in TARGETS:
            found = target.found(self.numbers)
            if found is None and measured:
                continue
            sign, said = ">=" if target.at_least else "<=", "" if found is None else _said(found)
            bound = f"{sign} {target.bound:g} {target.unit}".rstrip()
            lines.append(f"| {target.title} | {bound} | {said} | {target.verdict(self.numbers).value} |")
        return "\n".join(lines)

    def tables(self) -> str:
        """Everything in Markdown."""
        sections = [f"# Measurements\n\n{self.verdicts()}"]
        for name, result in self.by_name.items():
            about = ", ".join(f"{key} {value}" for key, value in result.machine.items())
            head = f"## {name}\n\n{result.at}, scale {result.plan['scale']:g}; {about}\n\n"
            sections.append(head + self._table(name, result))
        return "\n\n".join(sections) + "\n"

    def _table(self, name: str, result: Result) -> str:
        if result.runs:
            return report.table([Run.of(run) for run in result.runs], workloads(result.plan["scale"])[name])
        rows = [f"| {number} | {_said(value)} |" for number, value in result.numbers.items()]
        return "\n".join(["| number | value |", "|---|---|", *rows])

    def _groups(self) -> list[Group]:
        groups = [
            group
            for name, result in self.by_name.items()
            if result.runs
            for group in report.groups([Run.of(run) for run in result.runs], workloads(result.plan["scale"])[name])
        ]
        if "split" in self.by_name:
            groups += [_stages(name, self.by_name["split"].numbers) for name in ("W2", "W3")]
        if "memory" in self.by_name:
            groups += [_peaks(budget, self.by_name["memory"].numbers) for budget in ("default", "48_mib")]
        bars = [bar for target in TARGETS if (bar := _share_of_bound(target, self.numbers)) is not None]
        return [*groups, Group("Targets: share of the bound (of 1 / it, where it is a minimum)", tuple(bars))]


def _stages(name: str, numbers: Mapping[str, float]) -> Group:
    found = [(stage, numbers.get(f"{name}.{stage}_s_per_gb", 0.0)) for stage in STAGES]
    return Group(f"{name}: CPU by stage", tuple(Bar(stage, value, f"{value:.2f} s/GB") for stage, value in found))


def _peaks(budget: str, numbers: Mapping[str, float]) -> Group:
    found = {name: value for name, value in numbers.items() if name.startswith(budget) and name.endswith("_mib")}
    bars = tuple(Bar(_short(name, budget), value, f"{value:.0f} MiB") for name, value in found.items())
    return Group(f"Peak memory, budget {budget.replace('_', ' ')}", bars)


def _short(name: str, budget: str) -> str:
    return name.removeprefix(f"{budget}.").removesuffix("_mib").replace("_", " ")


def _share_of_bound(target: Target, numbers: Numbers) -> Bar | None:
    found = target.found(numbers)
    if not found:
        return None
    share = target.bound / found if target.at_least else found / target.bound
    colour = 4 if target.verdict(numbers) is Verdict.REACHED else 2
    return Bar(f"{share:.0%}", min(share, 3.0), f"{target.title} {_said(found)} {target.unit}", colour)


def _said(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def machine() -> dict[str, Any]:
    """The machine that figures were measured on."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    models = [line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
    }
