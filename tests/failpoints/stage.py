"""What runs share: Valkey, SeaweedFS, the source, the zygote; and the settings that make a run short."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from redis.asyncio import Redis as RedisClient

from downloader.work.storage_clients import s3_clients
from tests.api import Api
from tests.failpoints.hook import Board
from tests.failpoints.origin import Origin, serving
from tests.failpoints.points import Site
from tests.servers import S3, Redis

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

BUCKET = "downloads"
MIB = 1024 * 1024
LEASE_S = 0.8
START_S = 30.0
LINE_BYTES_MAX = 4 * MIB


@dataclass
class Child:
    """A service process; the zygote knows it by its number."""

    zygote: Zygote
    board: Board
    log: Path
    number: int = 0
    port: asyncio.Future[int] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    ended: asyncio.Future[int] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it still lives."""
        if not self.ended.done():
            self.zygote.command({"id": self.number, "signal": number})

    async def end(self, within_s: float) -> int | None:
        """Its exit code, or None when it does not end in time."""
        await asyncio.wait([self.ended], timeout=within_s)
        return self.ended.result() if self.ended.done() else None

    async def up(self) -> int | None:
        """Its port, or None when it ended before it had one."""
        await asyncio.wait([self.port, self.ended], timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
        return self.port.result() if self.port.done() else None


class Zygote:
    """Our end of the zygote's pipes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.sites: list[Site] = []
        self._process = process
        self._children: dict[int, Child] = {}
        self._numbers = itertools.count(1)

    async def listen(self) -> None:
        """Take in what it says, until it ends."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self._hear(json.loads(line))
        for child in self._children.values():
            if not child.ended.done():
                child.ended.set_exception(RuntimeError("the zygote has died"))

    async def hear_sites(self) -> None:
        """Take in its first line: what it has rewritten."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("the service could not be loaded; its reason stands above")
        self.sites = [Site(*words) for words in json.loads(line)["sites"]]

    def fork(self, child: Child, command: dict[str, Any]) -> None:
        """Start a child."""
        child.number = next(self._numbers)
        self._children[child.number] = child
        self.command(command | {"id": child.number})

    def command(self, command: dict[str, Any]) -> None:
        """Write a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")

    def _hear(self, words: dict[str, Any]) -> None:
        child = self._children[words["id"]]
        if "port" in words:
            child.port.set_result(words["port"])
        if "ended" in words:
            child.ended.set_result(words["ended"])
            del self._children[words["id"]]


@dataclass
class Stage:
    """Everything that runs share."""

    redis: Redis
    s3: S3
    client: RedisClient
    bucket: S3Client
    session: aiohttp.ClientSession
    origin: Origin
    zygote: Zygote
    folder: Path

    @property
    def points(self) -> list[str]:
        """The names of all points, by number."""
        return [point for site in self.zygote.sites for point in site.points]

    def plot(self) -> Plot:
        """A prefix of its own in everything, for one run."""
        name = f"fp{secrets.token_hex(5)}"
        folder = self.folder / name
        (folder / "cache").mkdir(parents=True)
        return Plot(self, name, folder)


@dataclass
class Plot:
    """What belongs to one run: its name, which is its prefix everywhere, its folder and its children."""

    stage: Stage
    name: str
    folder: Path
    children: list[Child] = field(default_factory=list)

    @property
    def key_prefix(self) -> str:
        """What its keys in Redis begin with."""
        return f"{{{self.name}}}:"

    @property
    def object_prefix(self) -> str:
        """What its objects begin with."""
        return f"{self.name}/"

    def start(self, *, target: int = -1, nth: int = 1, armed: bool = False, concurrency: int = 1) -> Child:
        """Start a service; `target` is the point that kills it."""
        number = len(self.children)
        path = self.folder / f"board-{number}"
        Board.create(path, len(self.stage.points))
        child = Child(self.stage.zygote, Board(path), self.folder / f"log-{number}")
        self.children.append(child)
        words = {"board": str(path), "log": str(child.log), "target": target, "nth": nth, "armed": armed}
        self.stage.zygote.fork(child, words | {"settings": self._settings(concurrency)})
        return child

    def api(self, port: int) -> Api:
        """A client of one of its services."""
        return Api(self.stage.session, f"http://127.0.0.1:{port}")

    def _settings(self, concurrency: int) -> dict[str, Any]:
        """Little memory, so that files spill and parts wait; short times, so that an heir comes soon."""
        s3 = self.stage.s3
        return {
            "server": {"port": 0, "drain_s": 0},
            "redis": {"url": self.stage.redis.url, "prefix": self.name},
            "storage": {
                "endpoint_url": s3.endpoint_url,
                "access_key_id": s3.access_key_id,
                "secret_access_key": s3.secret_access_key,
                "bucket": BUCKET,
                "prefix": self.object_prefix,
                "part_bytes": 5 * MIB,
            },
            "sources": {"allow_networks": ["127.0.0.0/8"], "attempts": 3},
            "jobs": {"max_job_bytes": 1024 * MIB},
            "memory": {"budget_bytes": 24 * MIB},
            "cache": {"dir": str(self.folder / "cache"), "disk_bytes": 64 * MIB},
            "worker": {
                "concurrency": concurrency,
                "lease_s": LEASE_S,
                "renew_s": LEASE_S / 4,
                "reap_s": 0.15,
                "sweep_s": 0.2,
            },
            "log": {"format": "json"},
        }

    async def close(self) -> None:
        """End what still lives of it and forget it everywhere."""
        for child in self.children:
            child.send(signal.SIGKILL)
            await child.end(10)
            child.board.close()
        self.stage.origin.forget(self.name)


@asynccontextmanager
async def staged(redis: Redis, s3: S3) -> AsyncIterator[Stage]:
    """Put up what runs share, on neighbours that run already."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="failpoints-")))
        client = RedisClient.from_url(redis.url)
        stack.push_async_callback(client.aclose)
        clients = await stack.enter_async_context(s3_clients(s3.settings(BUCKET)))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        origin = await stack.enter_async_context(serving())
        zygote = await stack.enter_async_context(_zygote())
        yield Stage(redis, s3, client, clients.api, session, origin, zygote, folder)


@asynccontextmanager
async def _zygote() -> AsyncIterator[Zygote]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.failpoints.zygote",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES_MAX,
        cwd=Path(__file__).parents[2],
        # Every child would read the system's certificates, and no source here has any.
        env=os.environ | {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull},
    )
    zygote = Zygote(process)
    try:
        await zygote.hear_sites()
        listening = asyncio.create_task(zygote.listen())
        try:
            yield zygote
        finally:
            assert process.stdin is not None
            process.stdin.close()
            await listening
    finally:
        await process.wait()
