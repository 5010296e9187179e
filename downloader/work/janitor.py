"""Sweeps the bucket: what attempts that ended badly left behind, and archives whose time is over.

Every replica runs one; all it does may be done twice. Cleaning up an attempt is always Abort, then DELETE.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol, TypeVar

import structlog

from downloader.errors import StorageError, UnavailableError
from downloader.work.pipeline import attempt_key
from downloader.work.storage import Storage

SWEEP_S = 15.0

log = structlog.get_logger(__name__)


class Leftover(Protocol):
    """What an attempt may have left; `upload_id` and `key` are empty when no upload is known."""

    @property
    def job_id(self) -> str:
        """The job."""
        ...

    @property
    def token(self) -> str:
        """The attempt."""
        ...

    @property
    def upload_id(self) -> str:
        """Its upload."""
        ...


L = TypeVar("L", bound=Leftover)


class Remains(Protocol[L]):
    """Where it is remembered what there is to sweep; `state/queue.py` has it in Redis."""

    async def debris(self) -> list[L]:
        """Leftovers that are due."""
        ...

    async def swept(self, debris: L) -> None:
        """Forget one that is gone."""
        ...

    async def expired_archives(self) -> list[str]:
        """Keys of archives that are due."""
        ...

    async def archive_gone(self, key: str) -> None:
        """Forget one that is gone."""
        ...


async def keep_clean(remains: Remains[Any], storage: Storage, key_prefix: str) -> None:
    """Sweep every SWEEP_S until cancelled; what cannot be done now is done the next time."""
    while True:
        try:
            for leftover in await remains.debris():
                await _sweep(storage, leftover, key_prefix)
                await remains.swept(leftover)
            for key in await remains.expired_archives():
                await storage.delete(key)
                await remains.archive_gone(key)
        except (UnavailableError, StorageError) as error:
            log.warning("janitor.interrupted", reason=error.message)
        await asyncio.sleep(SWEEP_S)


async def _sweep(storage: Storage, leftover: Leftover, key_prefix: str) -> None:
    key = attempt_key(key_prefix, leftover.job_id, leftover.token)
    if leftover.upload_id:
        await storage.abort(key, leftover.upload_id)
    await storage.delete(key)
