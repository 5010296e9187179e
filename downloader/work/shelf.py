"""Where the files of one job stand in line for its archive.

Finished files go first, in the order they finish. Only when none is finished is a file followed while it arrives:
first one that cannot go on otherwise, then one that has outgrown its share of memory. With `ordered` the archive takes
files strictly in request order, so that the same sources give the same bytes.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque

from downloader.work.budget import Bell
from downloader.work.cache import Entry

# Faster than this neither the sources nor the store hold the archive up.
FAST_BYTES_PER_S = 50 * 1024 * 1024
PERIOD_S = 0.25


class JobShelf(Bell):
    """The line of one job; rings when a file that stood in others' way has moved."""

    def __init__(self, total_files: int, *, ordered: bool) -> None:
        super().__init__()
        self._left = total_files
        self._ordered = ordered
        self._turn = 0
        self._finished: deque[Entry] = deque()
        self._large: list[Entry] = []
        self._absent: set[int] = set()
        self._picked: Entry | None = None
        self._idle = False
        self._news = asyncio.Event()
        self._clock = asyncio.get_running_loop().time
        self._since = self._clock()
        self._taken_bytes = 0
        self._bytes_per_s = math.inf

    @property
    def stalled(self) -> bool:
        """True while a file cannot go on before the archive gets to it; no further fetch should start then."""
        return bool(self._large) and any(entry.stalled for entry in self._large)

    def outgrown(self, entry: Entry) -> bool:
        """Note a file that needs more than its share; True when the archive, idle now, follows it."""
        if entry not in self._large:
            self._large.append(entry)
        if not self._idle or self._picked is not None or not self._is_next(entry):
            return False
        self._picked = entry
        self._idle = False
        self._news.set()
        return True

    def unstalled(self) -> None:
        """A file that had to wait goes on."""
        self.ring()

    def archive_took(self, size_bytes: int) -> None:
        """The archive has taken bytes."""
        self._taken_bytes += size_bytes

    @property
    def is_archive_fast(self) -> bool:
        """Whether the archive has lately taken FAST_BYTES_PER_S or more; taken for granted at the beginning."""
        elapsed_s = self._clock() - self._since
        if elapsed_s >= PERIOD_S:
            self._bytes_per_s = self._taken_bytes / elapsed_s
            self._since, self._taken_bytes = self._clock(), 0
        return self._bytes_per_s >= FAST_BYTES_PER_S

    def finished(self, entry: Entry) -> None:
        """A file is all here; one that is followed already is not lined up again."""
        if not entry.followed:
            self._forget(entry)
            self._finished.append(entry)
            self._news.set()
        self.ring()

    def skip(self, index: int) -> None:
        """A file that is in the archive already will not stand in line; said before the first `take`."""
        self._absent.add(index)
        self._left -= 1

    def failed(self, entry: Entry) -> None:
        """A file will not come; if it is being followed the archive finds out by itself."""
        if not entry.followed:
            self._forget(entry)
            self._absent.add(entry.index)
            self._left -= 1
            self._news.set()
        self.ring()

    async def take(self) -> Entry | None:
        """The next file to pack, finished or to be followed; None when all have been taken or have failed."""
        while self._left:
            if (entry := self._next()) is not None:
                self._left -= 1
                self._turn += 1
                self._forget(entry)
                self.ring()
                return entry
            self._news.clear()
            self._idle = True
            await self._news.wait()
            self._idle = False
        return None

    def _next(self) -> Entry | None:
        while self._ordered and self._turn in self._absent:
            self._turn += 1
        if self._picked is not None:
            entry, self._picked = self._picked, None
            return entry
        for entry in self._finished:
            if self._is_next(entry):
                self._finished.remove(entry)
                return entry
        for entry in sorted(self._large, key=lambda entry: not entry.stalled):
            if self._is_next(entry):
                entry.follow()
                return entry
        return None

    def _is_next(self, entry: Entry) -> bool:
        return not self._ordered or entry.index == self._turn

    def _forget(self, entry: Entry) -> None:
        if entry in self._large:
            self._large.remove(entry)
