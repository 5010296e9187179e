"""Keeps an eye on the store: no job is taken while it is away, and taking resumes by itself."""

from __future__ import annotations

import asyncio

import structlog

from downloader.errors import UnavailableError
from downloader.observing import SILENT, Observer
from downloader.work.storage import Storage

CHECK_S = 10.0
RETRY_S = 1.0

log = structlog.get_logger(__name__)


class StorageWatch:
    """Prepares the bucket as soon as the store answers, then looks after it now and then."""

    def __init__(self, storage: Storage, observer: Observer = SILENT) -> None:
        self._storage = storage
        self._meter = observer.meter
        self._prepared = False
        self.available = asyncio.Event()

    async def look(self) -> None:
        """Check once; UnavailableError when the store is away, StartError when the settings do not fit it."""
        try:
            if self._prepared:
                await self._storage.ping()
            else:
                await self._storage.prepare()
                self._prepared = True
        except UnavailableError:
            self.available.clear()
            self._meter.seen("storage", there=False)
            raise
        self.available.set()
        self._meter.seen("storage", there=True)

    async def run(self) -> None:
        """Look until cancelled, and say so when the store goes or comes back."""
        while True:
            before = self.available.is_set()
            try:
                await self.look()
            except UnavailableError as error:
                if before:
                    log.warning("storage.away", reason=error.message)
            else:
                if not before:
                    log.info("storage.available")
            await asyncio.sleep(CHECK_S if self.available.is_set() else RETRY_S)
