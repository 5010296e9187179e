"""The comparison on one workload: every contestant on every store, in turns."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tests.bench.peers.contestants import Contestant, DidNotFinishError, Downloader, contestants
from tests.bench.peers.program import Task, Took
from tests.bench.peers.sources import source
from tests.bench.peers.workloads import Workload, make, workloads
from tests.bench.plan import GB, LIMIT, SERVICES, Measured, Plan
from tests.bench.running import SINK, service, store

MEMORY = Path("/dev/shm")
FETCHED_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one contestant; `stolen_s` are CPU seconds that other machines took from this one meanwhile."""

    store: str
    workload: str
    contestant: str
    number: int
    took: Took | None = None
    archive_bytes: int = 0
    error: str = ""
    stolen_s: float = 0.0

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Run:
        """A run as it lies in the raw numbers."""
        return cls(**dict(raw) | {"took": Took(**raw["took"]) if raw["took"] else None})

    def said(self) -> str:
        """The run as a line."""
        took, rest = self.took, self.error
        if took is not None:
            rest = f"{took.wall_s:7.2f} s, CPU {took.cpu_s:6.2f} s, peak {took.peak_bytes / 2**20:4.0f} MiB {rest}"
        return f"{self.store:5} {self.workload} {self.contestant:13} {rest}"


def compare(name: str, plan: Plan) -> Measured:
    """Run all on one workload; the numbers are medians, named by store, contestant and what they are."""
    workload = workloads(plan.scale)[name]
    runs = []
    for run in _runs(workload, plan):
        print(run.said(), flush=True)
        runs.append(run)
    return Measured(_numbers(workload, runs), [asdict(run) for run in runs])


def _numbers(workload: Workload, runs: Sequence[Run]) -> dict[str, float]:
    turns = -(-workload.files // FETCHED_AT_ONCE)
    seconds = workload.delay_s + (workload.sizes[0] / workload.rate if workload.rate else 0.0)
    numbers = {"ideal_wall_s": turns * seconds} if seconds else {}
    for where, who in dict.fromkeys((run.store, run.contestant) for run in runs):
        own = [run for run in runs if (run.store, run.contestant) == (where, who) and run.took is not None]
        if own:
            cpu = median(own, "cpu_s")
            numbers |= {
                f"{where}.{who}.wall_s": median(own, "wall_s"),
                f"{where}.{who}.cpu_s_per_gb": cpu / workload.total * GB,
                f"{where}.{who}.cpu_ms_per_file": cpu / workload.files * 1000,
                f"{where}.{who}.peak_mib": max(run.took.peak_bytes for run in own if run.took) / 2**20,
                f"{where}.{who}.archive_bytes": float(max(run.archive_bytes for run in own)),
            }
    return numbers


def median(runs: Sequence[Run], figure: str) -> float:
    """The median of a figure of the runs that finished; NaN when none did."""
    values = [getattr(run.took, figure) for run in runs if run.took is not None]
    return statistics.median(values) if values else float("nan")


def _runs(workload: Workload, plan: Plan) -> Iterator[Run]:
    with in_memory() as folder:
        root = make(workload, folder)
        with source(workload, root, folder) as base:
            for kind in plan.stores:
                yield from _on(plan, workload, base, kind)


@contextmanager
def in_memory() -> Iterator[Path]:
    """A folder in memory, which is that of all temporary files meanwhile: no disk is to be measured."""
    before = os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as place:
        os.environ["TMPDIR"] = tempfile.tempdir = place
        try:
            yield Path(place)
        finally:
            tempfile.tempdir = None
            if before is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = before


def task_of(workload: Workload, base: str) -> dict[str, Any]:
    """What a task for this workload says of its files."""
    names = tuple(workload.file_name(index) for index in range(workload.files))
    return {"base": base, "names": names, "sizes": workload.sizes, "deflate": workload.deflate}


def _on(plan: Plan, workload: Workload, base: str, kind: str) -> Iterator[Run]:
    """All contestants on one store, alternating."""
    with ExitStack() as stack:
        place = stack.enter_context(store(kind))
        ours = {
            name: stack.enter_context(service(place, *plan.settings, *settings))
            for name, settings in SERVICES.items()
            if name in plan.contestants
        }
        task = Task(**task_of(workload, base), place=place)
        known = contestants(ours)
        for name in plan.contestants:
            if name not in known:
                print(f"{name} is not installed")
        for number in range(plan.runs):
            for name in plan.contestants:
                if name in known:
                    run = Run(kind, workload.name, name, number)
                    yield _one(run, known[name], replace(task, key=f"{name}-{number}.zip"))


def _one(run: Run, contestant: Contestant, task: Task) -> Run:
    before = _stolen_s()
    try:
        took = contestant(task)
    except DidNotFinishError as error:
        if run.contestant in SERVICES:
            raise
        return replace(run, error=str(error))
    run = replace(run, took=took, stolen_s=_stolen_s() - before)
    if run.contestant == LIMIT:
        _take_out(task, None)
        return run
    # The discarding sink has no archive to look at, and one look is enough for what never changes.
    size = _look(contestant, task, judged=run.number == 0 and run.store != SINK)
    return replace(run, archive_bytes=size)


def _stolen_s() -> float:
    return int(Path("/proc/stat").read_text().split()[8]) / os.sysconf("SC_CLK_TCK")


def _look(contestant: Contestant, task: Task, *, judged: bool) -> int:
    """The size of the archive, which is removed afterwards; a judged one is read by unzip."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "archive.zip" if judged else None
        size = contestant.archive(target) if isinstance(contestant, Downloader) else _take_out(task, target)
        if target is not None and shutil.which("unzip"):
            _judge(target, len(task.names))
    return size


def _take_out(task: Task, target: Path | None) -> int:
    """Download an object to `target`, if given, and delete it; gives its size."""
    s3, where = task.place.client(), {"Bucket": task.place.bucket, "Key": task.key}
    if target is not None:
        with target.open("wb") as file:
            shutil.copyfileobj(s3.get_object(**where)["Body"], file)
    size = int(s3.head_object(**where)["ContentLength"])
    s3.delete_object(**where)
    return size


def _judge(archive: Path, files: int) -> None:
    """RuntimeError unless the archive has as many entries as there are files, and unzip finds no fault in it."""
    said = subprocess.run(["unzip", "-tq", archive], capture_output=True, text=True, check=False)
    listed = subprocess.run(["zipinfo", "-1", archive], capture_output=True, text=True, check=False)
    entries = len([line for line in listed.stdout.splitlines() if not line.endswith("/")])
    if said.returncode or entries != files:
        raise RuntimeError(f"unzip: {said.stdout[-300:]} {entries} entries of {files}")
