"""A private Valkey and SeaweedFS from PyPI wheels, for development, the demo and small set-ups on one machine.

They listen on loopback only, with credentials and ports that are made once per data folder and kept there, so that
jobs, archives and links outlive a restart. `keeper.py` holds them: a small process that ends them when the service
ends, however it ends. Linux and macOS.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog
from pydantic import SecretStr

from downloader.config import Settings
from downloader.embedded.folder import DataFolder, holder
from downloader.embedded.holding import held
from downloader.embedded.identity import IDENTITY_FILE, Identity
from downloader.embedded.servers import Reach, Server, seaweedfs, seaweedfs_reach, valkey, valkey_reach
from downloader.errors import StartError

log = structlog.get_logger(__name__)

EMBEDDED = "embedded"
# How long the servers of a service that has just been started may take to answer, in seconds.
ANSWER_S = 20.0


@asynccontextmanager
async def embedded(settings: Settings) -> AsyncIterator[Settings]:
    """Run the servers that the settings call for and yield the settings that reach them.

    The settings come back unchanged when neither Redis nor S3 is "embedded". Raises StartError with one line that
    names the remedy.
    """
    if not _wanted(settings):
        yield settings
        return
    if sys.platform == "win32":
        raise StartError("the embedded servers need Linux or macOS: set redis.url and storage.endpoint_url")
    async with DataFolder.opened(data_folder(settings)) as folder:
        servers: list[Server] = []
        if settings.redis.url == EMBEDDED:
            servers.append(valkey(folder))
        if settings.storage.endpoint_url == EMBEDDED:
            servers.append(seaweedfs(folder, settings.storage))
        async with held(servers, folder.data_lock):
            log.info("embedded.ready", servers=[server.name for server in servers], data_dir=str(folder.path))
            yield _pointed(settings, [server.reach for server in servers])


@asynccontextmanager
async def reached(settings: Settings) -> AsyncIterator[Settings]:
    """Yield settings that reach the servers, whoever runs them: a service that is at work, else this block.

    For commands that must work beside a running service as well as without one. Raises StartError, also when the
    folder is another user's: its keys are its owner's, and servers started by others would leave files it cannot read.
    """
    if not _wanted(settings) or sys.platform == "win32":
        running = None
    else:
        running = await _of_running_service(settings, data_folder(settings))
    if running is not None:
        yield running
        return
    async with embedded(settings) as started:
        yield started


def _wanted(settings: Settings) -> bool:
    return EMBEDDED in (settings.redis.url, settings.storage.endpoint_url)


def data_folder(settings: Settings) -> Path:
    """Where the data of the embedded servers lie."""
    return Path(settings.embedded.data_dir).absolute()


async def _of_running_service(settings: Settings, path: Path) -> Settings | None:
    """The settings that reach the servers of the service on the folder; None when no service holds it."""
    _check_owner(path)
    waiting: Sequence[str] = ()
    process: str | None = None
    deadline = asyncio.get_running_loop().time() + ANSWER_S
    while asyncio.get_running_loop().time() < deadline:
        process = holder(path)
        if process is None:
            return None
        if (path / IDENTITY_FILE).exists():  # else the service is at its very first start
            reaches = _reaches(settings, Identity.read(path))
            waiting = [reach.name for reach in reaches if not await reach.answers()]
            if not waiting:
                return _pointed(settings, reaches)
        await asyncio.sleep(0.1)
    raise StartError(
        f"{path} is in use by another downloader (process {process}), but its {' and '.join(waiting) or 'servers'} "
        f"did not answer to the keys there within {ANSWER_S:.0f} s: give the settings that it runs with, or stop it"
    )


def _check_owner(path: Path) -> None:
    """StartError when the keys in the folder are another user's."""
    try:
        owner = (path / IDENTITY_FILE).stat().st_uid
    except FileNotFoundError:
        return
    except OSError as error:
        raise StartError(f"embedded.data_dir: cannot look into {path} ({error.strerror}); run as its owner") from error
    if owner != os.geteuid():
        raise StartError(f"{path} belongs to another user (id {owner}): run the command as that user")


def _reaches(settings: Settings, identity: Identity) -> list[Reach]:
    reaches: list[Reach] = []
    if settings.redis.url == EMBEDDED:
        reaches.append(valkey_reach(identity))
    if settings.storage.endpoint_url == EMBEDDED:
        reaches.append(seaweedfs_reach(identity, settings.storage))
    return reaches


def _pointed(settings: Settings, reaches: Sequence[Reach]) -> Settings:
    """The settings with the servers' addresses and keys in place of "embedded"."""
    changes: dict[str, Any] = {}
    for reach in reaches:
        section = getattr(settings, reach.section)
        changes[reach.section] = section.model_copy(
            update={
                key: SecretStr(value) if key.startswith("secret") else value for key, value in reach.settings.items()
            }
        )
    return settings.model_copy(update=changes)
