"""From the cache into the archive: each file is an entry that is committed whole or rolled back without a trace."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from downloader.errors import SourceError
from downloader.jobs import Options
from downloader.work.archive import ArchiveWriter, EntryHead, Method
from downloader.work.cache import Entry, RestartedError
from downloader.work.deflate import Level, deflate, worth_compressing
from downloader.work.deflating import INLINE_BYTES, Deflating
from downloader.work.inspection import Inspection
from downloader.work.threads import Threads, off_loop
from downloader.work.zipformat import EntryTail

TRIAL_BYTES = 64 * 1024


@dataclass(slots=True)
class Arriving:
    """A file between fetch and archive: its bytes, and what its fetch has found out so far."""

    entry: Entry
    name: str
    inspected: asyncio.Future[Inspection]
    content_type: str | None = None
    mtime: datetime | None = None
    length: int | None = None
    length_verified: bool = True


class Packed(NamedTuple):
    """A file that is in the archive: what was found out about it, and the values of its headers."""

    inspection: Inspection
    head: EntryHead
    tail: EntryTail


class Packer:
    """Writes entries into one archive."""

    def __init__(self, writer: ArchiveWriter, threads: Threads, options: Options, level: Level) -> None:
        self._writer = writer
        self._threads = threads
        self._options = options
        self._level = level

    async def pack(self, file: Arriving) -> Packed:
        """Write the file as one entry, following it while it arrives if need be.

        A source that starts anew in the middle is packed anew. Raises SourceError when the file fails, with the
        archive as if it had never been begun.
        """
        while True:
            try:
                return await self._attempt(file)
            except RestartedError:
                await self._writer.rollback()
            except SourceError:
                await self._writer.rollback()
                raise

    def put(self, file: Arriving) -> Packed | None:
        """Write a small file that is all here in one step; None, and nothing done, when that cannot be."""
        data = file.entry.whole(INLINE_BYTES)
        if data is None or not _known(file.inspected):
            return None
        inspection = file.inspected.result()
        wish = self._options.compress
        is_worth_it = wish is True or (wish == "auto" and worth_compressing(data, file.content_type, file.name))
        is_deflated = bool(data) and is_worth_it
        kind = Method.DEFLATED if is_deflated else Method.STORED
        head = EntryHead(file.entry.index, file.name, file.mtime, kind, inspection.size)
        tail = self._writer.put(head, inspection.crc32, deflate(data, self._level) if is_deflated else data)
        return None if tail is None else Packed(inspection, head, tail)

    async def _attempt(self, file: Arriving) -> Packed:
        first = await file.entry.read()
        size = file.inspected.result().size if _known(file.inspected) else file.length
        if await self._compress(file, first):
            await self._begin(file, "deflated", size)
            await self._deflate(file.entry, first)
        else:
            await self._begin(file, "stored", size)
            await self._store(file.entry, first)
        inspection = await file.inspected
        head, tail = await self._writer.commit(inspection.crc32, inspection.size)
        return Packed(inspection, head, tail)

    async def _begin(self, file: Arriving, method: Literal["stored", "deflated"], size: int | None) -> None:
        kind = Method.DEFLATED if method == "deflated" else Method.STORED
        await self._writer.begin(EntryHead(file.entry.index, file.name, file.mtime, kind, size))

    async def _compress(self, file: Arriving, first: Sequence[bytes | memoryview]) -> bool:
        if not first or self._options.compress is False:
            return False
        if self._options.compress is True:
            return True
        block = first[0] if len(first[0]) >= TRIAL_BYTES else b"".join(first)
        sample = block[:TRIAL_BYTES]
        if len(sample) <= INLINE_BYTES:
            return worth_compressing(sample, file.content_type, file.name)
        return await off_loop(self._threads.compute, worth_compressing, sample, file.content_type, file.name)

    async def _store(self, entry: Entry, batch: Sequence[bytes | memoryview]) -> None:
        while batch:
            await self._writer.write(batch)
            batch = await entry.read()

    async def _deflate(self, entry: Entry, batch: Sequence[bytes | memoryview]) -> None:
        with Deflating(self._threads.compute, self._level) as deflating:
            while batch:
                await self._writer.write(await deflating.take(batch))
                batch = await entry.read()
            await self._writer.write(await deflating.finish())


def _known(inspected: asyncio.Future[Inspection]) -> bool:
    return inspected.done() and not inspected.cancelled() and inspected.exception() is None
