"""The cache: bytes come out as they went in, everything is given back, and nothing ever waits for ever."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from downloader.errors import SourceError, StartError
from downloader.work.budget import ByteBudget
from downloader.work.cache import Cache, Entry, RestartedError
from downloader.work.shelf import JobShelf
from downloader.work.threads import threads

KIB = 1024


@dataclass(frozen=True)
class Plan:
    """One file of an example: its chunks, and after how many of them its fetch starts anew or fails."""

    chunks: tuple[int, ...]
    restart_after: int | None
    fail_after: int | None

    def data(self, index: int) -> list[bytes]:
        return [bytes([(index + number) % 251]) * size for number, size in enumerate(self.chunks)]


plans = st.builds(
    Plan,
    st.lists(st.integers(1, 900 * KIB), max_size=8).map(tuple),
    st.none() | st.integers(0, 7),
    st.none() | st.none() | st.integers(0, 7),
)


async def write(entry: Entry, plan: Plan, index: int, shelf: JobShelf) -> None:
    restart = plan.restart_after
    data = plan.data(index)
    number = 0
    while number < len(data):
        if restart == number:
            restart = None
            entry.restart()
            number = 0
            continue
        if plan.fail_after == number:
            entry.fail(SourceError("truncated", "cut"))
            shelf.failed(entry)
            return
        await entry.write([data[number]], len(data[number]))
        await asyncio.sleep(0)
        number += 1
    entry.finish()
    shelf.finished(entry)


async def read(entry: Entry) -> bytes | None:
    while True:
        parts: list[bytes | memoryview] = []
        try:
            while batch := await entry.read():
                parts += batch
                await asyncio.sleep(0)
        except RestartedError:
            continue
        except SourceError:
            return None
        return b"".join(parts)


async def run_job(cache: Cache, files: list[Plan], *, ordered: bool) -> dict[int, bytes | None]:
    shelf = JobShelf(len(files), ordered=ordered)
    entries = [Entry(cache, shelf, index, 0) for index in range(len(files))]
    got: dict[int, bytes | None] = {}
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for index, (entry, plan) in enumerate(zip(entries, files, strict=True)):
            group.create_task(write(entry, plan, index, shelf))
        while (taken := await shelf.take()) is not None:
            got[taken.index] = await read(taken)
            taken.close()
    for entry in entries:
        entry.close()
    return got


def expected(files: list[Plan]) -> dict[int, bytes]:
    return {
        index: b"".join(plan.data(index))
        for index, plan in enumerate(files)
        if plan.fail_after is None or plan.fail_after >= len(plan.chunks)
    }


@settings(max_examples=60, deadline=None)
@given(
    files=st.lists(plans, min_size=1, max_size=6),
    memory=st.sampled_from([0, 64 * KIB, 2048 * KIB]),
    disk=st.sampled_from([0, 600 * KIB, 64 * 1024 * KIB]),
    ordered=st.booleans(),
)
def test_bytes_survive_any_sizes_restarts_and_budgets(files: list[Plan], memory: int, disk: int, ordered: bool) -> None:
    """Whatever the sizes, restarts, failures and budgets: each file comes out whole, the budgets empty."""

    async def story() -> None:
        with threads() as pools:
            cache = Cache(ByteBudget(memory), ByteBudget(disk), "", pools, share_bytes=512 * KIB)
            got = await run_job(cache, files, ordered=ordered)
            whole = {index: data for index, data in got.items() if data is not None}
            assert {i: hashlib.sha256(d).digest() for i, d in whole.items()} == {
                i: hashlib.sha256(d).digest() for i, d in expected(files).items()
            }
            assert (cache.memory.used_bytes, cache.disk.used_bytes) == (0, 0)

    asyncio.run(story())


async def test_ordered_shelf_takes_files_in_request_order() -> None:
    """With `ordered` the archive waits for the first file even when all others are there already."""
    with threads() as pools:
        cache = Cache(ByteBudget(KIB), ByteBudget(0), "", pools, share_bytes=KIB)
        shelf = JobShelf(3, ordered=True)
        entries = [Entry(cache, shelf, index, 0) for index in range(3)]
        for index in (2, 1, 0):
            entries[index].finish()
            shelf.finished(entries[index])
        assert [entry.index for entry in [await shelf.take(), await shelf.take(), await shelf.take()] if entry] == [
            0,
            1,
            2,
        ]
        assert await shelf.take() is None


def test_a_folder_that_cannot_be_written_is_named_at_start(tmp_path: object) -> None:
    """A cache folder that does not exist ends the start with one line that names the key and the remedy."""
    with threads() as pools:
        cache = Cache(ByteBudget(0), ByteBudget(1), f"{tmp_path}/missing", pools, share_bytes=1)
        with pytest.raises(StartError, match=r"cache\.dir.*disk_bytes"):
            cache.check_folder()


@pytest.mark.parametrize("spilled_before", [0, 1])
async def test_a_write_that_is_cut_off_gives_disk_and_file_back(
    tmp_path: Path, spilled_before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled while the disk is slow, at its first block or later: no file stays open, no budget is lost."""
    monkeypatch.setattr("downloader.work.cache.PATIENCE_S", 0.0)
    with threads() as pools:
        cache = Cache(ByteBudget(0), ByteBudget(100 * KIB), str(tmp_path), pools, share_bytes=0)
        entry = Entry(cache, JobShelf(1, ordered=False), 0, 0)
        for _ in range(spilled_before):
            await entry.write([bytes(KIB)], KIB)
        go_on = threading.Event()
        slow = [pools.disk.submit(go_on.wait) for _ in range(2)]
        writing = asyncio.create_task(entry.write([bytes(KIB)], KIB))
        await asyncio.sleep(0)  # one turn takes it to the disk thread
        writing.cancel()
        entry.close()
        go_on.set()
        await asyncio.wait([writing])
        assert writing.cancelled()
        assert [future.result() for future in slow] == [True, True]
        assert cache.disk.used_bytes == 0
    assert not [link for fd in Path("/proc/self/fd").iterdir() if str(tmp_path) in (link := _target(fd))]


async def test_a_large_file_waits_for_a_fast_archive_and_not_for_a_slow_one(tmp_path: Path) -> None:
    """While the archive takes 200 MiB a second nothing goes over the disk; when it takes nothing any more, it does."""
    with threads() as pools:
        cache = Cache(ByteBudget(0), ByteBudget(100 * KIB), str(tmp_path), pools, share_bytes=0)
        shelf = JobShelf(2, ordered=False)
        entry = Entry(cache, shelf, 0, 0)
        writing = asyncio.create_task(entry.write([bytes(KIB)], KIB))
        for _ in range(30):
            shelf.archive_took(4 * 1024 * KIB)
            await asyncio.sleep(0.02)
            assert cache.disk.used_bytes == 0
        assert not writing.done()
        await asyncio.wait_for(writing, 5)
        assert cache.disk.used_bytes == KIB
        entry.close()


def _target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except OSError:
        return ""
