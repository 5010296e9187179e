"""Keeps an eye on Redis: says when it goes and comes back, and what in its set-up could lose acknowledged jobs."""

from __future__ import annotations

import asyncio

import structlog

from downloader.errors import UnavailableError
from downloader.state.client import Client, answered

CHECK_S = 10.0
RETRY_S = 1.0

log = structlog.get_logger(__name__)


async def watch_redis(client: Client, durable_ack: bool) -> None:
    """Look until cancelled; each time Redis (re)appears its persistence is judged anew."""
    available: bool | None = None
    while True:
        try:
            await answered(client.ping())
            if not available:
                log.info("redis.available")
                await _judge(client, durable_ack)
            available = True
        except UnavailableError as error:
            if available is not False:
                log.warning("redis.away", reason=error.message, remedy="the service waits for it; check redis.url")
            available = False
        await asyncio.sleep(CHECK_S if available else RETRY_S)


async def _judge(client: Client, durable_ack: bool) -> None:
    persistence = await answered(client.info("persistence"))
    memory = await answered(client.info("memory"))
    if not int(persistence.get("aof_enabled", 0)):
        log.warning(
            "redis.not_durable",
            reason="the append-only file is off: jobs are lost when Redis stops",
            remedy="set appendonly yes" + (" (redis.durable_ack cannot work without it)" if durable_ack else ""),
        )
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        log.warning(
            "redis.evicts",
            reason=f"maxmemory-policy is {policy}: a full Redis throws jobs away",
            remedy="set maxmemory-policy noeviction",
        )
