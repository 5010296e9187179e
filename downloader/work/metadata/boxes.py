"""Files made of ISO boxes (ISO/IEC 14496-12): MP4, M4A and QuickTime; AVIF and HEIC.

Boxes are followed from one to the next, so a box is found at the end of the file too, wherever both ends are known.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from downloader.work.metadata.windows import Ends, Facts, budget, size


class Box(NamedTuple):
    """A box's type and where its content stands in the file."""

    kind: bytes
    start: int
    stop: int


class _Reader:
    """Walks over the boxes of one file, with a budget for all levels together."""

    def __init__(self, ends: Ends) -> None:
        self.ends = ends
        self._budget = budget()

    def inside(self, box: Box, skipped: int = 0) -> Iterator[Box]:
        """The boxes in a box (14496-12, 4.2), as far as they are whole; a full box has `skipped` bytes before them."""
        place = box.start + skipped
        for _ in self._budget:
            head = self.ends.at(place, 16)
            if place + 8 > box.stop or len(head) < 8:
                return
            length, kind = struct.unpack_from(">I4s", head)
            body = 16 if length == 1 else 8
            if length == 1:
                length = struct.unpack_from(">Q", head, 8)[0]
            stop = place + length if length else box.stop
            if stop < place + body or stop > box.stop:
                return
            yield Box(kind, place + body, stop)
            place = stop

    def find(self, box: Box, *kinds: bytes) -> Box | None:
        """The first box of these types, each inside the one before."""
        for kind in kinds:
            found = next((child for child in self.inside(box) if child.kind == kind), None)
            if found is None:
                return None
            box = found
        return box

    def body(self, box: Box | None, most: int = 4096) -> bytes:
        """A box's content; empty when there is no such box, or more in it than is sane."""
        whole = box is not None and box.stop - box.start <= most
        return self.ends.at(box.start, box.stop - box.start) if box and whole else b""


def _file(ends: Ends) -> Box:
    return Box(b"", 0, ends.size)


def movie(ends: Ends) -> Facts:
    """The movie header's duration (8.2.2), and the size of its pictures where all video tracks agree (8.3.2)."""
    reader = _Reader(ends)
    moov = reader.find(_file(ends), b"moov")
    if moov is None:
        return {}
    found: Facts = {}
    sizes = set()
    for box in reader.inside(moov):
        if box.kind == b"mvhd":
            found |= _duration(reader.body(box))
        elif box.kind == b"trak":
            sizes.add(_track(reader, box))
    sizes.discard(None)
    return found | (size(*side) if len(sizes) == 1 and (side := sizes.pop()) else {})


def _duration(mvhd: bytes) -> Facts:
    layout, unknown = (">20xIQ", 2**64 - 1) if mvhd[0] == 1 else (">12xII", 2**32 - 1)
    timescale, duration = struct.unpack_from(layout, mvhd)
    return {"duration": duration / timescale} if timescale and duration != unknown else {}


def _track(reader: _Reader, trak: Box) -> tuple[int, int] | None:
    """The size that a track of pictures is shown in; None for sound, texts and whatever shows nothing."""
    handler = reader.body(reader.find(trak, b"mdia", b"hdlr"))
    header = reader.body(reader.find(trak, b"tkhd"))
    if handler[8:12] != b"vide" or len(header) not in (84, 96):
        return None
    # The last two fields, in 16.16 fixed point.
    width, height = struct.unpack_from(">II", header, len(header) - 8)
    return ((width + 0x8000) >> 16, (height + 0x8000) >> 16) if width and height else None


def still(ends: Ends) -> Facts:
    """The size of the primary item (ISO/IEC 23008-12, 6.5.3): tiles and thumbnails have sizes of their own."""
    reader = _Reader(ends)
    meta = reader.find(_file(ends), b"meta")
    if meta is None:
        return {}
    parts = {box.kind: box for box in reader.inside(meta, 4)}
    primary = reader.body(parts.get(b"pitm"))
    item = struct.unpack_from(">4xH" if primary[0] == 0 else ">4xI", primary)[0]
    children = {box.kind: box for box in reader.inside(parts[b"iprp"])}
    properties = list(reader.inside(children[b"ipco"]))
    mine = _properties(reader.body(children[b"ipma"], 2**16), item)
    sizes = [properties[index - 1] for index in mine if 0 < index <= len(properties)]
    sizes = [box for box in sizes if box.kind == b"ispe"]
    return size(*struct.unpack(">4xII", reader.body(sizes[0]))) if len(sizes) == 1 else {}


def _properties(ipma: bytes, item: int) -> list[int]:
    """The numbers, from 1, of an item's properties (14496-12, 8.11.14)."""
    version, flags, count = struct.unpack_from(">B2xBI", ipma)
    item_field, wide = (">IB" if version else ">HB"), flags & 1
    place = 8
    for _ in zip(range(count), budget(), strict=False):
        found, number = struct.unpack_from(item_field, ipma, place)
        place += struct.calcsize(item_field)
        if found == item:
            # The highest bit says whether a reader must understand the property.
            numbers = struct.unpack_from(f">{number}{'H' if wide else 'B'}", ipma, place)
            return [value & (0x7FFF if wide else 0x7F) for value in numbers]
        place += number * (2 if wide else 1)
    return []
