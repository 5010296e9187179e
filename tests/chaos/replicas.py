"""A replica as its operator sees it: a process group, a port, a log and its open files."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from contextlib import suppress
from pathlib import Path

import aiohttp

import tests

REPOSITORY = Path(tests.__file__).parent.parent
START_S = 60.0
STOP_S = 30.0
FAULT_CHARACTERS = 600
_OVER = frozenset({"job.completed", "job.failed", "job.too_late", "job.stopped", "job.settle_failed"})
# What the service logs only when something is wrong with the service itself.
FAULTS = frozenset({"service.died", "job.crashed", "stream.failed", "http.internal", "archive.verify_failed"})


class ReplicaLog:
    """Reads along in a replica's log: which jobs it is at, and what went wrong."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.running: set[str] = set()
        self.faults: list[str] = []
        self._place = 0

    def read(self) -> None:
        """Take in the lines written since the last call."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._place)
            for raw in file:
                if not raw.endswith(b"\n"):
                    break
                self._place += len(raw)
                self._line(raw.decode(errors="replace").strip())

    def forget(self) -> None:
        """The process has ended, and what it was at with it."""
        self.running.clear()

    def _line(self, line: str) -> None:
        if not line.startswith("{"):
            if "Traceback" in line or "never retrieved" in line or "never awaited" in line:
                self.faults.append(f"on stderr: {line[:200]}")
            return
        with suppress(json.JSONDecodeError):
            self._event(json.loads(line), line)

    def _event(self, entry: dict[str, object], line: str) -> None:
        event, job = str(entry.get("event", "")), str(entry.get("job_id", ""))
        if event == "job.started":
            self.running.add(job)
        elif event in _OVER:
            self.running.discard(job)
        level = entry.get("level")
        if event in FAULTS or (level in ("error", "critical") and event != "job.settle_failed"):
            # The end of a traceback says what it was.
            self.faults.append(f"{event} {job} {str(entry.get('exception', line))[-FAULT_CHARACTERS:]}")


class Replica:
    """One replica on a port that stays the same over its lives."""

    def __init__(self, number: int, port: int, folder: Path, sets: dict[str, str]) -> None:
        self.number = number
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.cache = folder / "cache"
        self.cache.mkdir(parents=True)
        self.log = ReplicaLog(folder / "log.jsonl")
        self.ready = False
        self.lives = 0
        self.busy = asyncio.Lock()  # held by whoever breaks it
        self._folder = folder
        self._sets = sets | {"server.port": str(port), "cache.dir": str(self.cache)}
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        """The running process."""
        assert self._process is not None, "start it first"
        return self._process

    def running(self) -> tuple[str, ...]:
        """The jobs it is working on, as far as its log tells."""
        self.log.read()
        return tuple(self.log.running)

    async def start(self) -> None:
        """Run it; returns when it is ready. AssertionError when it never is."""
        flags = [part for key, value in self._sets.items() for part in ("--set", f"{key}={value}")]
        with self.log.path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "downloader",
                "serve",
                *flags,
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=log,
                cwd=self._folder,
                env=os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])},
                start_new_session=True,
            )
        self.lives += 1
        async with asyncio.timeout(START_S):
            while not await self._is_ready():
                assert self.process.returncode is None, f"replica {self.number} did not start: {self._tail()}"
                await asyncio.sleep(0.1)
        self.ready = True

    async def kill(self) -> tuple[str, ...]:
        """SIGKILL to the whole group; gives the jobs it was working on."""
        self.ready = False
        self.signal(signal.SIGKILL)
        await self.process.wait()
        jobs = self.running()
        self.log.forget()
        return jobs

    async def terminate(self) -> int | None:
        """SIGTERM; gives the exit code, None when it did not end in time and had to be killed."""
        self.ready = False
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_S):
                code = await self.process.wait()
        except TimeoutError:
            await self.kill()
            return None
        self.log.read()
        self.log.forget()
        return code

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def has_died(self) -> bool:
        """Whether it ended without being told to."""
        return self.ready and self.process.returncode is not None

    def _tail(self) -> str:
        return self.log.path.read_text(errors="replace")[-2000:]

    async def _is_ready(self) -> bool:
        timeout = aiohttp.ClientTimeout(total=2)
        with suppress(aiohttp.ClientError, TimeoutError):
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"{self.url}/readyz") as response,
            ):
                return response.status == 200
        return False


def open_files(pid: int, pooled_port: int) -> list[str]:
    """What a process has open, without its connections to `pooled_port`, which a pool keeps."""
    pooled = _sockets_to(pooled_port)
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            target = str(entry.readlink())
            if target not in pooled:
                found.append(target)
    return found


def _sockets_to(port: int) -> set[str]:
    """The sockets of this machine that are connected to `port`, as /proc/*/fd names them."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return {f"socket:[{row[9]}]" for row in rows if int(row[2].rpartition(":")[2], 16) == port}
