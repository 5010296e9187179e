"""Going on from what a dead attempt left: seal its upload, copy what is whole, read the rest.

Sealing is completing the upload with the parts of the checkpoint. The dead attempt's own key becomes a scratch object,
and the attempt is fenced off: should it still be alive, its upload is no longer there to be written to. The heir's own
upload then takes over whole parts without their bytes passing through here, up to the end of the last entry that is
wanted; the bytes of that entry beyond the last whole part, less than a part, are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

import structlog

from downloader.work.checkpoint import Checkpoint, Ledger, SavedEntry
from downloader.work.storage import PartReceipt, Storage
from downloader.work.storage_errors import CallError
from downloader.work.together import together
from downloader.work.upload import Begun

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Heritage:
    """An upload of our own that holds what an earlier attempt had; `rest` are the bytes that follow its parts."""

    begun: Begun
    rest: bytes
    entries: tuple[SavedEntry, ...]


def usable(checkpoint: Checkpoint, *, part_bytes: int, files: int, ordered: bool) -> tuple[SavedEntry, ...]:
    """The entries to take over, in the order they lie in the archive.

    None of them when the parts have another size than ours. With `ordered` only those that lie as in an archive whose
    files all came: a file that failed before may come this time, and has to stand in its place.
    """
    if checkpoint.part_bytes != part_bytes:
        return ()
    entries = sorted((entry for entry in checkpoint.entries if entry.head.index < files), key=lambda entry: entry.end)
    if ordered:
        in_place = (position == entry.head.index for position, entry in enumerate(entries))
        entries = entries[: next((position for position, fits in enumerate(in_place) if not fits), len(entries))]
    return tuple(entries)


class Heir:
    """Takes over a checkpoint into the upload of a new attempt at `key`."""

    def __init__(self, storage: Storage, key: str, ledger: Ledger, *, copies_in_flight: int) -> None:
        self._storage = storage
        self._key = key
        self._ledger = ledger
        self._copies_in_flight = copies_in_flight

    async def take_over(self, checkpoint: Checkpoint, entries: Sequence[SavedEntry]) -> Heritage | None:
        """Make an upload of our own that goes as far as `entries`; None when that cannot be: begin from nothing.

        It cannot when the dead attempt's upload is gone or has become something else, or when the store does not copy
        parts. Raises StorageError (transient) while the store is away.
        """
        end = max((entry.end for entry in entries), default=0)
        whole = end // checkpoint.part_bytes
        if not whole or not await self._sealed(checkpoint):
            return None
        await self._ledger.storing(self._key)
        upload_id = await self._storage.create_upload(self._key, "application/zip")
        await self._ledger.storing(self._key, upload_id)
        try:
            parts = await self._copy(checkpoint, upload_id, whole)
            rest = await self._read(checkpoint.key, whole * checkpoint.part_bytes, end)
        except CallError as error:
            if error.transient:
                raise
            log.warning("resume.refused", reason=error.message)
            await self._storage.abort(self._key, upload_id)
            return None
        return Heritage(Begun(upload_id, parts), rest, tuple(entries))

    async def _sealed(self, checkpoint: Checkpoint) -> bool:
        """Complete the dead attempt's upload; True when its object is exactly the parts of the checkpoint."""
        try:
            etag = await self._storage.complete(checkpoint.key, checkpoint.upload_id, checkpoint.parts)
        except CallError as error:
            if error.transient:
                raise
            log.info("resume.upload_gone", reason=error.message)
            return False
        # Some stores answer for an upload that is complete already, whatever parts are named.
        info = await self._storage.head(checkpoint.key)
        size = sum(part.size for part in checkpoint.parts)
        return info is not None and info.size == size and info.etag == etag

    async def _copy(self, checkpoint: Checkpoint, upload_id: str, count: int) -> tuple[PartReceipt, ...]:
        async def copy(number: int, part: PartReceipt) -> PartReceipt:
            start = (number - 1) * checkpoint.part_bytes
            return await self._storage.copy_part(checkpoint.key, start, part, self._key, upload_id, number)

        numbered = enumerate(checkpoint.parts[:count], 1)
        return tuple(await together([partial(copy, *each) for each in numbered], self._copies_in_flight))

    async def _read(self, key: str, start: int, end: int) -> bytes:
        if start == end:
            return b""
        async with aclosing(self._storage.read(key, start, end)) as pieces:
            return b"".join([piece async for piece in pieces])
