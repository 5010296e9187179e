"""The neighbours, the services and a job as a caller sees it.

Everything lives on one loop in a thread of its own, so that services and neighbours can be shared by the table and by
tests that each have a loop. A service is the program itself, `downloader serve`, in a process; it is started when a
case first needs it.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import re
import signal
import sys
import threading
import zipfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar, cast

import aiohttp

from tests.api import TERMINAL, Api, Frame
from tests.fakes3 import Call, FakeS3, Fault
from tests.field.certificates import Authority, authority
from tests.field.host import HOST, OTHER_HOST
from tests.field.place import store_with
from tests.field.throttle import Throttle, throttled
from tests.s3faults import Relay, relaying
from tests.servers import S3, Redis
from tests.test_cli import as_flag
from tests.ziplint import lint

MIB = 1024 * 1024
IDLE_S = 2.0
KINDS_OF_CALLS = ("initiate", "posts", "reads", "changes", "opens")
MANY_CALLS = {f"{kind}_per_minute": 1_000_000 for kind in KINDS_OF_CALLS}
SLOW_IDLE_S = 1.0  # before the slow store
SLOW = 10 * MIB  # bytes a second
READY = re.compile(r"listening on (http://127\.0\.0\.1:\d+)")
_ROOT = Path(__file__).parents[2]
_MISSING = "MISSING-FILES.txt"

# Proxies that are not there: whoever asks them gets nothing. The store and Redis lie on 127.0.0.1.
_NO_WAY_OUT = dict.fromkeys(
    ("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9"
)
_NO_WAY_OUT |= {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}

T = TypeVar("T")
Settings = dict[str, dict[str, Any]]


@dataclass(slots=True)
class Running:
    """A running service: how to call it, its process, its folder, and what it has logged."""

    api: Api
    process: Process
    folder: Path

    @property
    def log(self) -> str:
        """All it has logged so far."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    @property
    def leftovers(self) -> list[str]:
        """Files in its cache folder, those without a name too that it holds open."""
        folder = self.folder / "cache"
        named = [path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
        held = []
        for link in Path(f"/proc/{self.process.pid}/fd").glob("*"):
            with suppress(OSError):
                held.append(str(link.readlink()))
        return named + [each for each in held if each.startswith(str(folder)) and not each.endswith(".lock")]


@dataclass(slots=True)
class Finished:
    """A job after its end: everything that a caller can see of it."""

    job_id: str
    status: dict[str, Any]
    files: list[dict[str, Any]]
    frames: list[Frame]
    raw: bytes
    archive: bytes | None
    zip: zipfile.ZipFile | None

    def data(self, index: int) -> bytes | None:
        """A file's bytes in the archive."""
        file = self.files[index]
        return self.zip.read(file["name"]) if self.zip is not None and file["status"] == "done" else None

    def code(self, index: int) -> str:
        """`done`, or a file's code."""
        file = self.files[index]
        return "done" if file["status"] == "done" else str(file["error"]["code"])

    def codes(self) -> str:
        """All files' codes in order."""
        return ", ".join(self.code(index) for index in range(len(self.files)))

    @property
    def names(self) -> list[str]:
        """The names in the archive, without the service's own report."""
        return [] if self.zip is None else [name for name in self.zip.namelist() if name != _MISSING]

    def complaints(self) -> list[str]:
        """What is wrong with the job whatever its files were: counters, events, archive."""
        return [*_counter_faults(self), *event_faults(self.frames), *_archive_faults(self)]


def _counter_faults(done: Finished) -> Iterator[str]:
    status = done.status
    if status["status"] not in TERMINAL:
        yield f"status {status['status']} after the end"
    if status["status"] == "completed" and status["filesCompleted"] + status["filesFailed"] != status["totalFiles"]:
        yield f"{status['filesCompleted']} + {status['filesFailed']} files of {status['totalFiles']}"
    if (status["status"] == "completed") != (status["progress"] == 100):
        yield f"progress {status['progress']} and {status['status']}"
    if (status["status"] == "completed") != (status["downloadUrl"] is not None):
        yield f"{status['status']} and the link is {status['downloadUrl']}"


def event_faults(frames: list[Frame]) -> Iterator[str]:
    """Progress within bounds and never falling, 100 exactly at the end, one terminal event and that the last."""
    shown = [frame for frame in frames if isinstance(frame.data, dict) and "progress" in frame.data]
    best: tuple[int, int] = (0, 0)
    for frame in shown:
        data = cast("dict[str, Any]", frame.data)
        progress, attempt = data["progress"], data["attempt"]
        if not (isinstance(progress, int) and 0 <= progress <= 100):
            yield f"progress {progress!r}"
        elif (attempt, progress) < best:
            yield f"progress fell from {best[1]} to {progress}"
        else:
            best = (attempt, progress)
        if (progress == 100) != (data["status"] == "completed"):
            yield f"progress {progress} at {data['status']}"
        if data["filesCompleted"] + data["filesFailed"] > data["totalFiles"]:
            yield "more files than there are"
    ends = [frame.event for frame in frames if frame.event in ("complete", "error")]
    if len(ends) != 1 or frames[-1].event != ends[0]:
        yield f"terminal events {ends}, last {frames[-1].event if frames else None}"


def _archive_faults(done: Finished) -> Iterator[str]:
    if done.archive is None or done.zip is None:
        return
    try:
        lint(done.archive)
    except AssertionError as error:
        yield f"archive: {error}"
    names = done.zip.namelist()
    if len({name.casefold() for name in names}) != len(names):
        yield "a name twice"
    good = {file["name"]: file for file in done.files if file["status"] == "done"}
    if set(names) - {_MISSING, "manifest.json", "SHA256SUMS"} != set(good):
        yield "the archive holds other files than the status says"
        return
    for name, file in good.items():
        data = done.zip.read(name)
        if (len(data), hashlib.sha256(data).hexdigest()) != (file["size"], file["sha256"]):
            yield f"{name} is not what the status says"
    if (_MISSING in names) != any(file["status"] == "failed" for file in done.files):
        yield "the report of what is missing"


class Bench:
    """What all cases share; made by `bench()`."""

    def __init__(self, stack: AsyncExitStack, folder: Path, valkey: Redis, s3: S3) -> None:
        self.folder = folder
        self.valkey = valkey
        self.s3 = s3
        self.store: FakeS3 | None = None
        self.slow_store: FakeS3 | None = None
        self.faults: dict[str, Fault] = {}  # of the store, by the job that they are meant for
        self.relay: Relay | None = None
        self.throttle: Throttle | None = None
        self.one_job: str | None = None  # one that is completed, for calls about it
        self._stack = stack
        self._locks: dict[str, asyncio.Lock] = {}
        self._running: dict[str, Running] = {}
        self._made: dict[str, Any] = {}
        self.session: aiohttp.ClientSession = cast("aiohttp.ClientSession", None)

    async def open(self) -> None:
        """What is always needed."""
        self.session = await self._stack.enter_async_context(aiohttp.ClientSession())

    async def authority(self) -> Authority:
        """Throw-away certificates; the services trust their root."""
        async with self.lock("authority"):
            if "authority" not in self._made:
                self._made["authority"] = await asyncio.to_thread(authority, self.folder)
        return cast("Authority", self._made["authority"])

    async def service(self, name: str = "main") -> Running:
        """The service of this name, started if it is not yet there."""
        async with self.lock(name):
            if name not in self._running:
                self._running[name] = await self._stack.enter_async_context(self.serving(name))
        return self._running[name]

    @asynccontextmanager
    async def serving(self, name: str, settings: Settings | None = None, **environment: str) -> AsyncIterator[Running]:
        """A service of the caller's own, `name` being its prefix in Redis and in the bucket."""
        folder = self.folder / f"{name}-{os.urandom(4).hex()}"
        (folder / "cache").mkdir(parents=True)
        changes = settings if settings is not None else await self._changes(name)
        trusted = str((await self.authority()).root)
        environment = {"SSL_CERT_FILE": trusted} | _NO_WAY_OUT | environment
        process, base = await _start(self._settings(name, folder, changes), folder, environment)
        service = Running(Api(self.session, base), process, folder)
        try:
            yield service
        finally:
            if process.returncode is None:
                process.kill()
            elif process.returncode not in (-signal.SIGKILL, -signal.SIGTERM, 0):
                print(f"the service {name} ended with {process.returncode}:\n{service.log[-5000:]}", file=sys.stderr)
            await process.wait()

    async def _changes(self, name: str) -> Settings:
        """What sets this service apart."""
        if name == "main":
            self.relay = await self._stack.enter_async_context(relaying(self.s3.endpoint_url))
            return {"storage": {"public_endpoint_url": self.relay.endpoint_url.replace("127.0.0.1", "localhost")}}
        if name == "store":
            self.store = await self._stack.enter_async_context(store_with(self._fault))
            limits = {"max_job_bytes": 64 * MIB, "attempts": 1}
            return {"storage": self.store.settings().model_dump() | {"part_bytes": 5 * MIB}, "jobs": limits}
        if name in ("slow", "slow-diskless"):
            return await self._slow(name)
        raise KeyError(name)

    async def _slow(self, name: str) -> Settings:
        """Little memory, and disk or none, before a store that is slower than its sources."""
        async with self.lock("the slow store"):
            if self.slow_store is None:
                self.slow_store = await self._stack.enter_async_context(store_with(lambda call: None))
                self.throttle = await self._stack.enter_async_context(throttled(self.slow_store.endpoint_url, SLOW))
        assert self.throttle is not None
        place = {"endpoint_url": f"http://127.0.0.1:{self.throttle.port}", "part_bytes": 5 * MIB}
        changes: Settings = {
            "storage": self.slow_store.settings().model_dump() | place,
            "memory": {"budget_bytes": 24 * MIB},
            "sources": {"idle_timeout_s": SLOW_IDLE_S},
        }
        return changes if name == "slow" else changes | {"cache": {"disk_bytes": 0}}

    def _fault(self, call: Call) -> int | str | None:
        """What becomes of a call to the store; its key tells which job it is for."""
        fault = next((fault for job_id, fault in self.faults.items() if job_id in call.key), None)
        return None if fault is None else fault(call)

    def _settings(self, name: str, folder: Path, changes: Settings) -> Settings:
        base: Settings = {
            "server": {"port": 0, "drain_s": 0},
            "redis": {"url": self.valkey.url, "prefix": f"field-{folder.name}"},
            "storage": self.s3.settings(prefix=f"{folder.name}/").model_dump() | {"part_bytes": 5 * MIB},
            "worker": {"concurrency": 16, "files_in_flight": 24, "sweep_s": 0.5, "reap_s": 0.5},
            "sources": {
                "allow_networks": [f"{HOST}/32", f"{OTHER_HOST}/32", "fd00:dead::/32"],
                "attempts": 3,
                "per_host": 500,
                "connect_timeout_s": 3,
                "idle_timeout_s": IDLE_S,
            },
            "memory": {"budget_bytes": 640 * MIB},
            "cache": {"dir": str(folder / "cache")},
            "jobs": {"max_job_bytes": 1024 * MIB, "max_file_bytes": 64 * MIB},
            "limits": MANY_CALLS | {"running_jobs": 1000},
            "log": {"level": "debug", "format": "json"},
        }
        return {key: base.get(key, {}) | changes.get(key, {}) for key in base | changes}

    def lock(self, name: str) -> asyncio.Lock:
        """One of this name for all."""
        return self._locks.setdefault(name, asyncio.Lock())

    async def job(
        self, files: list[Any], *, service: Running | None = None, within_s: float = 60, **more: Any
    ) -> Finished:
        """Submit a job, follow it to its end by its stream, and take everything that can be seen of it."""
        api = (service or await self.service()).api
        job_id = await api.submit(files, **more)
        return await finished(api, job_id, within_s=within_s)


async def finished(api: Api, job_id: str, *, within_s: float = 60) -> Finished:
    """Follow a job to its end."""
    seen: list[bytes] = []
    async with asyncio.timeout(within_s):
        frames = await api.events(job_id, seen=seen)
        status = await api.status(job_id)
        files = status["files"] if "files" in status else await _paged(api, job_id)
        data = await api.archive_bytes(job_id) if status["status"] == "completed" else None
    opened = None if data is None else await asyncio.to_thread(_opened, data)
    return Finished(job_id, status, files, frames, b"".join(seen), data, opened)


def _opened(data: bytes) -> zipfile.ZipFile:
    archive = zipfile.ZipFile(io.BytesIO(data))
    assert archive.testzip() is None, "a CRC is wrong"
    return archive


async def _paged(api: Api, job_id: str) -> list[dict[str, Any]]:
    files: list[dict[str, Any]] = []
    after = ""
    while True:
        answer = await api.call("GET", f"/v1/download/{job_id}/files?limit=200{after}")
        files += answer.body["files"]
        if answer.body.get("next") is None:
            return files
        after = f"&after={answer.body['next']}"


async def _start(settings: Settings, folder: Path, environment: dict[str, str]) -> tuple[Process, str]:
    """Run `downloader serve` and wait for its line; its log goes to a file."""
    flags = [
        f"--set={section}.{key}={as_flag(value)}" for section, keys in settings.items() for key, value in keys.items()
    ]
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("DOWNLOADER_", "AWS_"))}
    path = os.pathsep.join((str(Path(__file__).with_name("system")), str(_ROOT)))
    with (folder / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "downloader", "serve", *flags,
            cwd=folder, env=ours | {"PYTHONPATH": path} | environment, stdin=DEVNULL, stdout=PIPE, stderr=log,
        )  # fmt: skip
    async with asyncio.timeout(60):
        line = (await cast("asyncio.StreamReader", process.stdout).readline()).decode()
    found = READY.search(line)
    assert found, f"the service did not start: {line} {(folder / 'log').read_text(encoding='utf-8')[-2000:]}"
    return process, found[1]


class Loop:
    """A loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="field", daemon=True)
        self.thread.start()

    def run(self, work: Coroutine[Any, Any, T], limit_s: float = 600) -> T:
        """Run a coroutine there and wait for its value."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(limit_s)

    def close(self) -> None:
        """End the loop and its thread; sources that still wait for a caller are cut off."""
        self.run(_cut_off())
        self.run(self.loop.shutdown_default_executor())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


async def _cut_off() -> None:
    while left := asyncio.all_tasks() - {asyncio.current_task()}:  # those that end may begin others
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=1)


@contextmanager
def bench(valkey: Redis, s3: S3) -> Iterator[tuple[Bench, Loop]]:
    """A bench on a loop of its own; all its services end with the block."""
    loop, stack = Loop(), AsyncExitStack()
    with TemporaryDirectory(prefix="field-", ignore_cleanup_errors=True) as folder:
        made = Bench(stack, Path(folder), valkey, s3)
        try:
            loop.run(made.open())
            yield made, loop
        finally:
            loop.run(stack.aclose())
            loop.close()


def as_json(value: Any) -> str:
    """For looking through."""
    return json.dumps(value, ensure_ascii=False)
