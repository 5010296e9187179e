"""A TCP proxy that stands before Redis or S3 and takes them away on purpose, whole or one answer at a time."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

PIECE = 64 * 1024
# A request is looked through for the bytes of `match` up to here; commands are short, and bodies are not meant.
ASKED_MAX = 1024 * 1024
# Closing with this throws away what is unsent and sends RST, as a crashed host or a strict firewall does.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(slots=True, eq=False)
class _Link:
    """One connection and its far half. `asked` is what the caller has said since the last answer."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    asked: bytearray = field(default_factory=bytearray)
    dead: bool = False

    def reset(self) -> None:
        """Break both halves at once."""
        for writer in (self.near, self.far):
            half: socket.socket | None = writer.get_extra_info("socket")
            if half is not None:
                with suppress(OSError):
                    half.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            writer.transport.abort()


@dataclass(slots=True, eq=False)
class _Trap:
    """Waits for an answer with `reply` in it to a request with `match`, and breaks the link after `passing` bytes."""

    match: bytes
    reply: bytes
    passing: int
    sprung: asyncio.Event = field(default_factory=asyncio.Event)
    link: _Link | None = None


class Proxy:
    """Passes bytes between its callers and `target`, and breaks what it is told to.

    For all: `down` and `up`, `hang` and `flow`, `delay`. For the connections of the moment: `reset`, `half_open`. For
    one answer: `drop_next_reply`, `truncate_next_reply`; both give an event that is set once it has happened.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._delay_s = 0.0
        self._traps: list[_Trap] = []
        self.port = 0

    @property
    def links(self) -> int:
        """How many connections pass through."""
        return len(self._links)

    async def up(self) -> None:
        """Listen, again on the same port after `down`."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Be gone: refuse new connections, reset the ones there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.reset()
        for task in self._tasks:  # also those that wait for a flow, a delay or the far side
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def turn_to(self, url: str) -> None:
        """Lead new connections to another server; those there are stay where they are."""
        self._target = _address(url)

    def hang(self) -> None:
        """Keep all connections but pass nothing."""
        self._flowing.clear()

    def flow(self) -> None:
        """Pass bytes again."""
        self._flowing.set()

    def delay(self, seconds: float) -> None:
        """Let every piece wait for so long, each way; 0 ends it."""
        self._delay_s = seconds

    def reset(self) -> None:
        """Break all connections there are, and take new ones."""
        for link in list(self._links):
            link.reset()

    def half_open(self) -> None:
        """Let nothing pass on the connections there are, which stay open; new ones work."""
        for link in self._links:
            link.dead = True

    def drop_next_reply(self, *, match: bytes = b"", reply: bytes = b"") -> asyncio.Event:
        """Break the connection in place of the next answer: what was asked for is done, and nobody is told.

        With `match` only an answer to a request that holds these bytes counts, with `reply` only one that holds these.
        """
        return self.truncate_next_reply(0, match=match, reply=reply)

    def truncate_next_reply(self, after_bytes: int, *, match: bytes = b"", reply: bytes = b"") -> asyncio.Event:
        """Break the connection in the middle of the next answer."""
        trap = _Trap(match, reply, after_bytes)
        self._traps.append(trap)
        return trap.sprung

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._link(reader, writer)
        except* OSError:
            pass
        finally:
            writer.transport.abort()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        link = _Link(writer, far_writer)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._ask(link, reader))
                ways.create_task(self._answer(link, far_reader))
        finally:
            self._links.discard(link)
            far_writer.transport.abort()

    async def _ask(self, link: _Link, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(PIECE):
            link.asked += data[: ASKED_MAX - len(link.asked)]
            await self._pass(link, link.far, data)
        if link.dead:
            raise ConnectionResetError  # nobody is left to be kept waiting
        with suppress(OSError):
            link.far.write_eof()

    async def _answer(self, link: _Link, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(PIECE):
            trap = self._trap(link, data)
            if trap is None:
                link.asked.clear()
                await self._pass(link, link.near, data)
                continue
            await self._pass(link, link.near, data[: trap.passing])
            trap.passing -= len(data)
            if trap.passing <= 0:
                self._traps.remove(trap)
                trap.sprung.set()
                link.reset()
                return
        if link.dead:
            await asyncio.Event().wait()  # the caller must not learn that the far side has gone
        with suppress(OSError):
            link.near.write_eof()

    def _trap(self, link: _Link, data: bytes) -> _Trap | None:
        """The trap that an answer on this link falls into; once it has begun, the rest of it does too."""
        for trap in self._traps:
            if trap.link is link or (trap.link is None and trap.match in link.asked and trap.reply in data):
                trap.link = link
                return trap
        return None

    async def _pass(self, link: _Link, writer: asyncio.StreamWriter, data: bytes) -> None:
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        await self._flowing.wait()
        if link.dead or not data:
            return
        writer.write(data)
        await writer.drain()


@asynccontextmanager
async def before(url: str) -> AsyncIterator[Proxy]:
    """A proxy before the server at `url`."""
    proxy = Proxy(*_address(url))
    await proxy.up()
    try:
        yield proxy
    finally:
        await proxy.down()


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "127.0.0.1", parts.port or 80
