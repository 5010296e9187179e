"""Where the CPU seconds of a gigabyte go: samples of the stacks (py-spy), scaled to what each thread really used.

A sample belongs to the innermost of our modules, or of the S3 and Redis libraries, that is on the stack. What has none
of them is the event loop's own business: reading from sockets, which is nearly all from sources, counts as fetching;
sending what was handed to the connection counts as storing.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.bench.peers.contestants import Downloader
from tests.bench.peers.program import Task
from tests.bench.peers.run import in_memory, task_of
from tests.bench.peers.sources import source
from tests.bench.peers.workloads import make, workloads
from tests.bench.plan import GB, Plan
from tests.bench.running import service, store

STAGES = ("fetch", "hash", "cache", "zip", "upload", "other")
SAMPLES_PER_S = 250
READY_S = 1.5
_MODULES = {
    "hash": "inspection sniff pages expectations metadata",
    "cache": "cache intake shelf budget",
    "zip": "archive packing deflate parts zipformat",
    "upload": "upload storage storage_clients storage_errors partbody traits signing",
    "fetch": "fetch transfer connector redirects answers coding dial faults guard hosts links pace throttle urls",
    "other": "checkpoint pipeline progress worker reports keeping",
}
_STAGE_OF = {module: stage for stage, modules in _MODULES.items() for module in modules.split()}
_OURS = re.compile(r"downloader/work/(\w+)")
_THEIRS = re.compile(r"(botocore)/|(redis/|aiohttp/web|downloader/(?:state|web|telemetry)/)")
_SENDING = re.compile(r"aiohttp/(http_writer|payload|client_reqrep)")
_RECEIVING = re.compile(r"aiohttp/(client|streams|connector)")
_LOOP = re.compile(r"asyncio/runners")
_WAITING = re.compile(r"^_worker \(concurrent/futures|^wait \(threading")
_THREAD = re.compile(r"^thread \((\d+)\)")


def split(plan: Plan) -> dict[str, float]:
    """CPU seconds per GB of W2 and W3 on the discarding sink, by what they are spent on."""
    program = _py_spy()
    numbers: dict[str, float] = {}
    if program is None:
        print("py-spy is not installed: nothing is split")
        return numbers
    for name in ("W2", "W3"):
        per_gb = _split(program, name, plan)
        said = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in per_gb.items())
        print(f"{name}: {sum(per_gb.values()):.2f} CPU s/GB: {said}", flush=True)
        numbers |= {f"{name}.{stage}_s_per_gb": seconds for stage, seconds in per_gb.items()}
        numbers[f"{name}.all_s_per_gb"] = sum(per_gb.values())
    return numbers


def _py_spy() -> str | None:
    beside_python = Path(sys.executable).with_name("py-spy")
    return str(beside_python) if beside_python.exists() else shutil.which("py-spy")


def _split(program: str, name: str, plan: Plan) -> dict[str, float]:
    """Seconds per GB by stage: the total is that of runs that nobody looked at, the shares are those of the others."""
    workload = workloads(plan.scale)[name]
    with (
        in_memory() as folder,
        source(workload, make(workload, folder), folder) as base,
        store() as place,
        service(place, *plan.settings) as ours,
    ):
        task, contestant = Task(**task_of(workload, base), place=place), Downloader(ours)
        contestant(replace(task, key="warm.zip"))
        used = sorted(contestant(task).cpu_s for _ in range(plan.runs))[plan.runs // 2]
        stacks = folder / "stacks.txt"
        with _sampled(program, ours.pid, stacks):
            before = _threads_cpu_s(ours.pid)
            for _ in range(plan.runs):
                contestant(task)
            after = _threads_cpu_s(ours.pid)
        shares = shares_of(stacks.read_text(), {tid: cpu - before.get(tid, 0.0) for tid, cpu in after.items()})
    return {stage: share * used / workload.total * GB for stage, share in shares.items()}


@contextmanager
def _sampled(program: str, pid: int, target: Path) -> Iterator[None]:
    command = [program, "record", "-t", "-f", "raw", "-r", str(SAMPLES_PER_S), "-o", str(target), "-p", str(pid)]
    sampler = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(READY_S)  # it says nothing when it begins
        yield
    finally:
        sampler.send_signal(signal.SIGINT)
        sampler.wait(60)


def _threads_cpu_s(pid: int) -> dict[int, float]:
    """CPU time of each thread so far; only the proportions matter."""
    used = {}
    for folder in Path(f"/proc/{pid}/task").iterdir():
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        used[int(folder.name)] = float(int(fields[11]) + int(fields[12]))
    return used


def shares_of(stacks: str, used: Mapping[int, float]) -> dict[str, float]:
    """The share of each stage, from py-spy's raw form (`thread (id): name;outermost;...;innermost count`)."""
    seen: dict[int, Counter[str]] = {}
    for line in stacks.splitlines():
        stack, _, samples = line.rpartition(" ")
        thread, *frames = stack.split(";")
        found = _THREAD.match(thread)
        if found and frames and not _WAITING.match(frames[-1]):
            seen.setdefault(int(found[1]), Counter())[stage_of(frames)] += int(samples)
    total = sum(used[tid] for tid in seen if tid in used) or 1.0
    shares = dict.fromkeys(STAGES, 0.0)
    for tid, stages in seen.items():
        for stage, count in stages.items():
            shares[stage] += used.get(tid, 0.0) / total * count / stages.total()
    return shares


def stage_of(frames: list[str]) -> str:
    """What a stack, outermost frame first, is busy with."""
    for frame in reversed(frames):
        if (ours := _OURS.search(frame)) is not None and ours[1] in _STAGE_OF:
            return _STAGE_OF[ours[1]]
        if (theirs := _THEIRS.search(frame)) is not None:
            return "upload" if theirs[1] else "other"
    if any(_SENDING.search(frame) for frame in frames):
        return "upload"
    return "fetch" if _LOOP.search(frames[-1]) or any(_RECEIVING.search(frame) for frame in frames) else "other"


FIGURES = (split,)
