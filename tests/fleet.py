"""Replicas as processes of their own that come, go and die, and a client that keeps on through all of it."""

from __future__ import annotations

import asyncio
import signal
import uuid
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.api import Api, Frame
from tests.servers import free_ports
from tests.test_cli import serving


@dataclass
class Replica:
    """One process of the service at a fixed port; `settings` are those that all of them share."""

    settings: dict[str, Any]
    folder: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _process: Process | None = None

    @property
    def address(self) -> str:
        """Host and port, as nginx names it."""
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        server = self.settings.get("server", {}) | {"port": self.port}
        self._process, _ = await self._stack.enter_async_context(
            serving(self.settings | {"server": server}, self.folder, "--log-level=error")
        )

    async def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it by a signal and wait for its end; gives its status."""
        assert self._process is not None
        self._process.send_signal(how)
        async with asyncio.timeout(30):
            status = await self._process.wait()
        await self._stack.aclose()
        return status

    async def close(self) -> None:
        """End it in whatever state it is."""
        await self._stack.aclose()


@asynccontextmanager
async def fleet(settings: dict[str, Any], folder: Path, count: int = 3) -> AsyncIterator[list[Replica]]:
    """Replicas that are ready, as processes."""
    replicas = [Replica(settings, folder) for _ in range(count)]
    try:
        async with asyncio.TaskGroup() as group:
            for replica in replicas:
                group.create_task(replica.start())
        yield replicas
    finally:
        for replica in replicas:
            await replica.close()


class Steady:
    """A client as the documentation wants it: repeats what may be repeated, comes back to streams that broke off."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.heard: dict[str, list[Frame]] = {}
        self.repeated = 0
        self.resumed = 0

    async def submit(self, files: list[str]) -> str:
        """Post a job under one Idempotency-Key until it is accepted; gives its id."""
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        while True:
            try:
                answer = await self.api.initiate(files, headers=headers)
            except aiohttp.ClientError:
                self.repeated += 1
                continue
            if answer.status == 202:
                return str(answer.body["jobId"])
            assert answer.status in {502, 503}, answer
            self.repeated += 1
            await asyncio.sleep(0.05)  # as a client would, else it only asks more often

    async def follow(self, job_id: str) -> list[Frame]:
        """The events of a job to its end, over as many streams as it takes."""
        heard = self.heard[job_id] = []
        while not heard or heard[-1].event not in {"complete", "error"}:
            last = next((frame.id for frame in reversed(heard) if frame.id), None)
            self.resumed += bool(heard)
            with suppress(aiohttp.ClientError):  # it broke off; what was heard counts
                async for frame in self.api.stream(job_id, last_event_id=last):
                    heard.append(frame)  # noqa: PERF401 - a comprehension would lose what came before the break
        return heard

    async def watch(self, job_id: str, until: asyncio.Event) -> int:
        """Read the status again and again; gives how often. Not one of these calls may fail."""
        calls = 0
        while not until.is_set():
            await self.api.status(job_id)
            calls += 1
            await asyncio.sleep(0.05)  # a pace
        return calls
