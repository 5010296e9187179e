"""The ledger of an attempt, in memory: for the archive writer's own tests."""

from __future__ import annotations

from collections.abc import Sequence

from downloader.work.janitor import sweep
from downloader.work.storage import Storage


class MemoryLedger:
    """Remembers what was stored (key -> upload id, "" while none is known) and the pieces of the checkpoint."""

    def __init__(self, inherited: Sequence[bytes] = ()) -> None:
        self.stored: dict[str, str] = {}
        self.pieces: dict[int, bytes] = {}
        self.superseded_at: int | None = None
        self._inherited = inherited

    async def storing(self, key: str, upload_id: str = "") -> None:
        """Note what is about to be stored."""
        self.stored[key] = upload_id

    async def save(self, number: int, piece: bytes, *, supersedes: bool) -> None:
        """Keep a piece."""
        self.pieces[number] = piece
        if supersedes and self.superseded_at is None:
            self.superseded_at = number

    async def inherited(self) -> Sequence[bytes]:
        """What an earlier attempt left."""
        return self._inherited

    async def sweep(self, storage: Storage) -> None:
        """Remove all that was stored, as the service does for an attempt that nobody goes on from."""
        for key, upload_id in self.stored.items():
            await sweep(storage, key, upload_id, key)
