"""Large bodies: received straight from the socket, and judged as strictly as all others."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import uvloop

from downloader.config import SourcesSettings
from downloader.errors import SourceError
from downloader.work import receiver
from downloader.work.fetch import Surroundings
from downloader.work.lane import Lane
from downloader.work.postman import Postman
from downloader.work.threads import threads
from tests.origins import Bin, Exchange, content, raw_origin
from tests.test_fetch import ETAG, TLS, Clock, fetching, source
from tests.waiting import wait_until

SIZE = 5 * 1024 * 1024 + 77
BODY = content("large", SIZE)
PIECE = 300_000


async def whole(exchange: Exchange) -> None:
    """The file, or the rest that is asked for."""
    wanted = exchange.header("Range")
    if wanted is None:
        await exchange.answer("200 OK", ETAG, BODY)
        return
    start = int(wanted.removeprefix("bytes=").removesuffix("-"))
    await exchange.answer(
        "206 Partial Content", {**ETAG, "Content-Range": f"bytes {start}-{SIZE - 1}/{SIZE}"}, BODY[start:]
    )


def self_signed(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's side and a client's that trusts it."""
    names = ("-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem", "-subj", "/CN=localhost")
    subject = ("-addext", "subjectAltName=IP:127.0.0.1")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names, *subject]
    subprocess.run(command, check=True, capture_output=True)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return serving, ssl.create_default_context(cafile=folder / "cert.pem")


async def three_in_a_row(serving: ssl.SSLContext | None, trusting: ssl.SSLContext) -> None:
    """Fetch the file three times."""
    outside = Surroundings(tls=trusting, sleep=Clock().sleep)
    origin_of = partial(raw_origin, ssl=serving) if serving else raw_origin
    async with origin_of(whole) as origin, fetching(outside=outside) as fetcher:
        for _ in range(3):
            sink = Bin()
            await fetcher.fetch(source(origin.url()), sink)
            assert sink.data == BODY
            assert max(map(len, sink.chunks)) == receiver.BLOCK_BYTES
        assert origin.connections == 1


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("over", ["tcp", "tls"])
def test_a_connection_goes_on_after_a_large_body(over: str, loop: str, tmp_path: Path) -> None:
    """Three files over one connection, plain and encrypted, on both event loops: whole blocks and the right bytes."""
    serving, trusting = self_signed(tmp_path) if over == "tls" else (None, TLS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
        runner.run(three_in_a_row(serving, trusting))


async def test_what_had_come_before_a_cut_is_kept() -> None:
    """The connection breaks in the middle of a block: the next request asks for the rest, and nothing comes twice."""

    async def script(exchange: Exchange) -> None:
        if exchange.number == 1:
            await exchange.send(f'HTTP/1.1 200 OK\r\nETag: "one"\r\nContent-Length: {SIZE}\r\n\r\n'.encode())
            await exchange.send(BODY[:2_000_001])
            exchange.hang_up()
        else:
            await whole(exchange)

    sink = Bin()
    async with raw_origin(script) as origin, fetching() as fetcher:
        await fetcher.fetch(source(origin.url()), sink)
    assert sink.data == BODY
    assert origin.exchanges[1].header("Range") == "bytes=2000001-"
    assert sink.restarts == 0


async def test_what_had_come_before_a_silence_is_kept() -> None:
    """The source falls silent in the middle of a block: it is timed out, and gone on with from where it was."""
    over = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        if exchange.number == 1:
            await exchange.send(f'HTTP/1.1 200 OK\r\nETag: "one"\r\nContent-Length: {SIZE}\r\n\r\n'.encode())
            await exchange.send(BODY[:PIECE])
            await over.wait()
        else:
            await whole(exchange)

    sink = Bin()
    async with raw_origin(script) as origin, fetching(idle_timeout_s=0.3) as fetcher:
        await fetcher.fetch(source(origin.url()), sink)
        over.set()
    assert sink.data == BODY
    assert origin.exchanges[1].header("Range") == f"bytes={PIECE}-"


async def test_bytes_arrive_though_their_block_is_not_full() -> None:
    """A source that pauses: what it has sent is handed on meanwhile, so that progress is true."""
    more = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.send(f"HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n".encode())
        await exchange.send(BODY[:PIECE])
        await more.wait()
        await exchange.send(BODY[PIECE:])

    sink = Bin()
    async with raw_origin(script) as origin, fetching() as fetcher:
        fetch = asyncio.create_task(fetcher.fetch(source(origin.url()), sink))
        await wait_until(lambda: sink.position == PIECE)
        more.set()
        await fetch
    assert sink.data == BODY


@pytest.mark.parametrize("more", [b"!", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno"])
async def test_what_nobody_asked_for_is_no_answer(more: bytes) -> None:
    """A server sends more than its file: the file is right, and the next one comes over another connection."""

    async def script(exchange: Exchange) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n".encode()
        await exchange.send(head + BODY + (more if exchange.number == 1 else b""))

    async with raw_origin(script) as origin, fetching() as fetcher:
        for _ in range(2):
            sink = Bin()
            await fetcher.fetch(source(origin.url()), sink)
            assert sink.data == BODY
        assert origin.connections == 2


async def test_a_sink_that_waits_holds_the_source_up() -> None:
    """Of a large file no more is taken than a few blocks while nobody takes them."""
    sent, go = 0, asyncio.Event()

    async def script(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.send(f"HTTP/1.1 200 OK\r\nContent-Length: {20 * SIZE}\r\n\r\n".encode())
        for _ in range(20):
            await exchange.send(BODY)
            sent += SIZE

    class Slow(Bin):
        """Takes nothing until it may."""

        async def write(self, chunk: bytes | memoryview) -> None:
            """Wait, then keep."""
            await go.wait()
            await super().write(chunk)

    sink = Slow()
    async with raw_origin(script) as origin, fetching() as fetcher:
        fetch = asyncio.create_task(fetcher.fetch(source(origin.url()), sink))
        before = -1
        while before != sent or not sent:  # until the source gets on no more
            before = sent
            await asyncio.sleep(0.3)
        assert sent < 15 * SIZE
        go.set()
        await fetch
    assert sink.position == 20 * SIZE


async def test_a_fetch_that_is_given_up_closes_its_connection() -> None:
    """Cancelled in the middle of a large body: the source sees the end of the connection."""
    seen = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.send(f"HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n".encode())
        await exchange.send(BODY[:PIECE])
        await exchange.writer.wait_closed()

    async def watching(exchange: Exchange) -> None:
        try:
            await asyncio.wait_for(script(exchange), 0.01)
        except TimeoutError:
            while not exchange.writer.transport.is_closing():
                exchange.writer.write(b".")
                await asyncio.sleep(0.01)
        seen.set()

    sink = Bin()
    async with raw_origin(watching) as origin, fetching() as fetcher:
        fetch = asyncio.create_task(fetcher.fetch(source(origin.url()), sink))
        await wait_until(lambda: sink.position > 0)
        fetch.cancel()
        await asyncio.gather(fetch, return_exceptions=True)
        async with asyncio.timeout(5):
            await seen.wait()


async def test_a_lane_works_in_order_and_tells_what_went_wrong() -> None:
    """All things in their order in a thread; the first error rises and ends it."""
    done: list[int] = []

    def work(thing: int) -> None:
        if thing == 50:
            raise SourceError("type_mismatch", "fifty")
        done.append(thing)

    with threads() as pools:
        lane = Lane(pools.compute, work, ahead=1)
        for thing in range(50):
            await lane.put(thing)
        await lane.drained()
        assert done == list(range(50))
        with suppress(SourceError):
            for thing in range(50, 60):
                await lane.put(thing)
        with pytest.raises(SourceError, match="fifty"):
            await lane.drained()
        await lane.close()
    assert done == list(range(50))


async def test_an_answer_of_two_pieces_is_heard_out_by_the_postman() -> None:
    """A callback's receiver sends its head, then its body: both are heard, and the connection serves the next call."""

    async def script(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        await asyncio.sleep(0.02)
        await exchange.send(b"heard")

    allowed = SourcesSettings(allow_networks=["127.0.0.0/8"])
    async with raw_origin(script) as origin, Postman.open(allowed, 5) as postman:
        for _ in range(2):
            await postman.post(origin.url(), "{}", {})
        assert origin.connections == 1
