"""`downloader doctor`: looks at everything that is easily set up wrong, and says for each what to do.

Works beside a running service and without one. It writes to Redis and to the bucket, but only scratch keys that it
removes; it prints names of hosts and folders, never a key, a password or a whole URL.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing

from downloader.config import Settings
from downloader.doctor.access_checks import examine_access, examine_extras, examine_guard, examine_sources
from downloader.doctor.findings import Finding, fail, has_failure, to_json
from downloader.doctor.machine_checks import examine_machine
from downloader.doctor.name_checks import Lookups, examine_names
from downloader.doctor.redis_checks import examine_redis
from downloader.doctor.store_checks import examine_store
from downloader.embedded import reached
from downloader.errors import ConfigError, StartError

# How long one neighbour may take to be looked at, in seconds; one that hangs is a finding too.
LIMIT_S = 60.0


async def doctor(load: Callable[[], Settings], say: Callable[[str], None], *, as_json: bool) -> int:
    """Print each finding as it is made, or all at the end as JSON; gives 1 when something fails, else 0."""
    findings = []
    async with aclosing(_examined(load)) as examined:
        async for finding in examined:
            findings.append(finding)
            if not as_json:
                say(finding.line())
    if as_json:
        say(to_json(findings))
    return int(has_failure(findings))


async def _examined(load: Callable[[], Settings]) -> AsyncGenerator[Finding, None]:
    try:
        settings = load()
    except ConfigError as error:
        yield fail("settings", error.message, "nothing else was looked at")
        return
    lookups = Lookups(settings)
    for examine in (examine_access, examine_guard, examine_sources, examine_extras, examine_machine):
        for finding in examine(settings):
            yield finding
    async with aclosing(_neighbours(settings)) as neighbours:
        async for finding in neighbours:
            yield finding
    async for finding in examine_names(lookups):
        yield finding


async def _neighbours(settings: Settings) -> AsyncGenerator[Finding, None]:
    async with AsyncExitStack() as stack:
        try:
            effective = await stack.enter_async_context(reached(settings))
        except StartError as error:
            yield fail("embedded", error.message, "neither Redis nor the store was looked at")
            return
        for name, examined in (("redis", examine_redis(effective)), ("storage", examine_store(effective))):
            async for finding in _within(LIMIT_S, name, examined):
                yield finding


async def _within(limit_s: float, name: str, findings: AsyncIterator[Finding]) -> AsyncIterator[Finding]:
    """Pass findings on; when they take longer than `limit_s` altogether, that is the last one."""
    gathered: list[Finding] = []
    try:
        async with asyncio.timeout(limit_s):
            async for finding in findings:
                gathered.append(finding)  # noqa: PERF401 - what was found before the limit counts
    except TimeoutError:
        remedy = "look at its load, its disk and the network between"
        gathered.append(fail(name, f"no end within {limit_s:.0f} s", remedy))
    for finding in gathered:
        yield finding
