"""The two ends of a file that passes once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

WINDOW_BYTES = 64 * 1024
# Boxes, chunks, frames and the like that are looked at in one file, all levels together.
MAX_STEPS = 500

Facts = dict[str, Any]


def budget(steps: int = MAX_STEPS) -> Iterator[int]:
    """The steps that all loops over one file share, so that nesting cannot multiply them."""
    return iter(range(steps))


def size(width: int, height: int) -> Facts:
    """The figures of an image's or a video's size."""
    return {"width": width, "height": height}


@dataclass(frozen=True, slots=True)
class Ends:
    """What is known of a file: its size, its beginning without a gap, its end."""

    size: int
    head: bytes
    tail: bytes

    def at(self, start: int, length: int) -> bytes:
        """The bytes from a place on; fewer than asked for, or none, where the file or what is known of it ends."""
        if 0 <= start < len(self.head):
            return self.head[start : start + length]
        inside = start - (self.size - len(self.tail))
        return self.tail[inside : inside + length] if inside >= 0 else b""


class Windows:
    """Keeps the first and the last 64 KiB of the bytes that it is given in order."""

    def __init__(self) -> None:
        self.size = 0
        self._first: list[bytes] = []
        self._last: deque[bytes] = deque()
        self._last_bytes = 0

    def add(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes; bytes are kept by reference, of what is huge or part of a larger block a copy."""
        if not chunk:
            return
        if self.size < WINDOW_BYTES:
            self._first.append(bytes(chunk[: WINDOW_BYTES - self.size]))
        self.size += len(chunk)
        kept = chunk if isinstance(chunk, bytes) and len(chunk) <= 4 * WINDOW_BYTES else bytes(chunk[-WINDOW_BYTES:])
        self._last.append(kept)
        self._last_bytes += len(kept)
        while self._last_bytes - len(self._last[0]) >= WINDOW_BYTES:
            self._last_bytes -= len(self._last.popleft())

    @property
    def head(self) -> bytes:
        """The first 64 KiB."""
        return b"".join(self._first)

    @property
    def tail(self) -> bytes:
        """The last 64 KiB."""
        return b"".join(self._last)[-WINDOW_BYTES:]

    def ends(self) -> Ends:
        """Both ends; where they meet, the head is the whole file."""
        head, tail = self.head, self.tail
        gap = self.size - len(head) - len(tail)
        return Ends(self.size, head + tail[-gap:] if gap <= 0 else head, tail)
