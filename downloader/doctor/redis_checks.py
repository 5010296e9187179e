"""Redis: whether it answers, keeps what it is told, lets our scripts run, and has the same time as we."""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

from downloader.config import RedisSettings, Settings
from downloader.doctor.findings import Finding, fail, ok, warn
from downloader.errors import ConfigError, UnavailableError
from downloader.state.client import Client, answered, connect, opened
from downloader.state.keys import Keys
from downloader.state.scripts import Scripts
from downloader.state.watch import concerns

# Flags in scripts came with 7.0 (Valkey has always had them), WAITAOF with 7.2.
LEAST_VERSION, LEAST_DURABLE = (7, 0), (7, 2)
CONCERNS = {"redis.not_durable": "redis persistence", "redis.evicts": "redis eviction"}
PINGS = 5
SLOW_S = 0.02
FULL_SHARE = 0.8
# From when on times in answers look odd; from when on leases, links and signatures go wrong (S3 refuses at 900 s).
SKEW_WARN_S, SKEW_FAIL_S = 2.0, 60.0
SCRATCH_S = 60
DURABLE_WAIT_MS = 2000


async def examine_redis(effective: Settings) -> AsyncIterator[Finding]:
    """Look at Redis; ends after the first finding when it cannot be reached."""
    settings = effective.redis
    try:
        client = connect(settings.url)
    except ConfigError as error:
        yield fail("redis", error.message, "correct redis.url")
        return
    async with opened(client):
        try:
            yield await _reached(client, settings)
            async for finding in _condition(client, settings):
                yield finding
            if effective.access.open is False:
                yield await _keys(client, settings.prefix)
        except UnavailableError as error:
            yield fail("redis", error.message, "check redis.url, and that Redis runs and can be reached from here")


async def _condition(client: Client, settings: RedisSettings) -> AsyncIterator[Finding]:
    found = await concerns(client, settings.durable_ack)
    for concern in found:
        # A durable acknowledgement without the file it is written to never comes: no job would be taken in.
        tell = fail if settings.durable_ack and concern.event == "redis.not_durable" else warn
        yield tell(CONCERNS[concern.event], concern.reason, concern.remedy)
    if not found:
        yield ok(CONCERNS["redis.not_durable"], "the append-only file is on, and nothing is evicted")
    yield await _room(client)
    yield await _scripts(client, settings.prefix)
    if settings.durable_ack and not found:
        yield await _durable_ack(client, settings.prefix)
    yield await _clock(client, settings.prefix)


async def _reached(client: Client, settings: RedisSettings) -> Finding:
    times = []
    for _ in range(PINGS):
        begun = time.perf_counter()
        await answered(client.ping())
        times.append(time.perf_counter() - begun)
    product, text = _version(await answered(client.info("server")))
    took_s = statistics.median(times)
    found = f"{product} {text} answers in {took_s * 1000:.1f} ms"
    least = LEAST_DURABLE if settings.durable_ack else LEAST_VERSION
    if tuple(int(part) for part in text.split(".")[:2] if part.isdigit()) < least:
        return fail("redis", found, f"version {'.'.join(map(str, least))} or later is needed")
    if took_s > SLOW_S:
        return warn("redis", found, "every call waits for it: bring it nearer, or give it more processor")
    return ok("redis", found)


def _version(info: dict[str, Any]) -> tuple[str, str]:
    for product, key in (("Valkey", "valkey_version"), ("Redis", "redis_version")):
        if key in info:
            return product, str(info[key])
    return "Redis", "0"


async def _room(client: Client) -> Finding:
    memory = await answered(client.info("memory"))
    used, most = int(memory.get("used_memory", 0)), int(memory.get("maxmemory", 0))
    mib = f"{used / 2**20:.0f} MiB in use"
    if most and used > FULL_SHARE * most:
        found = f"{mib} of {most / 2**20:.0f}"
        return warn("redis memory", found, "raise maxmemory: when it is full no job is taken in")
    return ok("redis memory", mib + (f" of {most / 2**20:.0f}" if most else ", without a limit"))


async def _scripts(client: Client, prefix: str) -> Finding:
    """Run a script and write a key, as every call does; a user with too few rights fails here."""
    scratch = f"{{{prefix}}}:doctor:{uuid4().hex}"
    await Scripts(client, prefix).run("server")
    await answered(client.set(scratch, "1", ex=SCRATCH_S))
    await answered(client.delete(scratch))
    return ok("redis scripts", "scripts run and keys can be written")


async def _keys(client: Client, prefix: str) -> Finding:
    """Where nobody may call without a key there has to be one."""
    if await Keys(client, Scripts(client, prefix)).any():
        return ok("access.keys", "there are keys to call with")
    return fail("access.keys", "every call needs a key, and there is none", "make one: downloader keys new TENANT")


async def _durable_ack(client: Client, prefix: str) -> Finding:
    begun = time.perf_counter()
    async with client.client() as connection:  # WAITAOF is about the writes of its own connection
        await answered(connection.set(f"{{{prefix}}}:doctor:{uuid4().hex}", "1", ex=SCRATCH_S))
        wait: Any = connection.execute_command  # redis-py has no types for it
        synced = await answered(wait("WAITAOF", 1, 0, DURABLE_WAIT_MS))
    if not synced or int(synced[0]) < 1:
        found = f"a write was not on disk after {DURABLE_WAIT_MS} ms"
        return fail("redis.durable_ack", found, "check the disk of Redis, or set redis.durable_ack = false")
    return ok("redis.durable_ack", f"a write is on disk after {(time.perf_counter() - begun) * 1000:.0f} ms")


async def _clock(client: Client, prefix: str) -> Finding:
    # By a script with a key of ours: in a cluster this asks the server that keeps our jobs.
    begun, begun_s = time.perf_counter(), time.time()
    seconds, micros = await answered(client.eval("return redis.call('TIME')", 1, f"{{{prefix}}}:"))
    half_way_s = begun_s + (time.perf_counter() - begun) / 2
    return judge_clock("redis clock", int(seconds) + int(micros) / 1e6 - half_way_s, "Redis")


def judge_clock(name: str, ahead_s: float, whose: str) -> Finding:
    """What it means that another's clock is `ahead_s` seconds before ours (behind, when negative)."""
    found = f"the clock of {whose} is {abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} this machine's"
    remedy = "have both set by NTP"
    if abs(ahead_s) > SKEW_FAIL_S:
        return fail(name, found, f"{remedy}: leases, links and signatures depend on it")
    if abs(ahead_s) > SKEW_WARN_S:
        return warn(name, found, remedy)
    return ok(name, f"the clocks of {whose} and of this machine agree")
