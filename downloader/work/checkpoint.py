"""What an attempt leaves for the one that may have to follow it: confirmed parts, and the entries that lie in them.

The checkpoint grows in pieces, one after each part that was confirmed (or a few, while the memory is slow). It lists
parts from the first on without a gap, and entries that lie wholly in them; nothing in it can be taken back, since a
part that an open entry's header touches is not sent before the entry is committed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog
from pydantic import TypeAdapter, ValidationError

from downloader.errors import LeaseLostError, UnavailableError
from downloader.jobs import FileResult
from downloader.work.storage import PartReceipt
from downloader.work.zipformat import EntryHead, EntryTail

VERSION = 1
_RETRY_S = 0.5
# What is new is written down at most so often: an heir loses no more than the work of this time.
_PACE_S = 0.03

log = structlog.get_logger(__name__)


class Ledger(Protocol):
    """Where an attempt writes down what others need to go on from it, or to clean up after it.

    Every method raises LeaseLostError once the job is not ours any more.
    """

    async def storing(self, key: str, upload_id: str = "") -> None:
        """Note that something is about to be stored at `key`; waits while the memory is away."""
        ...

    async def save(self, number: int, piece: bytes, *, supersedes: bool) -> None:
        """Keep a piece of the checkpoint; `supersedes`: what came before is not needed any more."""
        ...

    async def inherited(self) -> Sequence[bytes]:
        """The pieces that an earlier attempt left, in order."""
        ...


@dataclass(frozen=True, slots=True)
class SavedEntry:
    """A committed entry: its headers' values, where it ends in the archive, and what the job says of the file."""

    head: EntryHead
    tail: EntryTail
    end: int
    result: FileResult


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An upload as far as it is confirmed: `parts` from the first byte on, each of `part_bytes`, and their entries."""

    version: int
    key: str
    upload_id: str
    part_bytes: int
    parts: tuple[PartReceipt, ...]
    entries: tuple[SavedEntry, ...]

    @property
    def end(self) -> int:
        """Where the last entry ends; the parts reach at least to there."""
        return max((entry.end for entry in self.entries), default=0)


_PIECE = TypeAdapter(Checkpoint)


def read_checkpoint(pieces: Sequence[bytes]) -> Checkpoint | None:
    """Put the pieces together; None when there are none or they are not of our making."""
    try:
        read = [_PIECE.validate_json(piece) for piece in pieces]
    except ValidationError as error:
        log.warning("checkpoint.unreadable", reason=error.errors()[0]["msg"])
        return None
    if not read or any(piece.version != VERSION for piece in read):
        return None
    first = read[0]
    parts = tuple(part for piece in read for part in piece.parts)
    entries = tuple(entry for piece in read for entry in piece.entries)
    return Checkpoint(VERSION, first.key, first.upload_id, first.part_bytes, parts, entries)


class Checkpointer:
    """Writes the checkpoint of one attempt as it grows; never in the way of the archive."""

    def __init__(
        self, ledger: Ledger, key: str, part_bytes: int, confirmed: Callable[[], tuple[str, Sequence[PartReceipt]]]
    ) -> None:
        """`confirmed` gives the upload's id and the parts that are confirmed from the first on."""
        self._ledger = ledger
        self._key = key
        self._part_bytes = part_bytes
        self._confirmed = confirmed
        self._waiting: deque[SavedEntry] = deque()
        self._told_parts = 0
        self._told_bytes = 0
        self._number = 0
        # As long as an earlier attempt's checkpoint reaches further than ours, it is the better one.
        self._needed = 0
        self._covered = 0
        self._grown = asyncio.Event()

    def inherit(self, entries: Sequence[SavedEntry]) -> None:
        """Begin with entries of an earlier attempt; what they lie in is needed until it is confirmed here."""
        self._waiting.extend(sorted(entries, key=lambda entry: entry.end))
        self._needed = max((entry.end for entry in entries), default=0)
        self.grown()

    def committed(self, entry: SavedEntry) -> None:
        """Another entry is complete in the archive; it is written down with the part that confirms it."""
        self._waiting.append(entry)

    def grown(self) -> None:
        """There may be something new to write down."""
        self._grown.set()

    async def run(self) -> None:
        """Write until cancelled; while the memory is away what is new waits."""
        while True:
            await self._grown.wait()
            self._grown.clear()
            try:
                if await self.write():
                    await asyncio.sleep(_PACE_S)
            except UnavailableError as error:
                log.info("checkpoint.waits", reason=error.message)
                await asyncio.sleep(_RETRY_S)
                self._grown.set()
            except LeaseLostError:
                return  # the worker hears of it by its own ways

    async def write(self) -> bool:
        """Write down what is new; False when there is nothing."""
        upload_id, confirmed = self._confirmed()
        parts = tuple(confirmed[self._told_parts :])
        if not parts:
            return False
        reach = self._told_bytes + sum(part.size for part in parts)
        entries = []
        for entry in self._waiting:
            if entry.end > reach:
                break
            entries.append(entry)
        covered = max(self._covered, entries[-1].end if entries else 0)
        piece = Checkpoint(VERSION, self._key, upload_id, self._part_bytes, parts, tuple(entries))
        await self._ledger.save(self._number, _PIECE.dump_json(piece), supersedes=covered >= self._needed)
        self._number += 1
        self._told_parts += len(parts)
        self._told_bytes, self._covered = reach, covered
        for _ in entries:
            self._waiting.popleft()
        return True
