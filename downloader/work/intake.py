"""One file as it comes in: counted, inspected off the loop, and put into the cache."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from downloader.errors import JobError, SourceError
from downloader.jobs import Source
from downloader.work.cache import BATCH_BYTES, Entry
from downloader.work.fetch import Offer
from downloader.work.inspection import Inspection, Inspector
from downloader.work.lane import Lane
from downloader.work.progress import Progress
from downloader.work.threads import Threads

# Below this a hop to a thread costs more than the digests themselves (about 40 microseconds at 64 KiB).
INLINE_BYTES = 64 * 1024
# So many batches may wait for their digest: with two the thread has always something to do and nobody to wake.
AHEAD = 1
# Chunks smaller than this are joined, so that a source which drips cannot fill the memory with object headers.
SMALL_CHUNK_BYTES = 4096


@dataclass(slots=True)
class JobBytes:
    """The bytes of all files of one job, and how many there may be."""

    limit: int
    taken: int = 0

    def add(self, size_bytes: int) -> None:
        """Count bytes; JobError `job_too_large` beyond the limit."""
        self.taken += size_bytes
        if self.taken > self.limit:
            raise JobError("job_too_large", f"The files together are larger than {self.limit} bytes.")


class Intake:
    """The sink of one fetch: it takes the bytes to the inspector and to the cache entry."""

    def __init__(
        self,
        source: Source,
        entry: Entry,
        *,
        threads: Threads,
        progress: Progress,
        job_bytes: JobBytes,
        max_file_bytes: int,
        sha256: bool = True,
        named: Callable[[Offer], str | None],
    ) -> None:
        """`named` is asked for the file's name when its source has answered."""
        self._source = source
        self._entry = entry
        self._threads = threads
        self._progress = progress
        self._job_bytes = job_bytes
        self._max_file_bytes = max_file_bytes
        self._sha256 = sha256
        self._named = named
        self._batch: list[bytes | memoryview] = []
        self._batch_bytes = 0
        self._lane: Lane[Sequence[bytes | memoryview]] | None = None
        self._inspector: Inspector | None = None
        self.position = 0
        self._thrown_away = 0
        self.offer: Offer | None = None
        self.name: str | None = None

    def opened(self, offer: Offer) -> None:
        """The source has answered; SourceError `too_large` if it announces more than is allowed."""
        if offer.length is not None and offer.length > self._max_file_bytes:
            raise self._too_large()
        self._inspector = Inspector(self._source, offer, sha256=self._sha256)
        self.offer = offer
        self.name = self._named(offer)
        self._progress.fetching(self._source.index, self.name, offer.length)

    def write(self, chunk: bytes | memoryview) -> Awaitable[None] | None:
        """Take a chunk; a batch that is full has to be waited for until there is room for it."""
        size = len(chunk)
        self.position += size
        if self.position > self._max_file_bytes:
            raise self._too_large()
        self._job_bytes.add(size)
        self._progress.received(self._source.index, size)
        if self._batch and size < SMALL_CHUNK_BYTES and len(self._batch[-1]) < SMALL_CHUNK_BYTES:
            self._batch[-1] = b"".join((self._batch[-1], chunk))
        else:
            self._batch.append(chunk)
        self._batch_bytes += size
        return self._flush() if self._batch_bytes >= BATCH_BYTES else None

    async def restart(self) -> None:
        """Forget everything: the source will be read from its first byte again."""
        await self.close()
        self._batch, self._batch_bytes = [], 0
        self._job_bytes.taken -= self.position
        self._thrown_away += self.position
        self.position = 0
        self._entry.restart()
        self._progress.restarted(self._source.index)

    @property
    def received(self) -> int:
        """Bytes that came in, those of earlier beginnings too."""
        return self._thrown_away + self.position

    async def finish(self) -> Inspection:
        """All bytes are here: digest the rest and judge the whole; SourceError when it is not what was expected."""
        if self._batch:
            await self._flush()
        if self._lane is not None:
            await self._lane.drained()
        if self._inspector is None:
            raise SourceError("protocol_error", "the source gave no answer")
        return self._inspector.finish()

    async def close(self) -> None:
        """Wait for the thread that may still be digesting our bytes."""
        lane, self._lane = self._lane, None
        if lane is not None:
            await lane.close()

    async def _flush(self) -> None:
        batch, size = self._batch, self._batch_bytes
        self._batch, self._batch_bytes = [], 0
        await self._digest(batch, size)
        await self._entry.write(batch, size)

    async def _digest(self, batch: Sequence[bytes | memoryview], size_bytes: int) -> None:
        """Show a batch to the inspector, and hear what it thinks of the earlier ones."""
        if self._inspector is None:
            raise SourceError("protocol_error", "the source sent data before its answer")
        if size_bytes > INLINE_BYTES:
            self._lane = self._lane or Lane(self._threads.compute, self._inspector.update, ahead=AHEAD)
            await self._lane.put(batch)
            return
        if self._lane is not None:
            await self._lane.drained()
        self._inspector.update(batch)

    def _too_large(self) -> SourceError:
        return SourceError("too_large", f"The file is larger than {self._max_file_bytes} bytes.")
