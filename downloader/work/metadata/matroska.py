"""WebM and Matroska (RFC 9559), which are made of EBML elements (RFC 8794)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from downloader.work.metadata.windows import Ends, Facts, budget, size

_SEGMENT, _INFO, _TRACKS, _CLUSTER = 0x18538067, 0x1549A966, 0x1654AE6B, 0x1F43B675
_SCALE, _DURATION, _TRACK, _VIDEO, _WIDTH, _HEIGHT = 0x2AD7B1, 0x4489, 0xAE, 0xE0, 0xB0, 0xBA


class _Element(NamedTuple):
    kind: int
    start: int
    stop: int


def matroska(ends: Ends) -> Facts:
    """The duration (RFC 9559, 5.1.2) and the pictures' size (5.1.4.1.28), which stand before the first cluster."""
    steps, head = budget(), ends.head
    found: Facts = {}
    segment = next((element for element in _elements(head, 0, ends.size, steps) if element.kind == _SEGMENT), None)
    if segment is None:
        return found
    sizes = set()
    for element in _elements(head, segment.start, segment.stop, steps):
        if element.kind == _CLUSTER:
            break
        inside = list(_elements(head, element.start, element.stop, steps)) if element.kind in (_INFO, _TRACKS) else []
        if element.kind == _INFO:
            found |= _duration(head, inside)
        sizes |= {_picture(head, track, steps) for track in inside if track.kind == _TRACK}
    sizes.discard(None)
    return found | (size(*side) if len(sizes) == 1 and (side := sizes.pop()) else {})


def _elements(head: bytes, place: int, stop: int, steps: Iterator[int]) -> Iterator[_Element]:
    """The elements between two places, as far as the head reaches; one of unknown size goes to the end."""
    for _ in steps:
        if place + 2 > min(stop, len(head)):
            return
        kind_bytes = 9 - head[place].bit_length()
        start = place + kind_bytes
        if kind_bytes > 4 or start >= len(head):
            return
        size_bytes = 9 - head[start].bit_length()
        if size_bytes > 8 or start + size_bytes > len(head):
            return
        kind = int.from_bytes(head[place:start], "big")
        most = (1 << 7 * size_bytes) - 1
        length = int.from_bytes(head[start : start + size_bytes], "big") & most
        start += size_bytes
        place = stop if length == most else start + length
        if place > stop and kind != _SEGMENT:
            return
        yield _Element(kind, start, min(place, stop))


def _duration(head: bytes, info: list[_Element]) -> Facts:
    """In units of the timestamp scale, which is in nanoseconds and a millisecond unless said otherwise."""
    said = {element.kind: head[element.start : element.stop] for element in info}
    raw = said.get(_DURATION, b"")
    if len(raw) not in (4, 8):
        return {}
    duration = struct.unpack(">f" if len(raw) == 4 else ">d", raw)[0]
    return {"duration": duration * int.from_bytes(said.get(_SCALE, b"\x0f\x42\x40"), "big") / 1e9}


def _picture(head: bytes, track: _Element, steps: Iterator[int]) -> tuple[int, int] | None:
    for video in _elements(head, track.start, track.stop, steps):
        if video.kind == _VIDEO and video.stop <= len(head):
            inside = _elements(head, video.start, video.stop, steps)
            said = {element.kind: head[element.start : element.stop] for element in inside}
            return int.from_bytes(said.get(_WIDTH, b""), "big"), int.from_bytes(said.get(_HEIGHT, b""), "big")
    return None
