"""What a file and a job cost, as counts that are the same on every machine: nobody adds one unnoticed.

Times belong to `python -m tests.bench`; here are calls, copies, allocations, tasks and hops to threads.
"""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from aiohttp import web
from redis.asyncio import Redis as RedisClient

from downloader.jobs import Options, Source
from downloader.work.archive import ArchiveWriter
from downloader.work.budget import ByteBudget
from downloader.work.cache import Cache, Entry
from downloader.work.inspection import Inspection
from downloader.work.intake import Intake, JobBytes
from downloader.work.packing import Arriving, Packer
from downloader.work.partbody import PartBody
from downloader.work.progress import Progress
from downloader.work.shelf import JobShelf
from downloader.work.storage import PartReceipt
from downloader.work.threads import threads
from downloader.work.transfer import Offer, Sink
from tests.api import Api
from tests.conftest import Start
from tests.fakes3 import fake_s3
from tests.files import Origin
from tests.ledger import MemoryLedger
from tests.memorystore import MemoryStore
from tests.servers import Redis
from tests.sources import answering

KIB = 1024
MIB = 1024 * KIB
PART = 5 * MIB
FEW, MANY = 20, 420
CHUNK = 256 * KIB
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
Work = Coroutine[Any, Any, Any] | Generator[Any, None, Any]


@pytest.fixture(autouse=True)
def no_reports_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress is told once at the beginning and once at the end, however long a machine takes."""
    monkeypatch.setattr("downloader.work.worker.REPORT_S", 60.0)


# What a whole job asks of others


async def done(api: Api, urls: list[Any], **options: Any) -> dict[str, Any]:
    status = await api.finished(await api.submit(urls, **options))
    assert (status["status"], status["filesFailed"]) == ("completed", 0)
    return status


async def commands_of(valkey: Redis, work: Callable[[], Awaitable[object]]) -> Counter[str]:
    """The commands that Valkey ran meanwhile, those inside scripts too."""

    async def counted() -> Counter[str]:
        stats = await client.info("commandstats")
        return Counter({name.removeprefix("cmdstat_"): int(about["calls"]) for name, about in stats.items()})

    client = RedisClient.from_url(valkey.url)
    try:
        before = await counted()
        await work()
        return await counted() - before
    finally:
        await client.aclose()


async def test_redis_commands_per_job_and_per_file(start: Start, origin: Origin, valkey: Redis) -> None:
    """A job makes the same few calls whatever its size; of each file one field is written once."""
    async with start() as api:
        await done(api, [origin.url(KIB, "warm")])
        few, many = [
            await commands_of(valkey, partial(done, api, [origin.url(KIB, f"{n}") for n in range(count)]))
            for count in (FEW, MANY)
        ]
    assert few.total() - FEW <= 220, few
    assert (many.total() - few.total()) / (MANY - FEW) <= 1.2, many - few
    assert few["evalsha"] <= 16, few
    assert many["evalsha"] <= few["evalsha"] + 4, many


@pytest.mark.parametrize(("files", "size", "parts"), [(3, 4 * MIB, 3), (1, 11 * MIB, 3), (6, 10 * KIB, 0)])
async def test_s3_calls_per_part(start: Start, origin: Origin, files: int, size: int, parts: int) -> None:
    """Each part is sent once; the upload is begun and completed once; the archive is looked at twice. No call more."""
    async with fake_s3() as store:
        storage = store.settings(part_bytes=PART).model_dump()
        async with start(storage=storage, jobs={"max_job_bytes": 1024 * MIB}) as api:
            await done(api, [origin.url(size, f"{n}") for n in range(files)])
        made = Counter((call.operation, call.number) for call in store.calls if call.key.endswith(".zip"))
    sent = {("UploadPart", number): 1 for number in range(1, parts + 1)} | {("CreateUpload", 0): 1, ("Complete", 0): 1}
    assert made == (sent if parts else {("Put", 0): 1}) | {("Head", 0): 1, ("Get", 0): 1}


async def test_requests_and_connections_at_the_source(start: Start) -> None:
    """Each file is asked for once, by GET and nothing else, on as few connections as there are files in flight."""
    asked, callers = Counter[str](), set[object]()

    async def send(request: web.Request) -> web.Response:
        asked[f"{request.method} {request.path}"] += 1
        assert request.transport is not None
        callers.add(request.transport.get_extra_info("peername"))
        return web.Response(body=bytes(10 * KIB))

    app = web.Application()
    app.router.add_route("*", "/{name}", send)
    async with answering(app) as base, start() as api:
        await done(api, [f"{base}/{number}.bin" for number in range(60)])
    assert asked == {f"GET /{number}.bin": 1 for number in range(60)}
    assert len(callers) <= 8


@asynccontextmanager
async def work_counted(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Counter[str]]:
    """Tasks that are made and calls that are handed to threads meanwhile; those of aiohttp's server are not ours."""
    loop, counts = asyncio.get_running_loop(), Counter[str]()

    def make(loop: asyncio.AbstractEventLoop, work: Work, **more: Any) -> asyncio.Task[Any]:
        code = getattr(work, "cr_code", None)
        counts["tasks"] += code is None or "aiohttp/web" not in code.co_filename
        return asyncio.Task(work, loop=loop, **more)

    def hand_over(executor: Any, work: Callable[..., Any], *given: Any) -> asyncio.Future[Any]:
        counts["hops"] += 1
        return original(executor, work, *given)

    original = loop.run_in_executor
    loop.set_task_factory(make)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(loop, "run_in_executor", hand_over)
            yield counts
    finally:
        loop.set_task_factory(None)


async def test_tasks_and_hops_to_threads_per_small_file(
    start: Start, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small file passes on the event loop, from task to task of its job: none is made for it, and no thread asked."""
    spent = {}
    async with start() as api:
        await done(api, [origin.url(KIB, "warm")])
        for count in (FEW, MANY):
            async with work_counted(monkeypatch) as counts:
                await done(api, [origin.url(4 * KIB, f"{n}") for n in range(count)])
            spent[count] = counts
    per_file = {what: (spent[MANY][what] - spent[FEW][what]) / (MANY - FEW) for what in ("tasks", "hops")}
    assert per_file["tasks"] <= 0.1, spent
    assert per_file["hops"] <= 0.1, spent


# What one chunk costs on its way from the source to the store


class Watching(MemoryStore):
    """A store that keeps no bytes: it notes which objects lie behind what it is sent, and how many there are in all."""

    def __init__(self) -> None:
        super().__init__()
        self.behind: Counter[int] = Counter()
        self.blocks: list[int] = []

    async def upload_part(self, key: str, upload_id: str, number: int, body: PartBody) -> PartReceipt:
        async for piece in body:
            self.behind[id(piece.obj)] += len(piece)
        self.blocks.append(sys.getallocatedblocks())
        return PartReceipt(number, "none", len(body))


class NoDisk(ByteBudget):
    """A disk that nobody may use."""

    def try_reserve(self, size_bytes: int) -> bool:
        raise AssertionError(f"{size_bytes} bytes go to the disk although there is room in memory")


async def carried(chunks: list[bytes], store: MemoryStore, *, followed: bool = True) -> None:
    """Take a file's chunks through intake, cache and packer into the parts of an archive, as a job does.

    It is `followed` by the archive as it arrives, or lies in memory until it is whole.
    """
    memory, size = ByteBudget(64 * MIB), sum(map(len, chunks))
    source, shelf = Source(0, 1, "http://origin.test/a.bin"), JobShelf(1, ordered=False)
    inspected: asyncio.Future[Inspection] = asyncio.get_running_loop().create_future()
    with threads() as pools:
        entry = Entry(Cache(memory, NoDisk(64 * MIB), "", pools, share_bytes=32 * MIB), shelf, 0, 0)
        intake = Intake(
            source,
            entry,
            threads=pools,
            progress=Progress([source]),
            job_bytes=JobBytes(1024 * MIB),
            max_file_bytes=1024 * MIB,
            named=lambda _: "a.bin",
        )
        writer = ArchiveWriter(
            store, "jobs/a.zip", part_bytes=PART, parts_in_flight=4, budget=memory, ledger=MemoryLedger()
        )
        packer = Packer(writer, pools, Options(compress=False), "balanced")
        async with asyncio.TaskGroup() as group:
            arriving = group.create_task(_fetched(intake, entry, inspected, chunks))
            if followed:
                entry.follow()
            else:
                await arriving
            group.create_task(packer.pack(Arriving(entry, "a.bin", inspected, mtime=NOON, length=size)))
        await writer.close()
    assert memory.used_bytes == 0


async def _fetched(intake: Intake, entry: Entry, inspected: asyncio.Future[Inspection], chunks: list[bytes]) -> None:
    sink: Sink = intake
    if (opening := sink.opened(Offer(sum(map(len, chunks)), "application/octet-stream", None, None))) is not None:
        await opening
    for chunk in chunks:
        if (writing := sink.write(chunk)) is not None:
            await writing
    inspected.set_result(await intake.finish())
    entry.finish()


def chunks_of(count: int, size: int = CHUNK) -> list[bytes]:
    return [random.Random(number).randbytes(size) for number in range(count)]


@pytest.mark.parametrize("followed", [True, False])
async def test_a_chunk_reaches_the_store_without_being_copied(followed: bool) -> None:
    """What is sent are views of the very buffers that came in; only headers are ours, and no disk is needed."""
    chunks, store = chunks_of(60), Watching()
    await carried(chunks, store, followed=followed)
    ours = {id(chunk) for chunk in chunks}
    sent = store.behind.total()
    copied = sum(size for behind, size in store.behind.items() if behind not in ours)
    assert sent >= 2 * PART
    assert copied <= 4 * KIB


async def test_no_chunk_makes_garbage_of_its_size() -> None:
    """While chunks pass, nothing is allocated that is as large as one: not even for a moment."""
    chunks = chunks_of(100)
    await carried(chunks[:8], Watching())
    tracemalloc.start()
    try:
        await carried(chunks, Watching())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < CHUNK, peak


async def test_a_waiting_chunk_costs_few_objects() -> None:
    """A chunk that lies in a part has a view around it and little else: four times the chunks show what each adds."""
    most, part_count = {}, 3
    await carried(chunks_of(part_count * PART // CHUNK), Watching())
    for size in (CHUNK, CHUNK // 4):
        chunks, store = chunks_of(part_count * PART // size, size), Watching()
        gc.collect()
        before = sys.getallocatedblocks()
        await carried(chunks, store)
        most[size] = max(store.blocks) - before
    assert (most[CHUNK // 4] - most[CHUNK]) / (part_count * PART / CHUNK * 3) <= 4.5, most
