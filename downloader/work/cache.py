"""Files on their way: written by a fetch, read by the archive, at the same time if need be, so that bytes move once.

An `Entry` is a queue of bytes in three stretches: `head` in memory, then a spill on disk, then `tail` in memory. A
file that stays small lies in `head` until its turn comes. One that outgrows its share is offered to the archive to be
followed while it arrives; if the archive is busy its fetch waits a little for a fast one, then goes on to disk, and
where there is no disk it waits on. A followed file needs only the window that its job has reserved, so it always gets
on: this is why the cache cannot deadlock, whatever the sizes and however small the budget.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Protocol

import structlog

from downloader.config import WINDOW_BYTES
from downloader.errors import SourceError, StartError
from downloader.work.budget import ByteBudget
from downloader.work.threads import Threads, off_loop

BATCH_BYTES = 512 * 1024
# A file that has outgrown its share waits so long for its turn, as long as the archive gets on fast: a way over the
# disk would cost as much as all else, and nothing would be done any sooner.
PATIENCE_S = 10.0
_PATIENCE_STEP_S = 0.1
ADMISSION_BYTES = 1024 * 1024

log = structlog.get_logger(__name__)


class RestartedError(Exception):
    """The source is being read anew from its first byte; what was read of the entry so far does not count."""


class Shelf(Protocol):
    """Where entries stand in line for the archive of their job."""

    def outgrown(self, entry: Entry) -> bool:
        """Say that `entry` needs more than its share; True when the archive follows it from now on."""
        ...

    def unstalled(self) -> None:
        """Say that an entry which had to wait goes on."""
        ...

    def archive_took(self, size_bytes: int) -> None:
        """Say that the archive has taken bytes."""
        ...

    @property
    def is_archive_fast(self) -> bool:
        """Whether the archive gets on so fast that a file's turn comes soon."""
        ...


@dataclass(frozen=True, slots=True)
class Cache:
    """What all entries of the process share."""

    memory: ByteBudget
    disk: ByteBudget
    folder: str
    threads: Threads
    share_bytes: int

    def check_folder(self) -> None:
        """Raise StartError when the folder cannot hold spilled files and should."""
        if self.disk.total_bytes:
            check_folder(self.folder)


def check_folder(folder: str) -> None:
    """Raise StartError when the folder cannot hold spilled files; they are unnamed, so a crash leaves none."""
    try:
        tempfile.TemporaryFile(dir=folder or None).close()
    except OSError as error:
        place = folder or tempfile.gettempdir()
        raise StartError(
            f"cache.dir: cannot write to {place} ({error.strerror}); name another folder or set cache.disk_bytes to 0"
        ) from error


class Entry:
    """The bytes of one file between its source and the archive."""

    def __init__(self, cache: Cache, shelf: Shelf, index: int, reserved_bytes: int) -> None:
        self.index = index
        self.followed = False
        self.stalled = False
        self._cache = cache
        self._shelf = shelf
        self._reserved = reserved_bytes
        self._head: deque[bytes | memoryview] = deque()
        self._head_bytes = 0
        self._spill: _Spill | None = None
        self._disk_reserved = 0
        self._tail: deque[bytes | memoryview] = deque()
        self._tail_bytes = 0
        self._read_any = False
        self._restarted = False
        self._run = 0
        self._finished = False
        self._error: SourceError | None = None
        self._changed = asyncio.Event()
        self._patience_s = PATIENCE_S

    # The fetch's side

    async def write(self, batch: Sequence[bytes | memoryview], size_bytes: int) -> None:
        """Append `batch`, waiting for room if there is none; the archive may read it at once."""
        while not self._store_in_memory(batch, size_bytes):
            if not self.followed and self._shelf.outgrown(self):
                self.follow()
            elif not self.followed and self._patience_s > 0 and self._shelf.is_archive_fast:
                await self._wait_a_little()
            elif not self.followed and await self._store_on_disk(batch, size_bytes):
                break
            else:
                await self._wait_for_room()
        self._changed.set()

    def _store_in_memory(self, batch: Sequence[bytes | memoryview], size_bytes: int) -> bool:
        if self._spill is not None:
            if not self.followed or self._tail_bytes >= WINDOW_BYTES:
                return False
            self._tail.extend(batch)
            self._tail_bytes += size_bytes
            return True
        if not self._has_room(size_bytes):
            return False
        self._head.extend(batch)
        self._head_bytes += size_bytes
        return True

    def _has_room(self, size_bytes: int) -> bool:
        """Within the share and the budget; a followed file has its job's window on top of what it has reserved."""
        missing = self._head_bytes + size_bytes - self._reserved
        if missing <= 0:
            return True
        if self.followed:
            return self._head_bytes - self._reserved < WINDOW_BYTES
        if self._reserved + missing > self._cache.share_bytes or not self._cache.memory.try_reserve(missing):
            return False
        self._reserved += missing
        return True

    async def _store_on_disk(self, batch: Sequence[bytes | memoryview], size_bytes: int) -> bool:
        if not self._cache.disk.try_reserve(size_bytes):
            return False
        # Entered before the thread begins, so that whoever closes the entry meanwhile closes and gives back all of it.
        self._disk_reserved += size_bytes
        is_first = self._spill is None
        spill = self._spill = self._spill or _Spill(self._cache.folder)
        try:
            await off_loop(self._cache.threads.disk, spill.append, batch)
        except OSError as error:
            log.warning("cache.disk_refused", reason=error.strerror, size_bytes=size_bytes)
            if self._spill is spill:
                self._disk_reserved -= size_bytes
                self._cache.disk.release(size_bytes)
                if is_first:
                    self._drop_spill()
            return False  # the disk is fuller than we were told: wait to be followed instead
        return True

    async def _wait_a_little(self) -> None:
        loop = asyncio.get_running_loop()
        since = loop.time()
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_STEP_S):
                await self._wait_for_room()
        self._patience_s -= loop.time() - since

    async def _wait_for_room(self) -> None:
        self.stalled = True
        self._changed.clear()
        with self._cache.memory.watched_by(self._changed), self._cache.disk.watched_by(self._changed):
            try:
                await self._changed.wait()
            finally:
                self.stalled = False
                self._shelf.unstalled()

    def finish(self) -> None:
        """All bytes are here."""
        self._finished = True
        if self._reserved > self._head_bytes:
            self._give_back(self._reserved - self._head_bytes)
        self._changed.set()

    def fail(self, error: SourceError) -> None:
        """There will be no more bytes; the reader gets `error` and what was written is dropped."""
        self._error = error
        self.close()

    def restart(self) -> None:
        """Forget all bytes; a reader that has seen some gets RestartedError and must take back what it did."""
        self._run += 1
        self._restarted = self._read_any
        self._drop_bytes()
        self._changed.set()

    # The archive's side

    def follow(self) -> None:
        """From now on the archive reads along, so the fetch may always go on."""
        self.followed = True
        self._changed.set()

    def whole(self, most_bytes: int) -> bytes | memoryview | None:
        """The file, if it is all here, in memory and no larger; None when it has to be read as it comes."""
        is_whole = self._finished and self._spill is None and not (self._error or self._read_any or self._restarted)
        if not is_whole or self._tail or self._head_bytes > most_bytes:
            return None
        return self._head[0] if len(self._head) == 1 else b"".join(self._head)

    async def read(self) -> list[bytes | memoryview]:
        """The next bytes, about BATCH_BYTES; [] at the end.

        Raises SourceError when the file failed, RestartedError when it is being fetched anew.
        """
        while True:
            if self._error is not None:
                raise self._error
            if self._restarted:
                self._restarted = self._read_any = False
                raise RestartedError
            run = self._run
            batch = await self._take()
            if run != self._run:
                continue  # read from the disk while the file was being started anew
            if batch:
                self._read_any = True
                self._shelf.archive_took(sum(map(len, batch)))
                self._changed.set()
                return batch
            if self._finished:
                return []
            self._changed.clear()
            await self._changed.wait()

    async def _take(self) -> list[bytes | memoryview]:
        if self._head:
            return self._take_head()
        spill = self._spill
        if spill is not None and (size := min(spill.unread_bytes, BATCH_BYTES)):
            chunk = await off_loop(self._cache.threads.disk, spill.read, size)
            return [chunk] if chunk else []
        batch, size = _pop(self._tail)
        self._tail_bytes -= size
        return batch

    def _take_head(self) -> list[bytes | memoryview]:
        batch, size = _pop(self._head)
        self._head_bytes -= size
        self._give_back(min(size, self._reserved))
        return batch

    def close(self) -> None:
        """Drop what is left and give everything back; may be called twice."""
        self._finished = True
        self._drop_bytes()
        self._give_back(self._reserved)
        self._changed.set()

    def _drop_bytes(self) -> None:
        self._head.clear()
        self._tail.clear()
        self._head_bytes = self._tail_bytes = 0
        self._drop_spill()

    def _drop_spill(self) -> None:
        if self._spill is not None:
            self._cache.disk.release(self._disk_reserved)
            self._cache.threads.disk.submit(self._spill.close)
            self._spill, self._disk_reserved = None, 0

    def _give_back(self, size_bytes: int) -> None:
        if size_bytes:
            self._reserved -= size_bytes
            self._cache.memory.release(size_bytes)


class _Spill:
    """An unnamed file on disk, opened by its first writer; read behind it. Its lock lets `close` come at any time."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._is_closed = False
        self._lock = threading.Lock()
        self.written_bytes = 0
        self._read = 0

    @property
    def unread_bytes(self) -> int:
        """How much the reader has not had yet."""
        return self.written_bytes - self._read

    def append(self, batch: Sequence[bytes | memoryview]) -> None:
        """Write `batch` at the end; after an OSError the reader still finds what was there before."""
        offset = self.written_bytes
        with self._lock:
            if self._is_closed:
                return
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder or None, buffering=0)  # noqa: SIM115 - see close
            for chunk in batch:
                view = memoryview(chunk)
                while view:
                    done = os.pwrite(self._file.fileno(), view, offset)
                    view = view[done:]
                    offset += done
        self.written_bytes = offset

    def read(self, size_bytes: int) -> bytes:
        """The next bytes, or none when the file was closed meanwhile."""
        with self._lock:
            chunk = b"" if self._file is None else os.pread(self._file.fileno(), size_bytes, self._read)
        self._read += len(chunk)
        return chunk

    def close(self) -> None:
        """Close the file, which has no name and so is gone."""
        with self._lock:
            self._is_closed = True
            if self._file is not None:
                self._file.close()
                self._file = None


def _pop(chunks: deque[bytes | memoryview]) -> tuple[list[bytes | memoryview], int]:
    batch: list[bytes | memoryview] = []
    size = 0
    while chunks and size < BATCH_BYTES:
        chunk = chunks.popleft()
        batch.append(chunk)
        size += len(chunk)
    return batch, size
