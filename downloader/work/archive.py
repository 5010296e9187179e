"""The ZIP archive as a series of transactions on a multipart upload: begin, write, commit or roll back; then finish.

A bad file leaves not a byte behind, every local header is complete, and nothing is called finished before it has been
read back. Data lies in the order in which it was written, the central directory in the order of the request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

import structlog
from isal import isal_zlib

from downloader.errors import StorageError
from downloader.jobs import Archive
from downloader.observing import SILENT, Observer
from downloader.work.parts import PartStream
from downloader.work.upload import Begun, Store
from downloader.work.zipformat import (
    EntryHead,
    EntryTail,
    Method,
    batched,
    central_header,
    end_records,
    fill_in,
    local_header,
)

if TYPE_CHECKING:
    from downloader.work.budget import ByteBudget
    from downloader.work.checkpoint import Ledger
    from downloader.work.storage import PartReceipt

__all__ = ["ArchiveWriter", "EntryHead", "Method"]

log = structlog.get_logger(__name__)

_DIRECTORY_BLOCK_BYTES = 256 * 1024


class _Open:
    """The entry that is being written."""

    def __init__(self, head: EntryHead, offset: int) -> None:
        self.head = head
        self.offset = offset
        self.slots: list[memoryview] = []
        self.compressed = 0


class ArchiveWriter:
    """Writes one archive to `key`; used by one task at a time.

    `ledger` hears of everything before it is stored, so that it can be swept: this class deletes nothing. The caller
    has reserved `config.job_minimum_bytes`; more parts fly only when `budget` has room for them. With `begun` it goes
    on behind the parts of an upload that was begun (`resume` first); `landed` is called whenever a part is answered.
    All methods raise StorageError; after any error or cancellation `rollback` undoes an entry and `close` ends it all.
    """

    def __init__(
        self,
        storage: Store,
        key: str,
        *,
        part_bytes: int,
        parts_in_flight: int,
        budget: ByteBudget,
        ledger: Ledger,
        begun: Begun | None = None,
        landed: Callable[[], None] = lambda: None,
    ) -> None:
        self._storage = storage
        self._key = key
        self._stream = PartStream(
            storage,
            key,
            part_bytes=part_bytes,
            parts_in_flight=parts_in_flight,
            budget=budget,
            ledger=ledger,
            begun=begun,
            landed=landed,
        )
        self._open: _Open | None = None
        self._records: list[tuple[int, bytes]] = []

    @property
    def position(self) -> int:
        """Bytes of the archive so far."""
        return self._stream.position

    @property
    def confirmed(self) -> tuple[str, list[PartReceipt]]:
        """The upload's id and the parts that the store has, from the first byte on without a gap."""
        return self._stream.confirmed

    @property
    def entries(self) -> int:
        """Entries that are committed."""
        return len(self._records)

    async def resume(self, entries: Sequence[tuple[EntryHead, EntryTail]], rest: bytes) -> None:
        """Take over entries that lie in the parts of `begun` and in `rest`, the bytes that follow these parts."""
        self._records = [(head.index, central_header(head, tail)) for head, tail in entries]
        await self._stream.append([rest])

    def put(self, head: EntryHead, crc32: int, packed: bytes | memoryview) -> EntryTail | None:
        """Add a small entry that is whole, in one step; `head` has its size, `packed` its bytes as they are stored.

        Gives the values of its headers; None, and nothing done, where it does not fit into the part that is being
        filled. ValueError when the size cannot be true.
        """
        if self._open is not None or head.size is None:
            raise RuntimeError("an entry is open already, or its size is not known")
        if head.method is Method.STORED and head.size != len(packed):
            raise ValueError(f"entry {head.index}: {len(packed)} bytes are not what was announced")
        tail = EntryTail(self.position, crc32, head.size, len(packed))
        if not self._stream.put([local_header(head, tail), packed]):
            return None
        self._records.append((head.index, central_header(head, tail)))
        return tail

    async def begin(self, entry: EntryHead) -> None:
        """Open an entry; its local header is written blank and filled in by `commit`."""
        if self._open is not None:
            raise RuntimeError("an entry is open already")
        blank = local_header(entry, EntryTail(self.position, 0, 0, 0))
        self._open = _Open(entry, self.position)
        self._open.slots = await self._stream.place(blank)

    async def write(self, buffers: Sequence[bytes | bytearray | memoryview]) -> None:
        """Add bytes of the open entry, compressed already if it is deflated; the buffers are ours from now on."""
        entry = self._entry()
        before = self.position
        try:
            await self._stream.append(buffers)
        finally:
            entry.compressed += self.position - before

    async def commit(self, crc32: int, size: int) -> tuple[EntryHead, EntryTail]:
        """Complete the open entry with the CRC-32 and size of its uncompressed bytes; from here on it stays.

        Gives the values of its headers. ValueError, and nothing changed, when the size cannot be true.
        """
        entry = self._entry()
        tail = EntryTail(entry.offset, crc32, size, entry.compressed)
        if (entry.head.method is Method.STORED and size != entry.compressed) or entry.head.size not in (None, size):
            raise ValueError(f"entry {entry.head.index}: {size} bytes are not what was announced or written")
        record = central_header(entry.head, tail)
        if tail.sizes_need_64 or len(entry.slots) > 1:
            header = local_header(entry.head, tail)
            for slot in entry.slots:
                slot[:], header = header[: len(slot)], header[len(slot) :]
        else:
            fill_in(entry.slots[0], tail)
        self._records.append((entry.head.index, record))
        self._open = None
        await self._stream.release()
        return entry.head, tail

    async def rollback(self) -> None:
        """Undo the open entry, so that not a byte of it stays; fine when none is open."""
        self._open = None
        await self._stream.rollback()

    async def finish(self, observer: Observer = SILENT) -> Archive:
        """Write the directory, store the archive and read it back. StorageError `verify_failed` when it differs."""
        if self._open is not None or not self._records:
            raise RuntimeError("an archive is finished with no entry open and at least one committed")
        start = self.position
        crc32 = 0
        with observer.tracer.span("finish", {"downloader.archive.entries": len(self._records)}):
            for block in self._directory(start):
                crc32 = isal_zlib.crc32(block, crc32)
                await self._stream.append([block])
            etag, receipts = await self._stream.finish()
        with observer.tracer.span("verify", {"downloader.archive.bytes": self.position}):
            await self._verify(etag, receipts, start, crc32)
        name = self._key.rpartition("/")[2]
        return Archive(self._key, name, self.position, len(self._records), etag)

    async def close(self) -> None:
        """Cut off what is on its way. May be called again, and at any time; what the store has stays there."""
        self._open = None
        await self._stream.close()

    def _entry(self) -> _Open:
        if self._open is None:
            raise RuntimeError("no entry is open")
        return self._open

    def _directory(self, start: int) -> list[bytes]:
        self._records.sort(key=lambda record: record[0])
        size = sum(len(record) for _, record in self._records)
        blocks = batched((record for _, record in self._records), _DIRECTORY_BLOCK_BYTES)
        return [*blocks, end_records(len(self._records), size, start)]

    async def _verify(self, etag: str, receipts: Sequence[PartReceipt], start: int, crc32: int) -> None:
        """Look whether the store has what was sent: size, ETag, and the directory byte for byte by its CRC-32."""
        info = await self._storage.head(self._key)
        if info is None or info.size != self.position:
            raise _differs("size", None if info is None else info.size, self.position)
        expected = self._storage.expected_etag(receipts) if receipts else None
        if info.etag != etag or expected not in (None, etag):
            raise _differs("ETag", info.etag, expected or etag)
        found, length = 0, 0
        async with aclosing(self._storage.read(self._key, start, self.position)) as pieces:
            async for piece in pieces:
                found = isal_zlib.crc32(piece, found)
                length += len(piece)
        if (found, length) != (crc32, self.position - start):
            raise _differs("directory", f"{found:08x}", f"{crc32:08x}")


def _differs(what: str, found: object, expected: object) -> StorageError:
    log.error("archive.verify_failed", what=what, found=found, expected=expected)
    return StorageError("verify_failed", f"the stored archive has another {what} than was written")
