"""`downloader doctor`: it finds what operators get wrong, says what to do, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis as RedisClient

from downloader.work.storage import Storage
from tests.conftest import Start, merged
from tests.files import Origin
from tests.servers import free_ports, start_valkey
from tests.test_cli import as_flag, run

SECRET = "do+not+print+this+key+"


@dataclass(frozen=True)
class Visit:
    """What the doctor said: its status, and its findings by name."""

    status: int
    findings: dict[str, tuple[str, str, str]]

    def level(self, name: str) -> str:
        """How bad it is."""
        return self.findings[name][0]

    def says(self, name: str) -> str:
        """The finding and its remedy."""
        return "; ".join(self.findings[name][1:])

    @property
    def failed(self) -> set[str]:
        """The names of what is in the way."""
        return {name for name, (level, _, _) in self.findings.items() if level == "fail"}


async def visit(settings: dict[str, Any], cwd: Path, **changes: dict[str, Any]) -> Visit:
    """Run `downloader doctor --json` with some settings changed."""
    effective = settings | {name: settings.get(name, {}) | part for name, part in changes.items()}
    flags = [f"--set={name}.{key}={as_flag(value)}" for name, part in effective.items() for key, value in part.items()]
    done = await run("doctor", "--json", *flags, cwd=cwd)
    assert done.err == ""
    assert SECRET not in done.out
    body = json.loads(done.out)
    assert body["ok"] == (done.status == 0)
    found = {one["name"]: (one["level"], one["finding"], one["remedy"]) for one in body["findings"]}
    return Visit(done.status, found)


async def test_a_sound_set_up_passes_beside_a_running_service(
    start: Start, settings: dict[str, Any], tmp_path: Path
) -> None:
    """Everything is tried for real while a service is at work; afterwards bucket and Redis hold nothing of it."""
    async with start(), Storage.open(merged(settings, {}).storage) as storage:
        seen = await visit(settings, tmp_path, redis={"durable_ack": True})
        assert (seen.status, seen.failed) == (0, set())
        tried = {f"storage {call}" for call in ("put", "read", "multipart", "abort", "copy", "delete", "clock")}
        tried |= {"redis", "redis persistence", "redis.durable_ack", "redis clock", "storage", "links"}
        assert {name: seen.level(name) for name in tried} == dict.fromkeys(tried, "ok")
        assert seen.level("cache") in {"ok", "warn"}  # on many systems /tmp lies in memory, and that is told
        assert [item async for item in storage.objects(settings["storage"]["prefix"])] == []
        assert [item async for item in storage.uploads(settings["storage"]["prefix"])] == []
    async with RedisClient.from_url(settings["redis"]["url"]) as redis:
        # The one key that was waited for goes by itself.
        left = [key async for key in redis.scan_iter(f"{{{settings['redis']['prefix']}}}:doctor:*")]
        assert all([0 < await redis.ttl(key) <= 60 for key in left])


@pytest.mark.slow
async def test_each_thing_that_is_broken_is_named(settings: dict[str, Any], tmp_path: Path, origin: Origin) -> None:
    """Wrong keys, a dead Redis, a link that leads elsewhere, a bucket that is not there: status 1, and which one."""
    (nobody,) = free_ports(1)
    elsewhere = origin.url(10, "a").rpartition("/")[0]
    wrong_key, dead_redis, wrong_link, no_bucket = await asyncio.gather(
        visit(settings, tmp_path, storage={"secret_access_key": SECRET}),
        visit(settings, tmp_path, redis={"url": f"redis://:{SECRET}@127.0.0.1:{nobody}/0"}),
        visit(settings, tmp_path, storage={"public_endpoint_url": elsewhere}),
        visit(settings, tmp_path, storage={"bucket": "not-there", "create_bucket": False}),
    )
    assert [seen.status for seen in (wrong_key, dead_redis, wrong_link, no_bucket)] == [1, 1, 1, 1]
    assert wrong_key.failed == no_bucket.failed == {"storage"}
    assert "403" in wrong_key.says("storage")
    assert "storage.create_bucket" in no_bucket.says("storage")
    assert dead_redis.failed == {"redis"}
    assert dead_redis.level("storage copy") == "ok"
    assert wrong_link.failed == {"links"}
    assert "storage.public_endpoint_url" in wrong_link.says("links")
    assert wrong_link.level("storage delete") == "ok"


@pytest.mark.slow
async def test_a_redis_that_forgets_is_told(settings: dict[str, Any], tmp_path: Path) -> None:
    """Without its append-only file Redis is a worry; where durable acknowledgements were promised, it is a failure."""
    with start_valkey("--appendonly", "no", "--maxmemory-policy", "allkeys-lru") as forgetful:
        careless = await visit(settings, tmp_path, redis={"url": forgetful.url})
        promised = await visit(settings, tmp_path, redis={"url": forgetful.url, "durable_ack": True})
    assert careless.status == 0
    assert careless.level("redis persistence") == careless.level("redis eviction") == "warn"
    assert promised.failed == {"redis persistence"}


async def test_settings_that_open_too_much_are_told(settings: dict[str, Any], tmp_path: Path) -> None:
    """Metadata addresses within reach, an open door, links that nobody else can follow, no room for what is allowed."""
    seen = await visit(
        settings,
        tmp_path,
        server={"host": "0.0.0.0", "cors_origins": ["*"]},
        access={"open": True},
        webhook={"secret": f"whsec_{SECRET * 2}"},
        sources={"allow_networks": ["169.254.0.0/16", "10.0.0.0/8", "93.184.216.0/24"]},
        cache={"dir": str(tmp_path / "gone")},
        worker={"concurrency": 1000},
        limits={"streams": 10_000_000},
    )
    assert seen.failed == {"guard", "cache"}
    assert "169.254.169.254" in seen.says("guard")
    assert "cache.dir" in seen.says("cache")
    warned = {name for name, (level, _, _) in seen.findings.items() if level == "warn"}
    assert warned >= {"access", "webhook", "sources.allow_networks", "links", "memory", "open files"}


async def test_people_read_lines(tmp_path: Path) -> None:
    """Without --json there is one line per finding; settings that do not load are the only one, and status 1."""
    done = await run("doctor", "--set=server.prot=1", cwd=tmp_path)
    assert (done.status, done.err) == (1, "")
    (line,) = done.out.splitlines()
    assert line.startswith("fail  settings: server.prot (flag): there is no such key")
