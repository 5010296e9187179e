"""The listening socket, and the order in which serving ends."""

from __future__ import annotations

import errno
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from downloader.errors import StartError
from downloader.web.connection import Connections, Patience

SHUTDOWN_S = 2.0
BACKLOG = 1024
# Beside the clients' connections there are those to sources, store and Redis, and files on disk.
SHARE_OF_OPEN_FILES = 0.5
CONNECTIONS_MOST = 100_000


class _Runner(web.AppRunner):
    """An AppRunner whose sites make our connections."""

    def __init__(self, app: web.Application, patience: Patience) -> None:
        super().__init__(app, handler_cancellation=True, shutdown_timeout=SHUTDOWN_S)
        self._patience = patience
        self._connections: Connections | None = None

    @property
    def server(self) -> Any:
        """What makes the protocol of an accepted connection; None before `setup`."""
        made = super().server
        if made is not None and self._connections is None:
            self._connections = Connections(made, self._patience)
        return self._connections


@asynccontextmanager
async def serve(
    app: web.Application, host: str, port: int, keys: str = "server.", patience: Patience | None = None
) -> AsyncIterator[int]:
    """Serve until the block ends; yields the port, which the system chooses when `port` is 0.

    Closing: stop listening, end the streams, wait SHUTDOWN_S for calls under way, cancel what is left. Raises
    StartError when the address cannot be had; `keys` is what the keys of its port and host begin with. `patience` is
    how long clients are waited for.

    A handler is cancelled when its client leaves: an idle stream would otherwise learn of it only at the next
    heartbeat and hold its place until then. Changes of state are not cut by that (`lasting.to_its_end`).
    """
    runner = _Runner(app, patience or Patience(connections=_connections_most()))
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=BACKLOG, reuse_port=False)
        await _listen(site, host, port, keys)
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def _connections_most() -> int:
    """How many connections may be open at once: a share of the files that the process may have open."""
    if sys.platform == "win32":
        return CONNECTIONS_MOST
    import resource  # not on Windows

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return CONNECTIONS_MOST
    return min(int(limit * SHARE_OF_OPEN_FILES), CONNECTIONS_MOST)


async def _listen(site: web.TCPSite, host: str, port: int, keys: str) -> None:
    try:
        await site.start()
    except OSError as error:
        raise StartError(f"cannot listen on {host}:{port}: {_remedy(error, keys)}") from error


def _remedy(error: OSError, keys: str) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"the port is taken; stop what uses it, or set {keys}port to another one"
        case errno.EACCES | errno.EPERM:
            return f"not allowed; ports below 1024 need rights, set {keys}port to a higher one"
        case _:
            return f"{error.strerror or error}; check {keys}host"
