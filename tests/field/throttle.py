"""A store that is slow: a TCP relay that takes only so many bytes a second from its callers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

_PIECE = 64 * 1024


@dataclass(slots=True)
class Throttle:
    """How fast it is (0 = takes nothing for now), and how many bytes have passed towards the store."""

    bytes_per_s: float
    port: int = 0
    taken: int = 0
    busy_until: float = 0.0


@asynccontextmanager
async def throttled(url: str, bytes_per_s: float) -> AsyncIterator[Throttle]:
    """Run it before `url`."""
    made = Throttle(bytes_per_s)
    target = urlsplit(url)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(target.hostname, target.port)
        except OSError:
            writer.close()
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_up(made, reader, far_writer))
                group.create_task(_down(far_reader, writer))
        except* (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            far_writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=_PIECE)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made


async def _up(throttle: Throttle, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """At the common speed of all connections."""
    clock = asyncio.get_running_loop().time
    while data := await reader.read(_PIECE):
        throttle.taken += len(data)
        while not throttle.bytes_per_s:  # noqa: ASYNC110 - a number that a story sets
            await asyncio.sleep(0.02)
        throttle.busy_until = max(throttle.busy_until, clock()) + len(data) / throttle.bytes_per_s
        await asyncio.sleep(throttle.busy_until - clock())
        writer.write(data)
        await writer.drain()
    writer.write_eof()


async def _down(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_PIECE):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
