"""ZIP headers as bytes: pure encoding after PKWARE's APPNOTE 6.3.10; sections in comments are of that document.

Every local header is complete when the archive is read, so flag bit 3 is never set and no data descriptors are
written (a front-to-back reader needs neither luck nor the central directory). Version-needed, flags, method, time
and name are the same in both headers.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from struct import Struct

LIMIT_16 = 0xFFFF
LIMIT_32 = 0xFFFFFFFF

_LOCAL = Struct("<4sHHHHHIIIHH")  # 4.3.7
_LOCAL_SIZES = Struct("<III")  # CRC-32 and both sizes, in the local header
_LOCAL_SIZES_AT = 14
_CENTRAL = Struct("<4sHHHHHHIIIHHHHHII")  # 4.3.12
_END = Struct("<4sHHHHIIH")  # 4.3.16
_END_64 = Struct("<4sQHHIIQQQQ")  # 4.3.14
_LOCATOR_64 = Struct("<4sIQI")  # 4.3.15

_UTF8 = 1 << 11  # 4.4.4
_VERSION_PLAIN = 20  # 4.4.3.2: deflate, folders
_VERSION_ZIP64 = 45
_MADE_BY = (3 << 8) | _VERSION_ZIP64  # 4.4.2: Unix, so that the attributes below count
_REGULAR_FILE = 0o100644 << 16  # a name without file type and permissions comes out unreadable

_EXTRA_ZIP64 = 0x0001  # 4.5.3
_EXTRA_TIME = 0x5455  # Info-ZIP's extended timestamp: UTC seconds
_EXTRA_PADDING = 0xD935  # the number Android's zipalign uses for room that means nothing
_ZIP64_ROOM = Struct("<HHQQ")
_TIME = Struct("<HHBi")

_DOS_FIRST = datetime(1980, 1, 1, tzinfo=UTC)
_DOS_LAST = datetime(2107, 12, 31, 23, 59, 58, tzinfo=UTC)


class Method(enum.IntEnum):
    """How an entry's bytes lie in the archive (4.4.5)."""

    STORED = 0
    DEFLATED = 8


@dataclass(frozen=True, slots=True)
class EntryHead:
    """What is known of an entry when it begins: `index` is its place in the directory, `size` exact or None.

    The name has to be safe already (see `names.py`); a time without zone is taken for UTC, None leaves it out.
    """

    index: int
    name: str
    mtime: datetime | None = None
    method: Method = Method.STORED
    size: int | None = None


@dataclass(frozen=True, slots=True)
class EntryTail:
    """What is known when an entry is complete: where its local header lies, CRC-32, and both sizes in bytes."""

    offset: int
    crc32: int
    size: int
    compressed: int

    @property
    def sizes_need_64(self) -> bool:
        """Whether the local header has to carry 64-bit sizes."""
        return self.size >= LIMIT_32 or self.compressed >= LIMIT_32


def may_need_64(head: EntryHead) -> bool:
    """Whether room for 64-bit sizes must be kept: unknown, or so large that deflate may outgrow 32 bits."""
    if head.size is None:
        return True
    growth = 0 if head.method is Method.STORED else head.size // 256 + 65_536
    return head.size + growth >= LIMIT_32


def local_header(head: EntryHead, tail: EntryTail) -> bytes:
    """The local header; its length depends on `head` alone, so that a blank one can be filled in later.

    ValueError when the sizes need 64 bits and no room was kept for them.
    """
    name = encoded_name(head.name)
    wide = tail.sizes_need_64
    if wide and not may_need_64(head):
        raise ValueError("the entry outgrew the size it was announced with")
    sizes = (LIMIT_32, LIMIT_32) if wide else (tail.compressed, tail.size)
    room = b""
    if may_need_64(head):
        room = _ZIP64_ROOM.pack(_EXTRA_ZIP64, 16, tail.size, tail.compressed) if wide else _PADDING
    date, time, extra_time = _times(head.mtime)
    extra = room + extra_time
    fixed = _LOCAL.pack(
        b"PK\3\4", _version(tail), _UTF8, head.method, time, date, tail.crc32, *sizes, len(name), len(extra)
    )
    return fixed + name + extra


def fill_in(header: memoryview, tail: EntryTail) -> None:
    """Make a blank local header the one with this `tail`, which has the same offset and sizes of 32 bits."""
    _LOCAL_SIZES.pack_into(header, _LOCAL_SIZES_AT, tail.crc32, tail.compressed, tail.size)


_PADDING = _ZIP64_ROOM.pack(_EXTRA_PADDING, 16, 0, 0)


def central_header(head: EntryHead, tail: EntryTail) -> bytes:
    """The entry's record in the central directory.

    A value is in the ZIP64 extra if and only if its 32-bit field is 0xFFFFFFFF, in the order of 4.5.3.
    """
    name = encoded_name(head.name)
    extra = b""
    if tail.offset >= LIMIT_32 or tail.sizes_need_64:
        wide = [value for value in (tail.size, tail.compressed, tail.offset) if value >= LIMIT_32]
        extra = Struct(f"<HH{len(wide)}Q").pack(_EXTRA_ZIP64, 8 * len(wide), *wide)
    date, time, extra_time = _times(head.mtime)
    extra += extra_time
    fixed = _CENTRAL.pack(
        b"PK\1\2",
        _MADE_BY,
        _version(tail),
        _UTF8,
        head.method,
        time,
        date,
        tail.crc32,
        min(tail.compressed, LIMIT_32),
        min(tail.size, LIMIT_32),
        len(name),
        len(extra),
        0,
        0,
        0,
        _REGULAR_FILE,
        min(tail.offset, LIMIT_32),
    )
    return fixed + name + extra


def end_records(count: int, size: int, offset: int) -> bytes:
    """What ends an archive with `count` entries whose directory of `size` bytes begins at `offset`.

    The ZIP64 record and its locator are there exactly when a classic field cannot hold its value.
    """
    classic = _END.pack(
        b"PK\5\6",
        0,
        0,
        min(count, LIMIT_16),
        min(count, LIMIT_16),
        min(size, LIMIT_32),
        min(offset, LIMIT_32),
        0,
    )
    if count < LIMIT_16 and size < LIMIT_32 and offset < LIMIT_32:
        return classic
    record = _END_64.pack(b"PK\6\6", _END_64.size - 12, _MADE_BY, _VERSION_ZIP64, 0, 0, count, count, size, offset)
    return record + _LOCATOR_64.pack(b"PK\6\7", 0, offset + size, 1) + classic


def encoded_name(name: str) -> bytes:
    """The name as UTF-8; ValueError when it cannot be an entry's name (empty, over 65,535 bytes, lone surrogates)."""
    encoded = name.encode()
    if not 0 < len(encoded) <= LIMIT_16:
        raise ValueError("an entry's name takes 1 to 65,535 bytes")
    return encoded


def dos_time(moment: datetime | None) -> tuple[int, int]:
    """Date and time in DOS form (4.4.6), in UTC, clamped to 1980..2107; seconds lose their last bit."""
    utc = _DOS_FIRST if moment is None else min(max(_as_utc(moment), _DOS_FIRST), _DOS_LAST)
    date = (utc.year - 1980) << 9 | utc.month << 5 | utc.day
    return date, utc.hour << 11 | utc.minute << 5 | utc.second // 2


def batched(records: Iterable[bytes], size_bytes: int) -> Iterator[bytes]:
    """Join small records to blocks of about `size_bytes`, so that a large directory is never whole in memory twice."""
    block = bytearray()
    for record in records:
        block += record
        if len(block) >= size_bytes:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)


def _version(tail: EntryTail) -> int:
    # The offset counts too: the central header needs ZIP64 for it, and both headers name one version.
    return _VERSION_ZIP64 if tail.sizes_need_64 or tail.offset >= LIMIT_32 else _VERSION_PLAIN


@lru_cache(maxsize=64)
def _times(moment: datetime | None) -> tuple[int, int, bytes]:
    """An entry's time in all its forms; each entry asks for it three times."""
    return (*dos_time(moment), _time_extra(moment))


def _time_extra(moment: datetime | None) -> bytes:
    if moment is None:
        return b""
    seconds = int(_as_utc(moment).timestamp() // 1)
    return _TIME.pack(_EXTRA_TIME, 5, 1, seconds) if 0 <= seconds < 1 << 31 else b""


def _as_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:  # a zone may push year 1 or 9999 over the edge
        return moment.replace(tzinfo=UTC)
