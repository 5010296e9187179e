"""Replicas that go, gently or not: streams move on, jobs are finished elsewhere, a cancel lets go of everything."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiobotocore.session import get_session

from downloader.config import StorageSettings
from tests.api import Api, Frame
from tests.conftest import Start
from tests.files import Origin
from tests.gated import Gated, gated_source
from tests.test_cli import serving
from tests.waiting import wait_until

ID = re.compile(rb"^id: ?(\S+)$", re.MULTILINE)
RETRY = re.compile(rb"retry: ?(\d+)")
LAST_CHUNK = b"\r\n0\r\n\r\n"


@pytest.fixture
async def gated() -> AsyncIterator[Gated]:
    """A source that holds files back until the test lets them go."""
    async with gated_source() as source:
        yield source


@dataclass
class Open:
    """One open stream as its bytes, and when it ended."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    seen: bytearray = field(default_factory=bytearray)
    ended_at: float = 0.0

    async def read_to_its_end(self) -> None:
        """Collect what comes until the answer ends; the connection may stay."""
        while not self.seen.endswith(LAST_CHUNK) and (data := await self.reader.read(64 * 1024)):
            self.seen += data
        self.ended_at = time.monotonic()

    @property
    def wait_ms(self) -> bytes:
        """After how long the service wants the client back; it must be its last word."""
        last_line, *_ = bytes(self.seen).removesuffix(LAST_CHUNK).rstrip().splitlines()[::-1]
        found = RETRY.fullmatch(last_line)
        assert found, last_line
        return found[1]

    @property
    def last_id(self) -> str:
        """What a browser would come back with."""
        return self.ids[-1]

    @property
    def ids(self) -> list[str]:
        """The ids of all events, in the order in which they came."""
        return [found.decode() for found in ID.findall(self.seen)]

    @property
    def ids_of_files(self) -> set[str]:
        """Ids of the events that say what became of files: none of them may be missed."""
        return {
            event_id.decode()
            for frame in bytes(self.seen).split(b"\n\n")
            if b"event: files" in frame
            for event_id in ID.findall(frame)
        }


@asynccontextmanager
async def open_streams(url: str, job_id: str, count: int) -> AsyncIterator[list[Open]]:
    """So many clients that follow a job, all of which have had the snapshot; light enough for a thousand."""
    parts = urlsplit(url)
    request = (
        f"GET /v1/download/subscribe/{job_id} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: text/event-stream\r\n\r\n"
    )
    async with AsyncExitStack() as stack:
        streams = []
        for _ in range(count):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            stack.callback(writer.transport.abort)
            writer.write(request.encode())
            streams.append(Open(reader, writer))
        for stream in streams:
            stream.seen += await stream.reader.readuntil(b"\r\n\r\n")
            assert stream.seen.startswith(b"HTTP/1.1 200"), stream.seen
            while b"\nid:" not in stream.seen:
                stream.seen += await stream.reader.readline()
        yield streams


@asynccontextmanager
async def replica(
    settings: dict[str, Any], folder: Path, session: aiohttp.ClientSession, **changes: dict[str, Any]
) -> AsyncIterator[tuple[Process, Api]]:
    """A replica in a process of its own, which tells only of what goes wrong: nobody reads its log."""
    changed = settings | {name: settings.get(name, {}) | part for name, part in changes.items()}
    async with serving(changed | {"log": {"level": "error"}}, folder) as (process, url):
        yield process, Api(session, url)


async def states_until_gone(api: Api) -> list[int]:
    """The statuses of /readyz, asked again and again until nobody listens any more."""
    seen = []
    with suppress(aiohttp.ClientError):
        while True:
            seen.append((await api.call("GET", "/readyz")).status)
    return seen


async def exited(process: Process) -> float:
    """Wait for the end of the process; gives when it was."""
    async with asyncio.timeout(20):
        assert await process.wait() == 0
    return time.monotonic()


@pytest.mark.parametrize(
    ("drain_s", "count"),
    [
        pytest.param(0, 100, marks=pytest.mark.slow),
        pytest.param(0, 1000, marks=[pytest.mark.slow, pytest.mark.alone]),
        pytest.param(2, 1000, marks=[pytest.mark.slow, pytest.mark.alone]),
    ],
)
async def test_sigterm_with_open_streams(
    settings: dict[str, Any],
    session: aiohttp.ClientSession,
    start: Start,
    gated: Gated,
    tmp_path: Path,
    drain_s: int,
    count: int,
) -> None:
    """Not ready any more, streams end within a second and say when to come back, the job goes on elsewhere uncharged.

    Clients that come back to another replica with their last id miss nothing.
    """
    files = [gated.url(1000 + n, f"f{n}") for n in range(10)] + [gated.held(1000 + n) for n in range(6)]
    async with replica(settings, tmp_path, session, server={"drain_s": drain_s}) as (process, first):
        job_id = await first.submit(files)
        await wait_until(lambda: len(gated.requests) == 16)
        async with open_streams(first.base, job_id, count) as streams, start() as second:
            readers = [asyncio.create_task(stream.read_to_its_end()) for stream in streams]
            ready = asyncio.create_task(states_until_gone(first))
            process.send_signal(signal.SIGTERM)
            told_at = time.monotonic()
            taken_at, ended_at = await asyncio.gather(gated.taken_again(), exited(process))
            await asyncio.gather(*readers)
            last_at = max(stream.ended_at for stream in streams)
            states = await ready
            gated.gate.set()
            status = await second.finished(job_id)
            print(
                f"\nSIGTERM, drain_s {drain_s}, {count} streams: last stream ended after {last_at - told_at:.2f} s, "
                f"job taken elsewhere after {taken_at - told_at:.2f} s, exit after {ended_at - told_at:.2f} s; "
                f"readyz {states[0]} x {states.count(200)}, {states[-1]} x {states.count(503)}, then nobody"
            )
            assert last_at - told_at < (1 if count == 1000 else 3)  # the small one runs beside other tests
            assert states[-1] == 503
            assert states == sorted(states)
            assert taken_at - told_at < drain_s + 3
            assert ended_at - told_at < drain_s + 3
            assert (status["status"], status["attempt"], status["filesCompleted"]) == ("completed", 1, 16)
            await second.archive(job_id)
            assert len({stream.wait_ms for stream in streams}) > count // 2, "all would come back at once"
            for stream in streams[:10]:
                await assert_goes_on(stream, second, job_id)


async def assert_goes_on(stream: Open, api: Api, job_id: str) -> None:
    """Coming back elsewhere: what was missed and the end, no repeat, no fresh start."""
    rest = await api.events(job_id, last_event_id=stream.last_id)
    ids = [order(frame.id) for frame in rest]
    assert rest[-1].event == "complete"
    assert "reset" not in [frame.event for frame in rest]
    assert ids == sorted(set(ids))
    assert ids[0] > order(stream.last_id)
    whole = await api.events(job_id, last_event_id=stream.ids[0])
    assert ids_of_files(whole) <= stream.ids_of_files | ids_of_files(rest)


def order(event_id: str) -> tuple[int, ...]:
    return tuple(map(int, event_id.split("-")))


def ids_of_files(frames: list[Frame]) -> set[str]:
    return {frame.id for frame in frames if frame.event == "files"}


@pytest.mark.slow
async def test_a_second_sigterm_does_not_wait(
    settings: dict[str, Any], session: aiohttp.ClientSession, start: Start, gated: Gated, tmp_path: Path
) -> None:
    """While a minute is left to running jobs, the second signal ends the process at once; the job is not lost."""
    patient: dict[str, dict[str, Any]] = {
        "server": {"drain_s": 60},
        "worker": {"lease_s": 1, "renew_s": 0.3, "reap_s": 0.2},
    }
    async with replica(settings, tmp_path, session, **patient) as (process, first):
        job_id = await first.submit([gated.held(1000)])
        await wait_until(lambda: gated.requests)
        process.send_signal(signal.SIGTERM)

        async def draining() -> bool:
            try:
                return (await first.call("GET", "/readyz")).status == 503
            except aiohttp.ClientError:
                return True

        await wait_until(draining)
        assert process.returncode is None, "it did not wait for the job"
        process.send_signal(signal.SIGTERM)
        told_at = time.monotonic()
        async with asyncio.timeout(5):
            assert await process.wait() == 130
        took = time.monotonic() - told_at
        print(f"\nsecond SIGTERM: exit after {took * 1000:.0f} ms")
        assert took < 0.5
    gated.gate.set()
    async with start(**patient) as second:
        status = await second.finished(job_id)
        assert (status["status"], status["attempt"]) == ("completed", 2)


async def test_cancel_lets_go_of_everything(
    settings: dict[str, Any], session: aiohttp.ClientSession, start: Start, origin: Origin, tmp_path: Path
) -> None:
    """A cancel at one replica: another one's transfer ends within a second, its files and its upload go as well."""
    # Little memory, so that of two endless files one is followed and the other goes to disk.
    changes: dict[str, dict[str, Any]] = {
        "memory": {"budget_bytes": 24 * 1024**2},
        "storage": {"part_bytes": 5 * 1024**2},
        "jobs": {"max_job_bytes": 9000 * 5 * 1024**2},
        "worker": {"lease_s": 60, "renew_s": 25},
    }
    async with (
        replica(settings, tmp_path, session, **changes) as (process, worker),
        start(worker={"concurrency": 0}) as front,
        bucket_of(StorageSettings.model_validate(settings["storage"])) as uploads,
    ):
        job_id = await worker.submit([origin.endless(), origin.endless() + "?second"], options={"compress": False})
        await wait_until(lambda: origin.open == 2)
        await wait_until(lambda: spilled(process.pid))
        await wait_until(uploads)
        asked_at = time.monotonic()
        answer = await front.call("POST", f"/v1/download/{job_id}/cancel")
        answered_at = time.monotonic()
        assert (answer.status, answer.body["status"]) == (200, "cancelled")

        async def after(condition: Callable[[], Any]) -> float:
            await wait_until(condition, every_s=0.005)
            return time.monotonic() - asked_at

        source, files = await asyncio.gather(after(lambda: origin.open == 0), after(lambda: not spilled(process.pid)))

        async def swept() -> bool:
            return not await uploads()

        await wait_until(swept)
        print(
            f"\ncancel elsewhere, answered after {(answered_at - asked_at) * 1000:.0f} ms: "
            f"sources let go after {source * 1000:.0f} ms, temporary files after {files * 1000:.0f} ms, "
            f"upload after {time.monotonic() - asked_at:.2f} s"
        )
        assert source < 1
        assert files < 1


def spilled(pid: int) -> list[str]:
    """The unnamed files that a process has open."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            target = str(link.readlink())
            if target.endswith("(deleted)"):
                found.append(target)
    return found


@asynccontextmanager
async def bucket_of(storage: StorageSettings) -> AsyncIterator[Callable[[], Awaitable[list[str]]]]:
    """A call that gives the keys of the uploads which are open under the prefix of the test."""
    client = get_session().create_client(
        "s3",
        endpoint_url=storage.endpoint_url,
        region_name=storage.region,
        aws_access_key_id=storage.access_key_id,
        aws_secret_access_key=storage.secret_access_key.get_secret_value(),
    )
    async with client as s3:

        async def uploads() -> list[str]:
            listed = await s3.list_multipart_uploads(Bucket=storage.bucket, Prefix=storage.prefix)
            return [upload["Key"] for upload in listed.get("Uploads", []) if ".probe/" not in upload["Key"]]

        yield uploads


@pytest.mark.slow
async def test_takeover_after_sigkill(
    settings: dict[str, Any], session: aiohttp.ClientSession, start: Start, gated: Gated, tmp_path: Path
) -> None:
    """With the lease as it comes, a job whose replica was killed is at work again within half a minute."""
    async with replica(settings, tmp_path, session) as (process, first):
        job_id = await first.submit([gated.url(1000, "f"), gated.held(1000)])
        await wait_until(lambda: len(gated.requests) == 2)
        async with start() as second:
            process.kill()
            told_at = time.monotonic()
            took = await gated.taken_again() - told_at
            gated.gate.set()
            print(f"\nSIGKILL, default lease: job taken elsewhere after {took:.1f} s")
            assert took <= 30
            status = await second.finished(job_id)
            assert (status["status"], status["attempt"], status["filesCompleted"]) == ("completed", 2, 2)
            await second.archive(job_id)
