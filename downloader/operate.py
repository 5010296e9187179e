"""What an operator does to a service at work: API keys, maintenance, a callback once more."""

from __future__ import annotations

import getpass
import re
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from downloader import keys
from downloader.config import Settings
from downloader.embedded import EMBEDDED, data_folder, reached
from downloader.embedded.folder import holder
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
DAYS_MAX = 36_500
MESSAGE_CHARS = 500
MESSAGE = "The service takes no new jobs for the moment; jobs that were taken in go on. Try again later."


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of the service, opened for one command."""

    client: Client
    scripts: Scripts


@asynccontextmanager
async def _memory(settings: Settings, tell: Say, *, makes: bool = False) -> AsyncIterator[Memory]:
    """Reach the memory, beside a running service or without one; StartError when it does not answer.

    Where nobody has begun a memory yet, `makes` begins one; all else would be done to nobody's.
    """
    folder = data_folder(settings)
    if settings.redis.url == EMBEDDED and not holder(folder):
        if not makes and not _is_begun(folder):
            raise StartError(f"there is no {folder}: run this where the service runs, or give its --config or --set")
        tell(f"No service is at work on {folder}; this is done to its data.")
    try:
        async with reached(_without_store(settings)) as effective, opened(connect(effective.redis.url)) as client:
            yield Memory(client, Scripts(client, effective.redis.prefix))
    except UnavailableError as error:
        raise StartError(f"redis.url: {error.message}") from error


def _is_begun(folder: Path) -> bool:
    return folder.exists()


def _without_store(settings: Settings) -> Settings:
    """The settings with a store that is none of ours to start: these commands need the memory only."""
    return settings.model_copy(update={"storage": settings.storage.model_copy(update={"endpoint_url": ""})})


async def new_key(
    settings: Settings, say: Say, tell: Say, tenant: str, name: str, days: float | None, *, admin: bool = False
) -> int:
    """Make a key; `say` gets the key alone, `tell` what there is to know about it."""
    if not re.fullmatch(TENANT_PATTERN, tenant):
        raise StartError(f"{tenant!a} is no tenant: use up to 64 letters, digits, dots, dashes and underscores")
    if tenant == keys.PUBLIC_TENANT:
        raise StartError(f"{tenant} is the tenant of callers without a key; take another name")
    _require_plain("--name", name, NAME_CHARS)
    if days is not None and not 0 < days <= DAYS_MAX:
        raise StartError(f"--expires-days must be more than 0 and at most {DAYS_MAX}")
    async with _memory(settings, tell, makes=True) as memory:
        known = Keys(memory.client, memory.scripts)
        key, text = await known.make(tenant, name, days and days * DAY_S, admin=admin)
    say(text)
    tell(f"Key {key.key_id} of tenant {tenant}, {_rights(key)}{_until(key)}. It is shown this once; keep it secret.")
    _note("key_made", tenant=tenant, key_id=key.key_id, rights="admin" if admin else "tenant")
    return 0


async def list_keys(settings: Settings, say: Say, tell: Say) -> int:
    """Print all keys, one line each, without their secrets."""
    async with _memory(settings, tell) as memory:
        found = await Keys(memory.client, memory.scripts).all()
    for key in found:
        say(
            f"{key.key_id}  {key.tenant}  made {_day(key.created_ms)}, {_rights(key)}{_until(key)}  {key.name}".rstrip()
        )
    tell(f"{len(found)} {'key' if len(found) == 1 else 'keys'}")
    return 0


async def revoke_key(settings: Settings, say: Say, tell: Say, key_id: str) -> int:
    """Revoke a key, given by its id or whole; gives 1 when there is none of this id."""
    parsed = keys.parse(key_id)
    wanted = parsed[0] if parsed else key_id.removeprefix("dl_")
    _require_plain("KEY_ID", wanted, keys.ID_CHARS)
    async with _memory(settings, tell) as memory:
        was_there = await Keys(memory.client, memory.scripts).revoke(wanted)
    if was_there:
        _note("key_revoked", key_id=wanted)
    say(f"Key {wanted} is revoked." if was_there else f"There is no key {wanted}; see: downloader keys list")
    return 0 if was_there else 1


async def maintenance(settings: Settings, say: Say, tell: Say, wanted: str, message: str) -> int:
    """Switch maintenance mode `on` or `off`, or tell which it is (`status`)."""
    _require_plain("--message", message, MESSAGE_CHARS)
    async with _memory(settings, tell) as memory:
        switch = Maintenance(memory.client, memory.scripts)
        if wanted == "on":
            await switch.begin(message or MESSAGE)
        elif wanted == "off":
            await switch.end()
        now = await switch.message()
    if wanted != "status":
        _note("maintenance", state=wanted)
    say("maintenance is off: jobs are taken" if now is None else f"maintenance is on; callers are told: {now}")
    return 0


async def redeliver(settings: Settings, say: Say, tell: Say, job_id: str) -> int:
    """Have an ended job's callback delivered again; gives 1 when it cannot be."""
    try:
        wanted = str(uuid.UUID(job_id))
    except ValueError:
        raise StartError(f"{job_id!a} is no job id") from None
    try:
        async with _memory(settings, tell) as memory:
            await Callbacks(memory.client, memory.scripts).again(wanted)
    except RequestError as error:
        say(error.message)
        return 1
    _note("redeliver", job_id=wanted)
    say(f"The callback of job {wanted} is due now.")
    return 0


def _require_plain(option: str, text: str, most: int) -> None:
    """Refuse what a list or a log could not show as one line; bytes that are no UTF-8 are among it."""
    if len(text) > most or not text.isprintable():
        raise StartError(f"{option} may have at most {most} characters, all of them printable (in UTF-8)")


def _note(action: str, **what: str) -> None:
    """Have the audit log know what was done here, and by whom on this machine."""
    event = f"audit.{action}"
    log.info(event, user=_user(), **what)


def _user() -> str:
    """Who runs this; in a container often a number without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _rights(key: ApiKey) -> str:
    return "admin, " if key.admin else ""


def _until(key: ApiKey) -> str:
    return "without end" if key.expires_ms is None else f"until {_day(key.expires_ms)}"


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
