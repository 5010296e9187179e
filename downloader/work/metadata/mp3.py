"""Durations of MP3 files (ISO/IEC 11172-3, 2.4.2.3): told by a header, or by a bitrate that never changes."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from downloader.work.metadata.windows import WINDOW_BYTES, Ends, Facts, budget
from downloader.work.sniff import Mp3Frame, mp3_frame

# So many frames of one kind at either end: the bitrate is constant.
_ENOUGH_FRAMES = 10
# A step costs little, and frames of 32 kbit/s fill both ends with nearly as many.
_MAX_FRAMES = 4000


def mp3(ends: Ends) -> Facts:
    """What the Xing, Info or VBRI header counts, else the size by the bitrate when that is clearly constant."""
    start = _after_tag(ends)
    frame = mp3_frame(ends.at(start, 4))
    if frame is None:
        return {}
    counted = _counted(ends.at(start, 192), frame)
    if counted is not None:
        frames, size_bytes = counted
        is_whole = size_bytes <= ends.size - start
        return {"duration": frames * frame.samples / frame.rate} if is_whole else {}
    stop = ends.size - (128 if ends.tail[-128:].startswith(b"TAG") else 0)
    if not _is_constant(ends, start, stop, frame):
        return {}
    return {"duration": (stop - start) * 8 / frame.bitrate}


def _after_tag(ends: Ends) -> int:
    """Where the sound begins: after an ID3v2 tag (ID3v2.4, 3.1), whose size has seven bits in a byte."""
    head = ends.head[:10]
    if not head.startswith(b"ID3"):
        return 0
    length = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    place = 10 + length + (10 if head[5] & 0x10 else 0)
    padding = ends.at(place, WINDOW_BYTES)
    return place + len(padding) - len(padding.lstrip(b"\0"))


def _counted(start: bytes, frame: Mp3Frame) -> tuple[int, int] | None:
    """How many frames and bytes the first frame says there are, if it says so; 0 bytes when only frames are told."""
    place = 4 + frame.side_bytes
    if start[place : place + 4] in (b"Xing", b"Info"):
        flags, frames, size_bytes = struct.unpack_from(">III", start, place + 4)
        return (frames, size_bytes if flags & 2 else 0) if flags & 1 else None
    if start[36:40] == b"VBRI":
        size_bytes, frames = struct.unpack_from(">II", start, 46)
        return frames, size_bytes
    return None


def _is_constant(ends: Ends, start: int, stop: int, first: Mp3Frame) -> bool:
    """Whether both ends of the sound are nothing but frames of the first one's bitrate."""
    steps = budget(_MAX_FRAMES)
    head = ends.head[start:stop]
    count, place = _alike(head, 0, first, steps)
    if count < _ENOUGH_FRAMES or place < len(head) - 4:
        return False
    if len(ends.head) >= stop:
        return True
    tail = ends.tail[: len(ends.tail) - (ends.size - stop)]
    begin = tail.find(first.sync)
    while begin >= 0:
        count, place = _alike(tail, begin, first, steps)
        if count >= _ENOUGH_FRAMES:
            return place >= len(tail) - 4
        begin = tail.find(first.sync, begin + 1) if next(steps, None) is not None else -1
    return False


def _alike(sound: bytes, place: int, first: Mp3Frame, steps: Iterator[int]) -> tuple[int, int]:
    """How many frames follow one another that are like the first, and where they end."""
    count, last = 0, len(sound) - 4
    for _ in steps:
        if place > last or sound[place : place + 2] != first.sync or sound[place + 2] & ~2 != first.kind:
            break
        place += first.length + (sound[place + 2] >> 1 & 1)
        count += 1
    return count, place
