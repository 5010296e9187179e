"""The figures of the main job: `python -m tests.bench [memory|broken|latency|initiate|queue|takeover|resume ...]`.

Starts the service and a source, each a process of its own, and prints one line per figure.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import uvloop

from tests.api import Api
from tests.bench import life
from tests.bench.process import process

MIB = 1024 * 1024
MANY_JOBS = ("limits.initiate_per_minute=1000000", "limits.posts_per_minute=1000000")
GIB = 1024 * MIB


@dataclass(frozen=True)
class Bench:
    """What is running."""

    api: Api
    origin: str
    pid: int

    def url(self, name: str, size: int, **more: object) -> str:
        """Address of a file of `size` bytes."""
        query = "&".join([f"size={size}", *(f"{key}={value}" for key, value in more.items())])
        return f"{self.origin}/file/{name}?{query}"

    def peak_mib(self) -> float:
        """Highest resident memory of the service process so far, in MiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024

    def reset_peak(self) -> None:
        """Start the peak anew from what is resident now (Linux)."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def cpu_s(self) -> float:
        """CPU seconds of the service process so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def job(self, files: Sequence[object], **more: object) -> tuple[dict[str, object], float, float]:
        """Run a job to its end; its status, seconds of wall and of CPU."""
        cpu, start = self.cpu_s(), time.perf_counter()
        status = await self.api.finished(await self.api.submit(list(files), **more), within_s=1800)
        return status, time.perf_counter() - start, self.cpu_s() - cpu


@asynccontextmanager
async def bench(folder: str, *settings: str) -> AsyncIterator[Bench]:
    """The service with its embedded parts, and a source."""
    options = ["sources.allow_networks=127.0.0.0/8", "log.format=json", f"embedded.data_dir={folder}", *settings]
    with process("tests.bench.origin") as (_, port):
        arguments = [word for option in options for word in ("--set", option)]
        with process("downloader", "serve", "--port", "0", *arguments) as (service, line):
            url = re.findall(r"http://[\w.:]+", line)[0]
            async with aiohttp.ClientSession() as session:
                yield Bench(Api(session, url), f"http://127.0.0.1:{port}", service.pid)


async def memory(folder: str, gib: list[float]) -> None:
    """Peak memory does not depend on sizes: one big file without disk, and 5,000 small ones."""
    async with bench(folder, "cache.disk_bytes=0") as run:
        for size in gib:
            run.reset_peak()
            status, wall, cpu = await run.job([run.url("big.bin", int(size * GIB))])
            print(f"one file of {size:g} GiB, no disk: {status['status']}, peak {run.peak_mib():.0f} MiB, ", end="")
            print(f"{wall:.1f} s, CPU {cpu / size / 1.0737:.2f} s/GB")
        run.reset_peak()
        status, wall, cpu = await run.job([run.url(f"{n}.bin", 10240) for n in range(5000)])
        print(f"5,000 files of 10 KiB: {status['status']}, peak {run.peak_mib():.0f} MiB, {wall:.1f} s, ", end="")
        print(f"CPU {cpu / 5000 * 1000:.2f} ms per file")


async def broken(folder: str) -> None:
    """A source that fails for good after 700 MiB leaves an archive of the others."""
    async with bench(folder, "cache.disk_bytes=0", "sources.attempts=1") as run:
        files = [run.url("a.bin", 9 * MIB), run.url("cut.bin", GIB, cut=700 * MIB), run.url("b.bin", 30 * MIB)]
        status, wall, _ = await run.job(files)
        names = (await run.api.archive(str(status["jobId"]))).namelist()
        print(f"cut after 700 MiB: {status['status']}, entries {names}, peak {run.peak_mib():.0f} MiB, {wall:.1f} s")


async def latency(folder: str) -> None:
    """200 files from a source that answers after 100 ms each."""
    async with bench(folder) as run:
        _, wall, _ = await run.job([run.url(f"{n}.bin", 10240, delay_s=0.1) for n in range(200)])
        print(f"200 files, 100 ms each: {wall:.2f} s")


async def initiate(folder: str) -> None:
    """Answers to 100-file requests while a job of documents runs, then while one takes all it can of the processors."""
    async with bench(folder, *MANY_JOBS, "limits.running_jobs=1") as run:
        documents = [run.url(f"{n}.bin", 200 * 1024, delay_s=0.1) for n in range(2000)]
        await measure_initiate(run, "a job of documents", documents)
        await measure_initiate(run, "a job at full speed", [run.url(f"{n}.bin", 64 * MIB) for n in range(128)])


async def measure_initiate(run: Bench, job: str, files: Sequence[object]) -> None:
    """Post jobs beside a running one, which is cancelled afterwards together with them."""
    running = await run.api.submit(list(files))
    times, posted = [], [running]
    for n in range(400):
        start = time.perf_counter()
        posted.append(await run.api.submit([run.url(f"{n}-{k}.bin", 10) for k in range(100)]))
        times.append((time.perf_counter() - start) * 1000)
        await asyncio.sleep(0.02)
    state = (await run.api.status(running))["status"]
    cuts = statistics.quantiles(times, n=100)
    print(f"initiate, 100 files, {job} {state}: p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms, most {max(times):.1f} ms")
    for job_id in reversed(posted):
        await run.api.call("DELETE", f"/v1/download/{job_id}")


async def _figure(measure: Callable[[], Awaitable[None]]) -> None:
    await measure()


def main() -> None:
    """Run the measurements that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", nargs="*", default=["memory", "broken", "latency", "initiate", *life.FIGURES])
    parser.add_argument("--gib", default="1,4", help="sizes of the big file")
    options = parser.parse_args()
    for name in options.figures:
        with tempfile.TemporaryDirectory() as folder:
            if name == "memory":
                asyncio.run(memory(folder, [float(size) for size in options.gib.split(",")]))
            elif name in life.FIGURES:
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as the service itself
                    runner.run(_figure(life.FIGURES[name]))
            else:
                asyncio.run({"broken": broken, "latency": latency, "initiate": initiate}[name](folder))


if __name__ == "__main__":
    main()
