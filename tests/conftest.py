"""The neighbours of all tests: one Valkey and one SeaweedFS per run, a service of its own per test, and leak checks."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis as RedisClient

from downloader.config import Settings
from downloader.service import running
from tests.api import Api
from tests.files import Origin, serving
from tests.servers import S3, Redis, start_valkey, start_weed

# Keys of the service as a whole; everything else must go by itself once its job has ended.
LASTING = frozenset(
    {
        "debris",
        "delayed",
        "expiries",
        "hooks",
        "keys",
        "leases",
        "live",
        "maintenance",
        "ring",
        "secret",
        "sizes",
        "stored",
        "suspects",
        "turn",
        "uploads",
        "wake",
    }
)

Start = Callable[..., AbstractAsyncContextManager[Api]]
# What waits as much as it computes; what measures times has the machine to itself.
WAITING = ("not slow and not deep", "slow and not alone")
LINUX = sys.platform == "linux"


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """One process more than there are cores for tests that wait as much as they compute; else as usual (None)."""
    return len(os.sched_getaffinity(0)) + 1 if config.option.markexpr in WAITING and LINUX else None


@pytest.fixture(scope="session")
def valkey() -> Iterator[Redis]:
    """A Valkey for the whole run."""
    with start_valkey() as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """A SeaweedFS for the whole run."""
    with start_weed() as server:
        yield server


@pytest.fixture
def settings(valkey: Redis, s3: S3) -> dict[str, Any]:
    """Settings as a service of its own needs them: its prefix in Redis and in the bucket, loopback sources allowed."""
    name = f"t{secrets.token_hex(6)}"
    return {
        "server": {"port": 0, "drain_s": 0},
        "redis": {"url": valkey.url, "prefix": name},
        "storage": s3.settings(prefix=f"{name}/").model_dump(),
        "sources": {"allow_networks": ["127.0.0.0/8", "::1/128"], "attempts": 2},
    }


def merged(base: dict[str, Any], changes: dict[str, dict[str, Any]]) -> Settings:
    """Settings with some keys of some sections changed."""
    return Settings.model_validate(base | {name: base.get(name, {}) | part for name, part in changes.items()})


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client."""
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def start(settings: dict[str, Any], session: aiohttp.ClientSession) -> AsyncIterator[Start]:
    """Services that share Redis and S3.

    Each is begun by `async with start(section={"key": value}) as api`.
    """
    before = asyncio.all_tasks()

    @asynccontextmanager
    async def starting(**changes: dict[str, Any]) -> AsyncIterator[Api]:
        async with running(merged(settings, changes)) as service:
            yield Api(session, f"http://127.0.0.1:{service.port}")

    yield starting
    left = {task for task in asyncio.all_tasks() - before if not task.done() and task is not asyncio.current_task()}
    assert not left, f"tasks left behind: {left}"
    await no_leaks(settings)


async def no_leaks(settings: dict[str, Any]) -> None:
    """Every key that outlives its job has a time to live; nothing stays queued, leased or uploading."""
    client = RedisClient.from_url(settings["redis"]["url"])
    prefix = f"{{{settings['redis']['prefix']}}}:"
    try:
        forever = []
        async for key in client.scan_iter(f"{prefix}*"):
            name = key.decode().removeprefix(prefix)
            if name not in LASTING and await client.ttl(key) == -1:
                forever.append(name)
        assert not forever, f"keys without TTL: {sorted(forever)}"
        assert await client.zcard(f"{prefix}leases") == 0
    finally:
        await client.aclose()


@pytest.fixture
async def api(start: Start) -> AsyncIterator[Api]:
    """One service with default settings."""
    async with start() as api:
        yield api


@pytest.fixture
async def small_service(start: Start) -> AsyncIterator[Api]:
    """A service with the least memory that is allowed and no disk."""
    async with start(
        jobs={"max_job_bytes": 1024**3},
        storage={"part_bytes": 5 * 1024 * 1024},
        memory={"budget_bytes": 24 * 1024 * 1024},
        cache={"disk_bytes": 0},
    ) as api:
        yield api


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    """A source of files."""
    async with serving() as origin:
        yield origin
