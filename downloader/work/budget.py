"""The one byte budget of the process: what files on their way and upload parts may take in memory.

A job's minimum is waited for (`reserve`), everything beyond it is only tried (`try_reserve`), so nobody ever holds
something while waiting for more: that is why this cannot deadlock. Disk space is counted by the same rules.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Bell:
    """Wakes all who watch it; each brings an event of its own, so one waiter can watch several bells."""

    def __init__(self) -> None:
        self._watchers: set[asyncio.Event] = set()

    def ring(self) -> None:
        """Set the event of every watcher."""
        for watcher in self._watchers:
            watcher.set()

    @contextmanager
    def watched_by(self, event: asyncio.Event) -> Iterator[None]:
        """Set `event` at every ring, for as long as the block runs."""
        self._watchers.add(event)
        try:
            yield
        finally:
            self._watchers.discard(event)


class ByteBudget(Bell):
    """Counts bytes that are promised, `total_bytes` at most; rings when some are given back."""

    def __init__(self, total_bytes: int) -> None:
        super().__init__()
        self.total_bytes = total_bytes
        self.used_bytes = 0
        self._waiting = 0

    @property
    def free_bytes(self) -> int:
        """Bytes that nobody has been promised."""
        return self.total_bytes - self.used_bytes

    def try_reserve(self, size_bytes: int) -> bool:
        """Take `size_bytes` if they are free and no minimum is being waited for; False otherwise."""
        if self._waiting or size_bytes > self.free_bytes:
            return False
        self.used_bytes += size_bytes
        return True

    async def reserve(self, size_bytes: int) -> None:
        """Wait until `size_bytes` are free and take them; while somebody waits here, `try_reserve` says no."""
        self._waiting += 1
        try:
            while size_bytes > self.free_bytes:
                await self.freed()
            self.used_bytes += size_bytes
        finally:
            self._waiting -= 1
            self.ring()  # who was told no because of us may try again

    def release(self, size_bytes: int) -> None:
        """Give back what was taken and wake who waits."""
        self.used_bytes -= size_bytes
        self.ring()

    async def freed(self) -> None:
        """Wait until something is given back."""
        event = asyncio.Event()
        with self.watched_by(event):
            await event.wait()
