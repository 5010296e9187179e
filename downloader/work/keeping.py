"""Kept files: each file of a finished archive as an object of its own, taken from the archive.

Read back and checked against its CRC-32 on the way, so that what a link leads to is what the archive holds. Small files
that lie beside one another are read together; one larger than a part is read, and sent, part by part.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import structlog
from isal import isal_zlib

from downloader.errors import StorageError
from downloader.jobs import kept_folder, kept_key
from downloader.work.partbody import PartBody
from downloader.work.threads import Threads, off_loop
from downloader.work.together import together
from downloader.work.upload import Upload
from downloader.work.zipformat import Method

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from downloader.work.checkpoint import Ledger, SavedEntry
    from downloader.work.storage import Storage

GROUP_FILES = 16
PARTS_IN_FLIGHT = 2
PIECE_BYTES = 1024 * 1024
# Below this a hop to a thread costs more than the work.
INLINE_BYTES = 64 * 1024
TRIES = 4
FIRST_PAUSE_S = 0.5

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Keeper:
    """Stores the files of the archive at `archive_key` below a folder of the same name.

    `ledger` hears of the folder, and of each upload, before anything is stored there. The memory that was reserved for
    building the archive is enough: two parts on their way, one being filled, one being read.
    """

    def __init__(
        self, storage: Storage, archive_key: str, ledger: Ledger, threads: Threads, *, part_bytes: int
    ) -> None:
        self._storage = storage
        self._archive_key = archive_key
        self._ledger = ledger
        self._threads = threads
        self._part_bytes = part_bytes

    async def keep(self, entries: Sequence[SavedEntry]) -> None:
        """Store all of them; StorageError when that cannot be done, `verify_failed` when one reads back differently."""
        await self._ledger.storing(kept_folder(self._archive_key))
        for group in _groups(sorted(entries, key=lambda entry: entry.end), self._part_bytes):
            if group[0].tail.size > self._part_bytes:
                await _tried(partial(self._keep_large, group[0]))
            else:
                await _tried(partial(self._keep_small, group))

    async def _keep_small(self, group: Sequence[SavedEntry]) -> None:
        """Read the stretch of the archive that the files lie in, and store each."""
        start = _data_start(group[0])
        async with aclosing(self._storage.read(self._archive_key, start, max(group[-1].end, start + 1))) as pieces:
            stretch = memoryview(b"".join([piece async for piece in pieces]))
        packed = (stretch[_data_start(entry) - start : entry.end - start] for entry in group)
        await together([partial(self._store, *each) for each in zip(group, packed, strict=True)], GROUP_FILES)

    async def _store(self, entry: SavedEntry, packed: memoryview) -> None:
        unpacker = _Unpacker(entry)
        if len(packed) <= INLINE_BYTES and entry.tail.size <= INLINE_BYTES:
            pieces = list(unpacker.pieces(packed))
        else:
            pieces = await off_loop(self._threads.compute, lambda: list(unpacker.pieces(packed)))
        unpacker.check()
        await self._storage.put(self._key(entry), PartBody(pieces), _content_type(entry))

    async def _keep_large(self, entry: SavedEntry) -> None:
        upload = Upload(
            self._storage,
            self._key(entry),
            parts_in_flight=PARTS_IN_FLIGHT,
            ledger=self._ledger,
            landed=lambda: None,
            content_type=_content_type(entry),
        )
        try:
            await self._send(entry, upload)
            await upload.complete()
        except StorageError:
            # The next try announces an upload of its own, so nobody would look for this one. Whatever else ends us
            # leaves it announced, to be swept.
            await upload.close()
            if upload.upload_id is not None:
                with suppress(StorageError):
                    await self._storage.abort(self._key(entry), upload.upload_id)
            raise
        finally:
            await upload.close()
        info = await self._storage.head(self._key(entry))
        if info is None or info.size != entry.tail.size:
            raise _differs(entry)

    async def _send(self, entry: SavedEntry, upload: Upload) -> None:
        """Cut the file into parts and send them; it is checked before the upload is completed."""
        unpacker, position, part, size = _Unpacker(entry), 0, list[memoryview](), 0
        async with aclosing(self._unpacked(entry, unpacker)) as pieces:
            async for piece in pieces:
                rest = piece
                while rest:
                    taken, rest = rest[: self._part_bytes - size], rest[self._part_bytes - size :]
                    part.append(taken)
                    size += len(taken)
                    if size == self._part_bytes:
                        await upload.place()
                        upload.launch(upload.take_number(), position, PartBody(part))
                        position, part, size = position + size, [], 0
        unpacker.check()
        if part:
            await upload.place()
            upload.launch(upload.take_number(), position, PartBody(part))

    async def _unpacked(self, entry: SavedEntry, unpacker: _Unpacker) -> AsyncGenerator[memoryview, None]:
        async with aclosing(self._storage.read(self._archive_key, _data_start(entry), entry.end)) as packed:
            async for block in packed:
                unpacking = unpacker.pieces(memoryview(block))
                while (piece := await off_loop(self._threads.compute, next, unpacking, None)) is not None:
                    yield piece

    def _key(self, entry: SavedEntry) -> str:
        return kept_key(self._archive_key, entry.result.index)


class _Unpacker:
    """Undoes an entry's compression piece by piece, and watches its size and CRC-32."""

    def __init__(self, entry: SavedEntry) -> None:
        self._entry = entry
        self._inflater = zlib.decompressobj(-15) if entry.head.method is Method.DEFLATED else None
        self._size = 0
        self._crc32 = 0

    def pieces(self, packed: memoryview) -> Iterator[memoryview]:
        """The plain form of `packed`, at most 1 MiB at a time; raises StorageError when it cannot be unpacked."""
        for piece in self._stored(packed) if self._inflater is None else self._inflated(self._inflater, packed):
            self._size += len(piece)
            self._crc32 = isal_zlib.crc32(piece, self._crc32)
            yield piece

    def _stored(self, packed: memoryview) -> Iterator[memoryview]:
        return (packed[start : start + PIECE_BYTES] for start in range(0, len(packed), PIECE_BYTES))

    def _inflated(self, inflater: zlib._Decompress, packed: memoryview) -> Iterator[memoryview]:
        pending, plain = bytes(packed), b""
        # All input may be taken while there is still output to come: a piece that is full is not the last one.
        while pending or len(plain) == PIECE_BYTES:
            try:
                plain = inflater.decompress(pending, PIECE_BYTES)
            except zlib.error:
                raise _differs(self._entry) from None
            pending = inflater.unconsumed_tail
            if plain:
                yield memoryview(plain)

    def check(self) -> None:
        """Raise StorageError when what came is not the entry."""
        tail = self._entry.tail
        if (self._size, self._crc32) != (tail.size, tail.crc32):
            raise _differs(self._entry)


def _groups(entries: Sequence[SavedEntry], part_bytes: int) -> Iterator[list[SavedEntry]]:
    """Neighbours that fit into one part together; one that does not fit alone stands alone."""
    group: list[SavedEntry] = []
    for entry in entries:
        size = sum(max(one.tail.size, one.tail.compressed) for one in [*group, entry])
        if group and (size > part_bytes or len(group) == GROUP_FILES):
            yield group
            group = []
        group.append(entry)
    if group:
        yield group


async def _tried(work: Callable[[], Awaitable[T]]) -> T:
    """Do `work`, which may be done again, a few times while the store stumbles."""
    for tried in range(1, TRIES):
        try:
            return await work()
        except StorageError as error:
            if not error.transient:
                raise
            log.info("kept.retry", tried=tried, code=error.code, reason=error.message)
        await asyncio.sleep(FIRST_PAUSE_S * 2 ** (tried - 1))
    return await work()


def _data_start(entry: SavedEntry) -> int:
    return entry.end - entry.tail.compressed


def _content_type(entry: SavedEntry) -> str:
    return entry.result.content_type or "application/octet-stream"


def _differs(entry: SavedEntry) -> StorageError:
    log.error("kept.verify_failed", file=entry.result.index)
    return StorageError("verify_failed", "a file reads back from the stored archive otherwise than it was written")
