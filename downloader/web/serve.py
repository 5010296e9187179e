"""The listening socket, and the order in which serving ends."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from downloader.errors import StartError

SHUTDOWN_S = 2.0
HEADER_BYTES = 16 * 1024
BACKLOG = 1024


@asynccontextmanager
async def serve(app: web.Application, host: str, port: int) -> AsyncIterator[int]:
    """Serve until the block ends; yields the port, which the system chooses when `port` is 0.

    Closing: stop listening, end the streams, wait SHUTDOWN_S for calls under way, cancel what is left. Raises
    StartError when the address cannot be had.

    A handler is cancelled when its client leaves: an idle stream would otherwise learn of it only at the next
    heartbeat and hold its place until then. Changes of state are not cut by that (`lasting.to_its_end`).
    """
    runner = web.AppRunner(
        app,
        access_log=None,  # middlewares.access_log knows the route and masks the query
        handler_cancellation=True,
        shutdown_timeout=SHUTDOWN_S,
        max_line_size=HEADER_BYTES,
        max_field_size=HEADER_BYTES,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=BACKLOG, reuse_port=False)
        await _listen(site, host, port)
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def _listen(site: web.TCPSite, host: str, port: int) -> None:
    try:
        await site.start()
    except OSError as error:
        raise StartError(f"cannot listen on {host}:{port}: {_remedy(error)}") from error


def _remedy(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "the port is taken; stop what uses it, or set server.port (0 = any free one)"
        case errno.EACCES | errno.EPERM:
            return "not allowed; ports below 1024 need rights, set server.port to a higher one"
        case _:
            return f"{error.strerror or error}; check server.host"
