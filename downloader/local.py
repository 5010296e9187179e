"""The service in this process for the length of one command: `fetch` without a server."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from downloader import lifetime, settings
from downloader.client.server import Server
from downloader.config import Settings
from downloader.service import running

HOST = "127.0.0.1"


@asynccontextmanager
async def local(config: Path | None, overrides: dict[str, str]) -> AsyncIterator[Server]:
    """Run a service for this command alone, on any free port of the loopback; yields where it is.

    Settings come from flags, environment and the `config` that is named; a ./config.toml that merely lies there is a
    service's. Where they name no data folder, the data go with the command. Raises StartError.
    """
    given = settings.load(config, overrides, files=config is not None)
    with _folder(given) as folder:
        lifetime.raise_open_files()
        async with running(_own(given, folder)) as service:
            yield Server(f"http://{HOST}:{service.port}", is_own=True)


def _own(given: Settings, folder: str) -> Settings:
    """The settings with the doors of a service that nobody else calls."""
    server = {"host": HOST, "port": 0, "public_url": "", "drain_s": 0}
    changes = {
        "server": given.server.model_copy(update=server),
        "access": given.access.model_copy(update={"open": "loopback"}),
        "telemetry": given.telemetry.model_copy(update={"metrics": False}),
        "embedded": given.embedded.model_copy(update={"data_dir": folder}),
    }
    return given.model_copy(update=changes)


@contextmanager
def _folder(given: Settings) -> Iterator[str]:
    if "data_dir" in given.embedded.model_fields_set:
        yield given.embedded.data_dir
        return
    with tempfile.TemporaryDirectory(prefix="downloader-fetch-") as folder:
        yield folder
