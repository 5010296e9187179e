"""The bandwidth cap: the right rate, smooth and fair, and nobody's fault but ours."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from downloader.config import SourcesSettings
from downloader.jobs import Source
from downloader.work.connector import tls_context
from downloader.work.fetch import Fetcher, Surroundings
from downloader.work.threads import threads
from downloader.work.throttle import Meter, Throttle
from tests.conftest import Start
from tests.files import Origin
from tests.origins import Bin, Exchange, content, raw_origin

MIB = 1024 * 1024
KIB = 1024
READS_MAX = 50_000  # far more than any cap here allows, so that a throttle that lets all pass ends too


class Hand:
    """A clock that is moved by hand: who sleeps on it is woken when his time comes, in order."""

    def __init__(self) -> None:
        self.now = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._count = 0

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        self._count += 1
        self._sleepers.append((self.now + seconds, self._count, woken))
        await woken.wait()

    async def run_to(self, end: float) -> None:
        """Let the time pass up to `end`."""
        await self._settle()
        while self._sleepers and min(self._sleepers)[0] <= end:
            first = min(self._sleepers)
            self._sleepers.remove(first)
            self.now = max(self.now, first[0])
            first[2].set()
            await self._settle()
        self.now = end

    async def _settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)


class Reader:
    """Reads blocks of one size for as long as it may, and notes when it could go on."""

    def __init__(self, throttle: Throttle, hand: Hand, block: int) -> None:
        self.paid: list[float] = []
        self.block = block
        self._meter = Meter(throttle)
        self._hand = hand

    async def run(self) -> None:
        for _ in range(READS_MAX):
            await self._meter.took(self.block)
            self.paid.append(self._hand.time())

    def bytes_until(self, when: float) -> int:
        """What was read up to a time."""
        return sum(paid <= when for paid in self.paid) * self.block


@asynccontextmanager
async def reading(hand: Hand, bytes_per_s: int, *blocks: int) -> AsyncIterator[list[Reader]]:
    """A reader for each block size, all under one cap."""
    throttle = Throttle(bytes_per_s, hand.time, hand.sleep)
    readers = [Reader(throttle, hand, block) for block in blocks]
    tasks = [asyncio.create_task(reader.run()) for reader in readers]
    yield readers
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("bytes_per_s", [20 * KIB, MIB, 100 * MIB])
@pytest.mark.parametrize("blocks", [(16 * KIB,), (1400, 64 * KIB, 512 * KIB), (512 * KIB,) * 5])
async def test_all_together_get_the_cap_and_each_the_same(bytes_per_s: int, blocks: tuple[int, ...]) -> None:
    """In the long run it is the cap, no less and no more, and who reads in large blocks gets no more than others."""
    hand, end = Hand(), 24 * MIB / bytes_per_s
    async with reading(hand, bytes_per_s, *blocks) as readers:
        await hand.run_to(end)
        shares = [reader.bytes_until(end) for reader in readers]
        spare = bytes_per_s * 0.1 + 256 * KIB * len(blocks)  # a silence's credit, and slices not paid for yet
        assert 24 * MIB - sum(blocks) - spare <= sum(shares) <= 24 * MIB + spare
        assert max(shares) - min(shares) <= max(blocks) + spare


async def test_a_large_block_is_paid_in_slices_so_that_small_ones_pass() -> None:
    """While one file pays for half a MiB at 64 KiB/s, another that wants little is not kept waiting for seconds."""
    hand = Hand()
    async with reading(hand, 64 * KIB, 512 * KIB, 1 * KIB) as (large, small):
        await hand.run_to(16.5)
        waits = [later - earlier for earlier, later in itertools.pairwise(small.paid)]
        assert max(waits) < 0.3
        assert len(large.paid) == 1


async def test_no_burst_follows_a_silence() -> None:
    """What was not used for an hour is gone but for a tenth of a second's worth."""
    hand = Hand()
    throttle = Throttle(MIB, hand.time, hand.sleep)
    await hand.run_to(3600)
    task = asyncio.create_task(throttle.pay(2 * MIB))
    await hand.run_to(3601.85)
    assert not task.done()
    await hand.run_to(3601.95)
    assert task.done()


async def test_whoever_is_cancelled_holds_nobody_up() -> None:
    """A file that ends while it waits leaves at most its one slice behind."""
    hand = Hand()
    throttle = Throttle(64 * KIB, hand.time, hand.sleep)
    gone = asyncio.create_task(throttle.pay(100 * MIB))
    await hand.run_to(0.2)
    gone.cancel()
    task = asyncio.create_task(throttle.pay(16 * KIB))
    await hand.run_to(0.6)
    assert task.done()


async def test_no_cap_is_no_throttle() -> None:
    """Zero costs nothing."""
    assert Throttle.of(0) is None


async def test_our_slow_reading_slows_the_source_and_is_not_its_fault() -> None:
    """Far below the least speed nothing fails, and the source feels it: it cannot send what we do not read."""
    size, cap = 8 * MIB, 4 * MIB
    sent_s: list[float] = []

    async def script(exchange: Exchange) -> None:
        connection = exchange.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * KIB)
        body = content("slow", size)
        await exchange.send(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
        for start in range(0, size, 64 * KIB):
            await exchange.send(body[start : start + 64 * KIB])
        sent_s.append(time.monotonic() - begun)

    settings = SourcesSettings(
        allow_networks=["127.0.0.0/8"], min_bytes_per_s=4 * cap, idle_timeout_s=0.5, attempts=1, per_host=1
    )
    with threads() as pools:
        async with (
            raw_origin(script) as origin,
            Fetcher.open(settings, pools, Surroundings(tls=tls_context()), bytes_per_s=cap) as fetcher,
        ):
            sink, begun = Bin(), time.monotonic()
            await fetcher.fetch(Source(0, 0, origin.url()), sink)
            took_s = time.monotonic() - begun
    assert sink.data == content("slow", size)
    assert took_s >= size / cap - 0.2
    assert sent_s[0] >= took_s / 4  # some MiB may lie in the buffers on the way


@asynccontextmanager
async def fetching(cap: int) -> AsyncIterator[Fetcher]:
    """A fetcher with a cap that tries once."""
    settings = SourcesSettings(allow_networks=["127.0.0.0/8"], attempts=1)
    with threads() as pools:
        async with Fetcher.open(settings, pools, Surroundings(tls=tls_context()), bytes_per_s=cap) as fetcher:
            yield fetcher


async def test_files_that_are_smaller_than_a_slice_are_paid_for_too() -> None:
    """A hundred small files one after the other keep to the cap as one large file does."""
    size, cap = 3 * KIB, 300 * KIB

    async def script(exchange: Exchange) -> None:
        await exchange.answer("200 OK", {}, content("small", size))

    async with raw_origin(script) as origin, fetching(cap) as fetcher:
        begun = time.monotonic()
        for number in range(100):
            await fetcher.fetch(Source(0, 0, origin.url(f"/{number}")), Bin())
        assert time.monotonic() - begun >= 100 * size / cap - 0.2


@pytest.mark.slow
async def test_a_source_that_gives_up_while_we_hold_it_up_loses_no_attempt() -> None:
    """Its server closes the connection during a wait of ours of seconds; the rest is asked for all the same."""
    body = content("held", 41 * KIB)

    async def script(exchange: Exchange) -> None:
        if exchange.number == 1:
            head = f'HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nETag: "1"\r\n\r\n'
            await exchange.send(head.encode() + body[: 40 * KIB])
            exchange.hang_up()
        else:
            span = f"bytes {40 * KIB}-{len(body) - 1}/{len(body)}"
            await exchange.answer("206 Partial Content", {"ETag": '"1"', "Content-Range": span}, body[40 * KIB :])

    async with raw_origin(script) as origin, fetching(16 * KIB) as fetcher:
        sink = Bin()
        await fetcher.fetch(Source(0, 0, origin.url()), sink)
    assert sink.data == body
    assert len(origin.exchanges) == 2


async def test_files_under_a_cap_take_their_time_and_complete(start: Start, origin: Origin) -> None:
    """Two files of one job, one announced and one in chunks, come no faster than the cap lets them, and come whole."""
    size, cap = 3 * MIB // 2, 2 * MIB
    async with start(limits={"bytes_per_s": cap}, sources={"min_bytes_per_s": 4 * cap}) as api:
        urls, begun = [origin.url(size, "one"), origin.chunked(size)], time.monotonic()
        status = await api.finished(await api.submit(urls))
        assert time.monotonic() - begun >= 2 * size / cap - 0.3
        assert [file["error"] for file in status["files"]] == [None, None]
        archive = await api.archive(status["jobId"])
        assert [archive.getinfo(file["name"]).file_size for file in status["files"]] == [size, size]
