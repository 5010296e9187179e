"""What the service holds in memory, how it takes a source that breaks off, and one that is slow to answer."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.peers.workloads import Workload, workloads
from tests.bench.plan import GB, Plan
from tests.bench.running import GIB, MIB, WEED, Bench, bench

SMALL_BUDGET = f"memory.budget_bytes={48 * MIB}"


async def memory(plan: Plan) -> dict[str, float]:
    """Peak of resident memory for files of 1 and 8 GiB and W1 to W6, at the default budget and at 48 MiB.

    One process does them all, so what earlier jobs have left in it counts for the later ones.
    """
    return await _peaks(plan, "default") | await _peaks(plan, "48_mib", SMALL_BUDGET)


async def _peaks(plan: Plan, budget: str, *settings: str) -> dict[str, float]:
    """The peaks with these settings, and the most of them."""
    peaks: dict[str, float] = {}
    async with bench(*plan.settings, *settings) as run:
        for gib in (1, 8):
            urls = [run.url("big.bin", plan.of(gib * GIB))]
            peaks[f"{budget}.{gib}_gib_mib"] = await _peak_mib(run, budget, f"one file of {gib} GiB", urls)
        for name, workload in workloads(plan.scale).items():
            peaks[f"{budget}.{name}_mib"] = await _peak_mib(run, budget, name, _urls(run, workload))
    growth = peaks[f"{budget}.8_gib_mib"] / peaks[f"{budget}.1_gib_mib"]
    return peaks | {f"{budget}.most_mib": max(peaks.values()), f"{budget}.8_gib_by_1_gib": growth}


def _urls(run: Bench, workload: Workload) -> list[str]:
    """The workload's files as this source makes them."""
    manners: dict[str, object] = {"delay_s": workload.delay_s} if workload.delay_s else {}
    return [
        run.url(workload.file_name(index), size, **manners, **({"text": 1} if workload.text[index] else {}))
        for index, size in enumerate(workload.sizes)
    ]


async def _peak_mib(run: Bench, budget: str, what: str, urls: Sequence[str]) -> float:
    idle = run.resident_bytes() / MIB
    run.service.reset_peak()
    job = await run.job(urls)
    assert job.status["status"] == "completed", job.status
    peak = run.service.peak_bytes() / MIB
    size = int(job.status["bytesFetched"])
    print(f"budget {budget}, {what}: peak {peak:.0f} MiB (idle {idle:.0f}), ", end="")
    print(f"{job.wall_s:.1f} s, CPU {job.cpu_s / size * GB:.2f} s/GB", flush=True)
    return peak


async def broken(plan: Plan) -> dict[str, float]:
    """A source that fails for good after 700 MiB of a GiB: the archive of the others, and the peak of memory."""
    async with bench("cache.disk_bytes=0", "sources.attempts=1", *plan.settings, kind=WEED) as run:
        cut = run.url("cut.bin", plan.of(GIB, 20 * MIB), cut=plan.of(700 * MIB, 15 * MIB))
        run.service.reset_peak()
        job = await run.job([run.url("a.bin", 9 * MIB), cut, run.url("b.bin", plan.of(30 * MIB))])
        peak = run.service.peak_bytes() / MIB
        names = (await run.api.archive(str(job.status["jobId"]))).namelist()
        print(f"cut after 700 MiB: {job.status['status']}, entries {names}, peak {peak:.0f} MiB, {job.wall_s:.1f} s")
        return {"peak_mib": peak, "wall_s": job.wall_s, "entries": float(len(names))}


async def latency(plan: Plan) -> dict[str, float]:
    """200 small files from a source that answers after 100 ms each."""
    async with bench(*plan.settings) as run:
        count = plan.of(200, 8)
        job = await run.job(run.urls(count, 10240, delay_s=0.1))
        print(f"{count} files, 100 ms each: {job.wall_s:.2f} s")
        return {"wall_s": job.wall_s}


FIGURES = (memory, broken, latency)
