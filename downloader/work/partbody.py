"""The body of a part or small object: the very buffers that came in, sent without being copied or joined."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import accumulate

from isal import isal_zlib

# Pieces of this size go to the socket: a transport that cannot send one at once keeps a copy of what is left of it.
PIECE_BYTES = 1024 * 1024
# aiohttp joins the first piece with the request's head, so the first piece is small.
FIRST_PIECE_BYTES = 4 * 1024


class PartBody:
    """A sequence of buffers that botocore takes for a file and aiohttp sends as an async iterable.

    It has a length, so that it goes out with Content-Length and not chunked; it can be sent any number of times, and
    each `async for` is independent of the others.
    """

    def __init__(self, buffers: Sequence[bytes | bytearray | memoryview]) -> None:
        self._views = tuple(memoryview(buffer).cast("B") for buffer in buffers if len(buffer))
        self._ends = tuple(accumulate(len(view) for view in self._views))
        self._position = 0

    def __len__(self) -> int:
        """Give the number of bytes."""
        return self._ends[-1] if self._ends else 0

    def __bool__(self) -> bool:
        """Be true even when empty: botocore drops a body that is false."""
        return True

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        """Give all bytes in pieces that suit a socket; never copies."""
        for piece in self.pieces():
            yield piece

    def pieces(self) -> Iterator[memoryview]:
        """All bytes in order as views: a small one first, then at most `PIECE_BYTES` each."""
        limit = FIRST_PIECE_BYTES
        for view in self._views:
            start = 0
            while start < len(view):
                yield view[start : start + limit]
                start += limit
                limit = PIECE_BYTES

    def crc32(self) -> int:
        """The CRC-32 of all bytes; about 0.3 ms for 8 MiB, so it may run on the loop."""
        value = 0
        for view in self._views:
            value = isal_zlib.crc32(view, value)
        return value

    def tell(self) -> int:
        """Where the next `read` begins."""
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move the place of the next `read`, as files do; the SDK rewinds by this before it sends again."""
        base = (0, self._position, len(self))[whence]
        self._position = min(max(base + offset, 0), len(self))
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Copy out up to `size` bytes; only for code that wants a file, nothing on the way to the store does."""
        end = len(self) if size is None or size < 0 else min(self._position + size, len(self))
        chunks = []
        for view, view_end in zip(self._views, self._ends, strict=True):
            view_start = view_end - len(view)
            chunks.append(view[max(self._position - view_start, 0) : max(end - view_start, 0)])
        self._position = end
        return b"".join(chunks)
