"""Durations of WAV, FLAC, Ogg and AVI files."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from downloader.work.metadata.windows import Ends, Facts, budget, size

# PCM, floats, A-law, mu-law, and those with a longer header: every block lasts for one sample.
_PLAIN_WAVES = frozenset({1, 3, 6, 7, 0xFFFE})
# A page holds 255 packets at most, the longest of which last for a tenth of a second.
_MAX_FIRST_PAGE_S = 30
# Headers take a few pages, and the last page is the last or nearly so.
_MAX_PAGES = 200


def wav(ends: Ends) -> Facts:
    """Bytes of the data chunk by bytes of a sample (Microsoft RIFF, WAVE); not while they only will be counted."""
    place, rate, block = 12, 0, 0
    for _ in budget():
        kind, length = struct.unpack("<4sI", ends.at(place, 8))
        if kind == b"fmt ":
            form, rate, block = struct.unpack("<H2xI4xH", ends.at(place + 8, 14))
            rate = rate if form in _PLAIN_WAVES else 0
        if kind == b"data":
            is_whole = place + 8 + length <= ends.size
            return {"duration": length // block / rate} if rate and block and is_whole else {}
        place += 8 + length + length % 2
    return {}


def flac(ends: Ends) -> Facts:
    """STREAMINFO comes first (RFC 9639, 8.2); a total of 0 samples means that it is unknown."""
    kind, bits = struct.unpack_from(">B13xQ", ends.head, 4)
    rate, total = bits >> 44, bits & 0xF_FFFF_FFFF
    return {"duration": total / rate} if kind & 0x7F == 0 and rate and total else {}


def avi(ends: Ends) -> Facts:
    """The main header; in a file of several RIFF parts it counts the pictures of the first only (OpenDML 1.02)."""
    if ends.head[12:16] != b"LIST" or ends.head[20:28] != b"hdrlavih":
        return {}
    microseconds, count, width, height = struct.unpack_from("<I12xI12xII", ends.head, 32)
    first_part = 8 + struct.unpack_from("<I", ends.head, 4)[0]
    is_one = first_part <= ends.size <= first_part + 1
    return size(width, height) | ({"duration": microseconds * count / 1e6} if is_one else {})


class _Page(NamedTuple):
    """A page of an Ogg file (RFC 3533, 6)."""

    is_first: bool
    samples: int
    stream: int
    body: int
    stop: int


def ogg(ends: Ends) -> Facts:
    """From the position of the last page of the only Vorbis or Opus stream (RFC 7845, 4; Vorbis I, A.2)."""
    steps = budget(_MAX_PAGES)
    rates: dict[int, tuple[int, int]] = {}
    for page in _pages(ends, steps):
        if page.is_first:
            rates[page.stream] = _rate(ends.at(page.body, 19))
        elif page.stream in rates and page.samples > 0:
            # What was cut out of a longer stream, or of a running one, does not begin at 0.
            if page.samples > _MAX_FIRST_PAGE_S * rates[page.stream][0]:
                return {}
            break
    last = _last_page(ends, steps)
    if last is None or len(rates) != 1 or last.stream not in rates:
        return {}
    rate, skipped = rates[last.stream]
    return {"duration": (last.samples - skipped) / rate} if rate else {}


def _page(ends: Ends, place: int) -> _Page | None:
    head = ends.at(place, 27 + 255)
    if len(head) < 27 or not head.startswith(b"OggS\0"):
        return None
    flags, samples, stream, count = struct.unpack_from("<BqI8xB", head, 5)
    body = place + 27 + count
    return _Page(bool(flags & 2), samples, stream, body, body + sum(head[27 : 27 + count]))


def _pages(ends: Ends, steps: Iterator[int]) -> Iterator[_Page]:
    place = 0
    for _ in steps:
        page = _page(ends, place)
        if page is None:
            return
        yield page
        place = page.stop


def _last_page(ends: Ends, steps: Iterator[int]) -> _Page | None:
    """The last whole page in which a packet ends."""
    begin, place = ends.size - len(ends.tail), len(ends.tail)
    for _ in steps:
        place = ends.tail.rfind(b"OggS\0", 0, place)
        if place < 0:
            return None
        page = _page(ends, begin + place)
        if page is not None and page.samples > 0 and page.stop <= ends.size:
            return page
    return None


def _rate(packet: bytes) -> tuple[int, int]:
    """Samples a second, 0 for another codec, and how many at the beginning are not played."""
    if packet.startswith(b"OpusHead"):
        return 48_000, struct.unpack_from("<H", packet, 10)[0]
    return (struct.unpack_from("<I", packet, 12)[0], 0) if packet.startswith(b"\x01vorbis") else (0, 0)
