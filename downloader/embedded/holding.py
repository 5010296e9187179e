"""The service's end of the keeper: starts it, waits until the servers answer, hears when one of them ends."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import structlog

from downloader.embedded import keeper
from downloader.embedded.servers import Server
from downloader.errors import StartError

log = structlog.get_logger(__name__)

START_S = 60.0
LOOK_S = 0.02
TAIL_BYTES = 600


@asynccontextmanager
async def held(servers: list[Server], data_lock: int) -> AsyncIterator[None]:
    """Have the servers running, ready for work, for as long as the block runs.

    Raises StartError when one does not start, or, cancelling the block, when the keeper itself is lost.
    """
    process = await _spawn(servers, data_lock)
    try:
        async with _alone_in_group(), asyncio.TaskGroup() as group:
            reports = _Reports(process, servers)
            listening = group.create_task(reports.listen())
            async with asyncio.TaskGroup() as starting:
                for server in servers:
                    starting.create_task(reports.until_ready(server))
            reports.started = True
            try:
                yield
            finally:
                listening.cancel()
    finally:
        await _stop(process)


class _Reports:
    """What the keeper tells: which server ended, and when."""

    def __init__(self, process: Process, servers: list[Server]) -> None:
        self._process = process
        self._servers = {server.name: server for server in servers}
        self._ended = {server.name: asyncio.Event() for server in servers}
        self.started = False

    async def listen(self) -> None:
        """Read reports until the keeper is gone, which must not happen while we listen."""
        async for line in cast("asyncio.StreamReader", self._process.stdout):
            report = json.loads(line)
            server = self._servers[report["name"]]
            if "status" not in report:
                log.debug("embedded.started", server=server.name, pid=report["pid"])
                continue
            self._ended[server.name].set()
            if self.started:
                log.error("embedded.ended", server=server.name, status=report["status"], tail=_tail(server.log))
        raise StartError("the keeper of the embedded servers was lost, and they with it: start the service again")

    async def until_ready(self, server: Server) -> None:
        """Wait until the server answers; StartError with the end of its log when it ends or takes too long."""
        deadline = asyncio.get_running_loop().time() + START_S
        while not await server.reach.answers():
            if await _within(self._ended[server.name], LOOK_S):
                raise StartError(f"the embedded {server.name} did not start: {_tail(server.log)} (see {server.log})")
            if asyncio.get_running_loop().time() > deadline:
                raise StartError(f"the embedded {server.name} did not answer in {START_S:.0f} s; see {server.log}")


async def _within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


async def _spawn(servers: list[Server], data_lock: int) -> Process:
    """Start the keeper in a session of its own, so that Ctrl-C reaches neither it nor the servers."""
    for server in servers:
        if server.log.exists():
            server.log.replace(server.log.with_suffix(".old"))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-S", str(Path(keeper.__file__))),
        stdin=PIPE,
        stdout=PIPE,
        pass_fds=(data_lock,),
        start_new_session=True,
    )
    plan = {
        "lock": data_lock,
        "servers": [
            {
                "name": server.name,
                "command": server.command,
                "folder": str(server.folder),
                "environment": server.environment,
                "log": str(server.log),
                "litter": server.litter,
                "niceness": server.niceness,
            }
            for server in servers
        ],
    }
    _pipe(process).write(json.dumps(plan).encode() + b"\n")
    return process


async def _stop(process: Process) -> None:
    """Close the pipe and wait until the keeper has ended the servers; it kills those that take too long."""
    _pipe(process).close()
    try:
        async with asyncio.timeout(keeper.STOP_S + 5):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _pipe(process: Process) -> asyncio.StreamWriter:
    return cast("asyncio.StreamWriter", process.stdin)


def _tail(path: Path) -> str:
    """The end of a log as one line."""
    try:
        end = path.read_bytes()[-TAIL_BYTES:]
    except OSError:
        return "no log was written"
    lines = [line.strip() for line in end.decode("utf-8", "replace").splitlines() if line.strip()]
    return " | ".join(lines[-3:]) or "it wrote nothing"


@asynccontextmanager
async def _alone_in_group() -> AsyncIterator[None]:
    """Let an error that is alone in its group rise as itself."""
    try:
        yield
    except BaseExceptionGroup as group:
        alone: BaseException = group
        while isinstance(alone, BaseExceptionGroup) and len(alone.exceptions) == 1:
            alone = alone.exceptions[0]
        raise alone from None
