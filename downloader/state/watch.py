"""Keeps an eye on Redis: says when it goes and comes back, and what in its set-up could lose acknowledged jobs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from downloader.errors import UnavailableError
from downloader.observing import SILENT, Observer
from downloader.state.client import Client, answered

CHECK_S = 10.0
RETRY_S = 1.0

log = structlog.get_logger(__name__)


async def watch_redis(client: Client, durable_ack: bool, observer: Observer = SILENT) -> None:
    """Look until cancelled; each time Redis (re)appears its persistence is judged anew."""
    available: bool | None = None
    while True:
        try:
            await answered(client.ping())
            if not available:
                log.info("redis.available")
                for concern in await concerns(client, durable_ack):
                    log.warning(concern.event, reason=concern.reason, remedy=concern.remedy)
            available = True
            observer.meter.seen("redis", there=True)
        except UnavailableError as error:
            if available is not False:
                log.warning("redis.away", reason=error.message, remedy="the service waits for it; check redis.url")
            available = False
            observer.meter.seen("redis", there=False)
        await asyncio.sleep(CHECK_S if available else RETRY_S)


@dataclass(frozen=True, slots=True)
class Concern:
    """Something in Redis's set-up that could lose jobs: the log's event, why, and what to do."""

    event: str
    reason: str
    remedy: str


async def concerns(client: Client, durable_ack: bool) -> list[Concern]:
    """What in the set-up of Redis could lose acknowledged jobs; UnavailableError when Redis is away."""
    persistence = await answered(client.info("persistence"))
    memory = await answered(client.info("memory"))
    found: list[Concern] = []
    if not int(persistence.get("aof_enabled", 0)):
        reason = "the append-only file is off: jobs are lost when Redis stops"
        remedy = "set appendonly yes" + (" (redis.durable_ack cannot work without it)" if durable_ack else "")
        found.append(Concern("redis.not_durable", reason, remedy))
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        reason = f"maxmemory-policy is {policy}: a full Redis throws jobs away"
        found.append(Concern("redis.evicts", reason, "set maxmemory-policy noeviction"))
    return found
