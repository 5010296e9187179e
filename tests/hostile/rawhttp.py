"""Thousands of broken, strange and hostile HTTP requests over plain sockets at a real service, one process of its own.

Every answer has to be HTTP below 500, every refusal a problem; no connection may be left without an answer or an end,
nothing may be logged as an error, the service stays quick, and its memory stays where it was.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from downloader.web.problems import TABLE
from tests.api import Api
from tests.hostile.heads import Case, Forms
from tests.servers import S3, Redis, resident_bytes, start_valkey, start_weed
from tests.waiting import wait_until

AT_ONCE = 16
QUIET_S = 0.5  # without an answer for so long, a connection is set aside and looked at in the end
LIVE_S = 1.0
BETWEEN_LOOKS = 100
WARM_UP = 500
GROWTH_BYTES = 40 * 1024 * 1024
# A body may take 60 s, what is left of one that nobody wants 10 s, an idle client 75 s.
ENDED_S = 95.0
MANY = 10_000_000
STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) [ -~]*\r\n")


@dataclass(slots=True)
class HttpFigures:
    """How much was sent and answered, and what went wrong: `faults` has to be empty."""

    cases: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    closed: int = 0
    set_aside: int = 0
    slowest_live_s: float = 0.0
    growth_bytes: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        statuses = ", ".join(f"{count} x {status}" for status, count in sorted(self.statuses.items()))
        return (
            f"http: {self.cases} cases: {self.statuses.total()} answers ({statuses}), "
            f"{self.closed} closed without one, {self.set_aside} left waiting and ended in time\n"
            f"  /livez within {self.slowest_live_s * 1000:.0f} ms, memory {self.growth_bytes / 2**20:+.1f} MiB"
        )


@dataclass(frozen=True)
class Target:
    """The service that is shot at."""

    port: int
    pid: int
    log: Path

    @property
    def base(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"


def try_http(count: int, seed: int = 1) -> HttpFigures:
    """With neighbours of its own; connections that wait are waited for."""
    with start_valkey() as valkey, start_weed() as s3:
        return asyncio.run(try_http_with(valkey, s3, count, seed, to_the_end=True))


async def try_http_with(valkey: Redis, s3: S3, count: int, seed: int = 1, *, to_the_end: bool) -> HttpFigures:
    """So many cases at a service of its own; `to_the_end` also waits until all clients that wait have been ended."""
    figures = HttpFigures()
    async with _service(valkey, s3) as target, aiohttp.ClientSession() as session:
        api = Api(session, target.base)
        ids = [await api.submit(["http://127.0.0.1:1/a"]) for _ in range(2)]
        await api.finished(ids[0])
        forms = Forms(seed, f"127.0.0.1:{target.port}".encode(), tuple(one.encode() for one in ids))
        await _Fuzz(target, api, figures).run(forms, count, to_the_end=to_the_end)
    figures.faults += _log_faults(target.log.read_text(encoding="utf-8"))
    target.log.unlink()
    return figures


@asynccontextmanager
async def _service(valkey: Redis, s3: S3) -> AsyncIterator[Target]:
    """`downloader serve`, its log in a file; limits are high, for refusals by them would hide what lies behind."""
    storage = s3.settings(prefix=f"rawhttp-{time.time_ns()}/")
    limits = ("initiate", "reads", "changes", "posts", "opens", "address_initiate", "address_calls")
    flags = [f"limits.{name}_per_minute={MANY}" for name in limits]
    flags += [f"redis.url={valkey.url}", f"redis.prefix=rawhttp-{time.time_ns()}", "server.port=0", "server.drain_s=0"]
    flags += [
        f"storage.{name}={getattr(storage, name)}" for name in ("endpoint_url", "access_key_id", "bucket", "prefix")
    ]
    flags += [f"storage.secret_access_key={storage.secret_access_key.get_secret_value()}", "log.format=json"]
    with tempfile.NamedTemporaryFile(suffix=".log", delete=False) as log:
        command = [sys.executable, "-m", "downloader", "serve", *(f"--set={flag}" for flag in flags)]
        root = Path(__file__).parents[2]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=log, cwd=root)
        try:
            assert process.stdout is not None
            ready = (await process.stdout.readline()).decode()
            assert "listening on" in ready, Path(log.name).read_text(encoding="utf-8")
            yield Target(int(ready.rpartition(":")[2]), process.pid, Path(log.name))
        finally:
            process.terminate()
            await process.wait()


def _log_faults(text: str) -> list[str]:
    """Lines that a healthy service does not write."""
    faults = []
    for line in text.splitlines():
        try:
            entry: dict[str, Any] = json.loads(line)
        except ValueError:
            entry = {"level": "none"}
        if entry.get("level") not in ("info", "debug", "warning") or "Traceback" in line:
            faults.append(f"log: {line[-1500:]}")
    return faults


@dataclass
class _Fuzz:
    target: Target
    api: Api
    figures: HttpFigures
    _waiting: list[tuple[Case, asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)

    async def run(self, forms: Forms, count: int, *, to_the_end: bool) -> None:
        """Send everything, look at the service now and then, wait for the rest."""
        before = resident_bytes(self.target.pid)
        cases = forms.cases(count)
        for number in range(-(-count // BETWEEN_LOOKS)):
            batch = itertools.islice(cases, BETWEEN_LOOKS)
            gate = asyncio.Semaphore(AT_ONCE)
            async with asyncio.TaskGroup() as group:
                for case in batch:
                    group.create_task(self._one(case, gate))
            await self._look()
            if number * BETWEEN_LOOKS < WARM_UP:
                before = resident_bytes(self.target.pid)
        self.figures.set_aside = len(self._waiting)
        await self._end(to_the_end=to_the_end)
        self.figures.growth_bytes = resident_bytes(self.target.pid) - before
        if self.figures.growth_bytes > GROWTH_BYTES:
            self.figures.faults.append(f"memory grew by {self.figures.growth_bytes} bytes")

    async def _one(self, case: Case, gate: asyncio.Semaphore) -> None:
        async with gate:
            self.figures.cases += 1
            reader, writer = await asyncio.open_connection("127.0.0.1", self.target.port)
            for piece in case.pieces:
                writer.write(piece)
                with suppress(ConnectionError, TimeoutError):
                    await asyncio.wait_for(writer.drain(), QUIET_S)  # it may well not be read
                await asyncio.sleep(0)
            data, closed = await _read(reader, QUIET_S)
        self._judge(case, data)
        if closed:
            self.figures.closed += not data
            writer.transport.abort()
        elif data:
            writer.transport.abort()
        else:
            self._waiting.append((case, reader, writer))

    def _judge(self, case: Case, data: bytes) -> None:
        for fault in judged(data, self.figures.statuses):
            self.figures.faults.append(f"{case.what}: {fault}: {b'|'.join(case.pieces)[:300]!r}")

    async def _look(self) -> None:
        begun = time.monotonic()
        answer = await self.api.call("GET", "/livez")
        took_s = time.monotonic() - begun
        self.figures.slowest_live_s = max(self.figures.slowest_live_s, took_s)
        if answer.status != 200 or took_s > LIVE_S:
            self.figures.faults.append(f"/livez: {answer.status} after {took_s:.1f} s")

    async def _end(self, *, to_the_end: bool) -> None:
        """Each client that waits for an answer gets one, or is left; here nobody waits for ever."""
        deadline = asyncio.get_running_loop().time() + (ENDED_S if to_the_end else 0)
        for case, reader, writer in self._waiting:
            if to_the_end:
                left_s = deadline - asyncio.get_running_loop().time()
                data, closed = await _read(reader, max(left_s, 0.1))
                self._judge(case, data)
                if not closed and not data:
                    self.figures.faults.append(f"{case.what}: hangs: {b'|'.join(case.pieces)[:300]!r}")
            writer.transport.abort()
        await wait_until(self._is_calm)

    async def _is_calm(self) -> bool:
        return (await self.api.call("GET", "/livez")).status == 200


async def _read(reader: asyncio.StreamReader, quiet_s: float) -> tuple[bytes, bool]:
    """What comes until nothing has come for a while, and whether the connection was ended."""
    data = bytearray()
    while True:
        try:
            # Once an answer is there, only its rest and further ones are waited for.
            piece = await asyncio.wait_for(reader.read(1 << 20), 0.05 if data else quiet_s)
        except TimeoutError:
            return bytes(data), False
        except ConnectionError:
            return bytes(data), True
        if not piece:
            return bytes(data), True
        data += piece


def judged(data: bytes, statuses: Counter[int]) -> list[str]:
    """What is wrong with the answers that came over one connection, one after the other."""
    faults: list[str] = []
    while data:
        found = STATUS.match(data)
        head, blank, rest = data.partition(b"\r\n\r\n")
        if found is None or not blank:
            return [*faults, f"no HTTP: {data[:80]!r}"]
        status = int(found[1])
        fields = [line.partition(b":") for line in head.lower().split(b"\r\n")[1:]]
        headers = {name: value.strip() for name, _, value in fields}
        if status == 100:
            data = rest
            continue
        statuses[status] += 1
        if status >= 500:
            faults.append(f"status {status}")
        if status not in (204, 304) and b"content-length" not in headers:
            return faults  # an event stream; the tests of streams look into it
        length = 0 if status in (204, 304) else int(headers[b"content-length"])
        bodiless = length and (not rest or rest.startswith(b"HTTP/1."))  # the answer to a HEAD
        body, data = (b"", rest) if bodiless else (rest[:length], rest[length:])
        if status >= 400:
            faults += _refusal_faults(status, headers, body, whole=not bodiless and len(body) == length)
    return faults


def _refusal_faults(status: int, headers: dict[bytes, bytes], body: bytes, *, whole: bool) -> list[str]:
    if not headers.get(b"content-type", b"").startswith(b"application/problem+json"):
        return [f"{status} as {headers.get(b'content-type')!r}"]
    if not whole:
        return []
    try:
        problem = json.loads(body)
    except ValueError:
        return [f"{status} with a body that is no JSON: {body[:80]!r}"]
    known = problem.get("code") in TABLE and problem.get("status") == status
    return (
        [] if known and isinstance(problem.get("error"), str) else [f"{status} with a strange problem: {body[:200]!r}"]
    )
