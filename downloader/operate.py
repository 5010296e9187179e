"""What an operator does to a service at work: API keys, maintenance, a callback once more."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from downloader.config import Settings
from downloader.embedded import reached
from downloader.errors import RequestError, StartError, UnavailableError
from downloader.keys import NAME_CHARS, TENANT_PATTERN, ApiKey
from downloader.observing import AUDIT
from downloader.state.client import Client, connect, opened
from downloader.state.hooks import Callbacks
from downloader.state.keys import Keys
from downloader.state.maintenance import Maintenance
from downloader.state.scripts import Scripts

log = structlog.get_logger(AUDIT)

Say = Callable[[str], None]
DAY_S = 86_400
MESSAGE = "The service takes no new jobs for the moment; jobs that were taken in go on. Try again later."


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of the service, opened for one command."""

    client: Client
    scripts: Scripts


@asynccontextmanager
async def _memory(settings: Settings) -> AsyncIterator[Memory]:
    """Reach the memory, beside a running service or without one; StartError when it does not answer."""
    try:
        async with reached(_without_store(settings)) as effective, opened(connect(effective.redis.url)) as client:
            yield Memory(client, Scripts(client, effective.redis.prefix))
    except UnavailableError as error:
        raise StartError(f"{error.message}; check redis.url") from error


def _without_store(settings: Settings) -> Settings:
    """The settings with a store that is none of ours to start: these commands need the memory only."""
    return settings.model_copy(update={"storage": settings.storage.model_copy(update={"endpoint_url": ""})})


async def new_key(settings: Settings, say: Say, tell: Say, tenant: str, name: str, days: float | None) -> int:
    """Make a key; `say` gets the key alone, `tell` what there is to know about it."""
    if not re.fullmatch(TENANT_PATTERN, tenant):
        raise StartError(f"{tenant!r} is no tenant: use up to 64 letters, digits, dots, dashes and underscores")
    if len(name) > NAME_CHARS:
        raise StartError(f"--name may have at most {NAME_CHARS} characters")
    async with _memory(settings) as memory:
        key, text = await Keys(memory.client, memory.scripts).make(tenant, name, days and days * DAY_S)
    log.info("audit.key_made", tenant=tenant, key_id=key.key_id)
    tell(f"Key {key.key_id} of tenant {tenant}, {_until(key)}. It is shown this once; keep it secret.")
    say(text)
    return 0


async def list_keys(settings: Settings, say: Say) -> int:
    """Print all keys, one line each, without their secrets."""
    async with _memory(settings) as memory:
        keys = await Keys(memory.client, memory.scripts).all()
    for key in keys:
        say(f"{key.key_id}  {key.tenant}  made {_day(key.created_ms)}, {_until(key)}  {key.name}".rstrip())
    say(f"{len(keys)} keys")
    return 0


async def revoke_key(settings: Settings, say: Say, key_id: str) -> int:
    """Revoke a key; gives 1 when there is none of this id."""
    async with _memory(settings) as memory:
        was_there = await Keys(memory.client, memory.scripts).revoke(key_id)
    if was_there:
        log.info("audit.key_revoked", key_id=key_id)
    say(f"Key {key_id} is revoked." if was_there else f"There is no key {key_id}; see: downloader keys list")
    return 0 if was_there else 1


async def maintenance(settings: Settings, say: Say, wanted: str, message: str) -> int:
    """Switch maintenance mode `on` or `off`, or tell which it is (`status`)."""
    async with _memory(settings) as memory:
        switch = Maintenance(memory.client, memory.scripts)
        if wanted == "on":
            await switch.begin(message or MESSAGE)
        elif wanted == "off":
            await switch.end()
        now = await switch.message()
    if wanted != "status":
        log.info("audit.maintenance", state=wanted)
    say("maintenance is off: jobs are taken" if now is None else f"maintenance is on; callers are told: {now}")
    return 0


async def redeliver(settings: Settings, say: Say, job_id: str) -> int:
    """Have an ended job's callback delivered again; gives 1 when it cannot be."""
    try:
        wanted = str(uuid.UUID(job_id))
    except ValueError:
        raise StartError(f"{job_id!r} is no job id") from None
    try:
        async with _memory(settings) as memory:
            await Callbacks(memory.client, memory.scripts).again(wanted)
    except RequestError as error:
        say(error.message)
        return 1
    log.info("audit.redeliver", job_id=wanted)
    say(f"The callback of job {wanted} is due now.")
    return 0


def _until(key: ApiKey) -> str:
    return "without end" if key.expires_ms is None else f"until {_day(key.expires_ms)}"


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
