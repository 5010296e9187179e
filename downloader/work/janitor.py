"""Sweeps the bucket: what attempts that ended badly left behind, and archives whose time is over.

Every replica runs one; all it does may be done twice. Cleaning up an attempt is always Abort, then DELETE.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol, TypeVar

import structlog

from downloader.errors import StorageError, UnavailableError
from downloader.jobs import kept_folder
from downloader.work.pipeline import attempt_key
from downloader.work.storage import Storage

TIDY_LIMIT_S = 10.0

log = structlog.get_logger(__name__)


class Leftover(Protocol):
    """What an attempt may have left; `upload_id` is empty when it is not known whether there was an upload."""

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
        """Its last upload."""
        ...

    @property
    def key(self) -> str:
        """What it said last that it would store; empty when that is not known."""
        ...


L = TypeVar("L", bound=Leftover)


class Remains(Protocol[L]):
    """Where it is remembered what there is to sweep; `state/queue.py` has it in Redis."""

    async def debris(self) -> list[L]:
        """Leftovers that are due."""
        ...

    async def forsaken(self, job_id: str, token: str) -> L | None:
        """What an attempt left, if nobody needs it any more."""
        ...

    async def swept(self, debris: L) -> None:
        """Forget one that is gone."""
        ...

    async def expired_archives(self) -> list[str]:
        """Keys of archives, and folders of kept files, that are due."""
        ...

    async def archive_gone(self, key: str) -> None:
        """Forget one that is gone."""
        ...


class Janitor:
    """Sweeps what nobody needs any more, and nothing else: the memory says what that is."""

    def __init__(self, remains: Remains[Any], storage: Storage, key_prefix: str, sweep_s: float) -> None:
        self._remains = remains
        self._storage = storage
        self._key_prefix = key_prefix
        self._sweep_s = sweep_s

    async def run(self) -> None:
        """Sweep every `sweep_s` seconds until cancelled; what cannot be done now is done the next time."""
        while True:
            try:
                for leftover in await self._remains.debris():
                    await self._sweep(leftover)
                for key in await self._remains.expired_archives():
                    await (self._storage.clear(key) if key.endswith("/") else self._storage.delete(key))
                    await self._remains.archive_gone(key)
            except (UnavailableError, StorageError) as error:
                log.warning("janitor.interrupted", reason=error.message)
            await asyncio.sleep(self._sweep_s)

    async def tidy(self, job_id: str, token: str) -> None:
        """Sweep at once what an attempt left that has just ended, unless another is to go on from it."""
        try:
            async with asyncio.timeout(TIDY_LIMIT_S):
                leftover = await self._remains.forsaken(job_id, token)
                if leftover is not None:
                    await self._sweep(leftover)
        except (TimeoutError, UnavailableError, StorageError) as error:
            log.info("janitor.later", job_id=job_id, reason=str(error) or "timeout")

    async def _sweep(self, leftover: Leftover) -> None:
        key = attempt_key(self._key_prefix, leftover.job_id, leftover.token)
        await sweep(self._storage, key, leftover.upload_id, leftover.key)
        await self._remains.swept(leftover)


async def sweep(storage: Storage, key: str, upload_id: str, last_key: str) -> None:
    """Remove what an attempt stored at `key` and below: its upload, "" where none is known, its object, its files.

    `last_key` is what it said last that it would store, "" where that is not known.
    """
    folder = kept_folder(key)
    if last_key.startswith(folder):  # the archive was finished: an upload can only be a file's
        if upload_id:
            await storage.abort(last_key, upload_id)
        await storage.clear(folder)
    elif not last_key:
        await storage.abort_all(key)
        await storage.clear(folder)
    elif upload_id:
        await storage.abort(key, upload_id)
    else:  # it may have begun an upload and died before it could say which
        await storage.abort_all(key)
    await storage.delete(key)
