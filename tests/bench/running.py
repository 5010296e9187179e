"""What every figure runs on: stores, a source of files, and the service, each a process of its own."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.api import Api
from tests.bench.place import BUCKET, Place
from tests.bench.process import memory_bytes, process
from tests.servers import start_weed

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
SINK, WEED = "sink", "weed"
STORES = {SINK: "discarding sink", WEED: "SeaweedFS"}
DONE_S = 3600.0
# Nothing that is measured here is to be held up by what protects a service from its callers.
NO_LIMITS = (
    *("limits.initiate_per_minute=10000000", "limits.posts_per_minute=10000000", "limits.reads_per_minute=10000000"),
    *("limits.opens_per_minute=10000000", "limits.changes_per_minute=10000000", "limits.streams=1000000"),
    *("limits.queued_jobs=10000000", "limits.address_initiate_per_minute=0", "limits.address_calls_per_minute=0"),
    *("limits.address_streams=0", "jobs.max_files=100000"),
)


@contextmanager
def store(kind: str = SINK) -> Iterator[Place]:
    """A store that discards, or a real one."""
    if kind == SINK:
        with process("tests.bench.sink") as (_, port):
            yield Place(f"http://127.0.0.1:{port}")
        return
    with start_weed() as weed:
        place = Place(weed.endpoint_url, weed.access_key_id, weed.secret_access_key)
        place.client().create_bucket(Bucket=BUCKET)
        yield place


@contextmanager
def origin() -> Iterator[str]:
    """A source that makes its bytes as it sends them; gives its address."""
    with process("tests.bench.origin") as (_, port):
        yield f"http://127.0.0.1:{port}"


@dataclass(frozen=True, slots=True)
class Service:
    """A process of the service, seen from outside."""

    url: str
    pid: int

    def cpu_s(self) -> float:
        """CPU seconds so far, the system's for it included."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        """Memory that is resident now."""
        return memory_bytes(self.pid, "VmRSS")

    def peak_bytes(self) -> int:
        """The most memory that was resident since `reset_peak`, or since the start."""
        return memory_bytes(self.pid, "VmHWM")

    def reset_peak(self) -> None:
        """Start the peak anew from what is resident now (Linux)."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")


@contextmanager
def service(place: Place, *settings: str, redis_url: str = "") -> Iterator[Service]:
    """The service on a store; with a Valkey of its own, unless one is named. What is set last counts."""
    with ExitStack() as stack:
        if redis_url:
            remembering = f"redis.url={redis_url}"
        else:
            remembering = f"embedded.data_dir={stack.enter_context(tempfile.TemporaryDirectory())}"
        options = [
            *("sources.allow_networks=127.0.0.0/8", "log.level=warning", "log.format=json", remembering),
            *(*NO_LIMITS, *place.settings(), *settings),
        ]
        words = [word for option in options for word in ("--set", option)]
        child, line = stack.enter_context(process("downloader", "serve", "--port", "0", *words))
        found = re.search(r"http://[\w.:]+", line)
        if found is None:
            raise RuntimeError("the service did not start")
        yield Service(found[0], child.pid)


@dataclass(frozen=True, slots=True)
class Job:
    """A job that ran to its end: its status, and the seconds of wall and of CPU that it took."""

    status: dict[str, Any]
    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Bench:
    """A service, a store, a source, and a client of the service."""

    api: Api
    service: Service
    origin: str

    def url(self, name: str, size: int, **more: object) -> str:
        """Address of a file of `size` bytes; `more` are the source's manners (`origin.py`)."""
        query = "&".join([f"size={size}", *(f"{key}={value}" for key, value in more.items())])
        return f"{self.origin}/file/{name}?{query}"

    def urls(self, count: int, size: int, **more: object) -> list[str]:
        """So many files of `size` bytes."""
        return [self.url(f"{number}.bin", size, **more) for number in range(count)]

    def resident_bytes(self) -> int:
        """What the service has in memory now."""
        return self.service.resident_bytes()

    async def job(self, files: Sequence[Any], **more: Any) -> Job:
        """Run a job to its end."""
        cpu, begun = self.service.cpu_s(), time.perf_counter()
        status = await self.api.finished(await self.api.submit(list(files), **more), within_s=DONE_S)
        return Job(status, time.perf_counter() - begun, self.service.cpu_s() - cpu)


@asynccontextmanager
async def bench(*settings: str, kind: str = SINK) -> AsyncIterator[Bench]:
    """All of it."""
    with store(kind) as place, origin() as source, service(place, *settings) as ours:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            yield Bench(Api(session, ours.url), ours, source)
