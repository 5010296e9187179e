"""A private Valkey and SeaweedFS from PyPI wheels, for development, the demo and small set-ups on one machine.

They listen on loopback only, with credentials and ports that are made once per data folder and kept there, so that
jobs, archives and links outlive a restart. `keeper.py` holds them: a small process that ends them when the service
ends, however it ends. Linux and macOS.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog
from pydantic import SecretStr

from downloader.config import Settings
from downloader.embedded.folder import DataFolder
from downloader.embedded.holding import held
from downloader.embedded.servers import Server, seaweedfs, valkey
from downloader.errors import StartError

log = structlog.get_logger(__name__)

EMBEDDED = "embedded"


@asynccontextmanager
async def embedded(settings: Settings) -> AsyncIterator[Settings]:
    """Run the servers that the settings call for and yield the settings that reach them.

    The settings come back unchanged when neither Redis nor S3 is "embedded". Raises StartError with one line that
    names the remedy.
    """
    wanted = [settings.redis.url, settings.storage.endpoint_url]
    if EMBEDDED not in wanted:
        yield settings
        return
    if sys.platform == "win32":
        raise StartError("the embedded servers need Linux or macOS: set redis.url and storage.endpoint_url")
    async with DataFolder.opened(Path(settings.embedded.data_dir)) as folder:
        servers: list[Server] = []
        if settings.redis.url == EMBEDDED:
            servers.append(valkey(folder))
        if settings.storage.endpoint_url == EMBEDDED:
            servers.append(seaweedfs(folder, settings.storage))
        async with held(servers, folder.data_lock):
            log.info("embedded.ready", servers=[server.name for server in servers], data_dir=str(folder.path))
            yield _pointed(settings, servers)


def _pointed(settings: Settings, servers: list[Server]) -> Settings:
    """The settings with the servers' addresses and keys in place of "embedded"."""
    changes: dict[str, Any] = {}
    for server in servers:
        section = getattr(settings, server.section)
        changes[server.section] = section.model_copy(
            update={key: SecretStr(value) if key.startswith("secret") else value for key, value in server.reach.items()}
        )
    return settings.model_copy(update=changes)
