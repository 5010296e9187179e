"""The fault proxy does to a connection what it says, so that the tests of outages test what they say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.proxy import Proxy, before
from tests.waiting import wait_until


class Echo:
    """A server that gives every line back; `lines` are those it got."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            self.lines.append(line)
            writer.write(line)
        writer.close()


@asynccontextmanager
async def echoing(echo: Echo) -> AsyncIterator[str]:
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    try:
        yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.fixture
def echo() -> Echo:
    """What the server saw."""
    return Echo()


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[Proxy]:
    """A proxy before an echo."""
    async with echoing(echo) as url, before(url) as proxy:
        yield proxy


class Line:
    """A caller of the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, line: bytes, *, within_s: float = 5) -> bytes:
        """Send a line and give what comes back; b"" when the connection ends."""
        self.writer.write(line)
        async with asyncio.timeout(within_s):
            return await self.reader.read(len(line))


@asynccontextmanager
async def calling(proxy: Proxy) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()


async def test_a_dropped_reply_was_for_a_request_that_arrived(proxy: Proxy, echo: Echo) -> None:
    """The server got the line, the caller a reset; the next connection works."""
    async with calling(proxy) as line:
        assert await line.ask(b"one\n") == b"one\n"
        dropped = proxy.drop_next_reply()
        with pytest.raises(ConnectionResetError):
            await line.ask(b"two\n")
        assert dropped.is_set()
    async with calling(proxy) as line:
        assert await line.ask(b"three\n") == b"three\n"
    assert echo.lines == [b"one\n", b"two\n", b"three\n"]


async def test_only_the_reply_to_a_matching_request_is_dropped(proxy: Proxy) -> None:
    """Answers to other requests pass, on this connection and on others."""
    dropped = proxy.drop_next_reply(match=b"SETTLE")
    async with calling(proxy) as line, calling(proxy) as other:
        assert await line.ask(b"claim\n") == b"claim\n"
        assert not dropped.is_set()
        with pytest.raises(ConnectionResetError):
            await other.ask(b"call SETTLE\n")
        assert await line.ask(b"SETTLE\n") == b"SETTLE\n"


async def test_only_a_matching_reply_is_dropped(proxy: Proxy) -> None:
    """An answer that says something else passes."""
    dropped = proxy.drop_next_reply(reply=b"job")
    async with calling(proxy) as line:
        assert await line.ask(b"none\n") == b"none\n"
        with pytest.raises(ConnectionResetError):
            await line.ask(b"job 7\n")
    assert dropped.is_set()


async def test_a_truncated_reply_ends_where_it_was_told(proxy: Proxy) -> None:
    """Five bytes of the answer arrive, then the reset."""
    async with calling(proxy) as line:
        truncated = proxy.truncate_next_reply(5)
        assert await line.ask(b"0123456789\n") == b"01234"
        with pytest.raises(ConnectionResetError):
            await line.reader.read(1)
    assert truncated.is_set()


async def test_delay_holds_every_piece_each_way(proxy: Proxy) -> None:
    """There and back take twice the delay, and nothing any more when it has ended."""
    async with calling(proxy) as line:
        proxy.delay(0.1)
        began = time.monotonic()
        assert await line.ask(b"slow\n") == b"slow\n"
        assert time.monotonic() - began >= 0.2
        proxy.delay(0)
        assert await line.ask(b"fast\n", within_s=0.1) == b"fast\n"


async def test_reset_breaks_what_there_is_and_takes_new_callers(proxy: Proxy) -> None:
    """An idle connection is reset; the next one is served."""
    async with calling(proxy) as line:
        await line.ask(b"one\n")
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await line.reader.read(1)
    async with calling(proxy) as line:
        assert await line.ask(b"two\n") == b"two\n"


async def test_half_open_is_silent_for_its_life(proxy: Proxy, echo: Echo) -> None:
    """Neither way passes on the old connection, though nobody closes it; a new one works."""
    async with calling(proxy) as old:
        await old.ask(b"one\n")
        proxy.half_open()
        with pytest.raises(TimeoutError):
            await old.ask(b"two\n", within_s=0.1)
        async with calling(proxy) as new:
            assert await new.ask(b"three\n") == b"three\n"
        assert not old.reader.at_eof()
    await wait_until(lambda: proxy.links == 0)
    assert echo.lines == [b"one\n", b"three\n"]


async def test_down_ends_connections_that_hang_or_wait(proxy: Proxy) -> None:
    """Going down does not wait for what is held back, and up again serves on the same port."""
    proxy.hang()
    async with calling(proxy) as held, calling(proxy) as dead:
        held.writer.write(b"held\n")
        await wait_until(lambda: proxy.links == 2)
        proxy.half_open()
        await asyncio.wait_for(proxy.down(), 1)
        with pytest.raises(ConnectionResetError):
            await dead.reader.read(1)
    proxy.flow()
    await proxy.up()
    async with calling(proxy) as line:
        assert await line.ask(b"again\n") == b"again\n"


async def test_turn_to_leads_new_callers_elsewhere(proxy: Proxy, echo: Echo) -> None:
    """The old connection stays with the old server, the next one goes to the new."""
    elsewhere = Echo()
    async with echoing(elsewhere) as url, calling(proxy) as old:
        await old.ask(b"one\n")
        proxy.turn_to(url)
        async with calling(proxy) as new:
            await new.ask(b"two\n")
            await old.ask(b"three\n")
    assert (echo.lines, elsewhere.lines) == ([b"one\n", b"three\n"], [b"two\n"])
