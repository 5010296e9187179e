"""A structural linter for our archives: local against central headers, placeholders against extras, no gaps.

It reads through a function, so that it can look at archives of many GiB that never exist as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct, unpack_from

_LOCAL = Struct("<4sHHHHHIIIHH")
_CENTRAL = Struct("<4sHHHHHHIIIHHHHHII")
_END = Struct("<4sHHHHIIH")
_END_64 = Struct("<4sQHHIIQQQQ")
_LOCATOR = Struct("<4sIQI")
_L16 = 0xFFFF
_L32 = 0xFFFFFFFF

Read = Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True)
class LintedEntry:
    """One entry as both of its headers describe it; `end` is where its data ends."""

    name: str
    method: int
    crc32: int
    size: int
    compressed: int
    offset: int
    end: int
    version: int
    local_extras: tuple[int, ...]
    central_extras: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Linted:
    """An archive that passed: its entries in directory order, and whether it ends with ZIP64 records."""

    entries: tuple[LintedEntry, ...]
    zip64_end: bool


def lint(data: bytes) -> Linted:
    """Check an archive in memory; AssertionError says what is wrong."""
    return lint_by(lambda start, end: data[start:end], len(data))


def lint_by(read: Read, size: int) -> Linted:
    """Check an archive of `size` bytes that `read(start, end)` gives."""
    count, directory_size, directory, zip64_end = _ends(read, size)
    blob = read(directory, directory + directory_size)
    entries, position = [], 0
    for _ in range(count):
        entry, length = _entry(read, blob, position)
        entries.append(entry)
        position += length
    assert position == directory_size, "the directory has another size than its end record says"
    cursor = 0
    for entry in sorted(entries, key=lambda entry: entry.offset):
        assert entry.offset == cursor, f"bytes between entries: {cursor} to {entry.offset}"
        cursor = entry.end
    assert cursor == directory, f"the data ends at {cursor}, the directory begins at {directory}"
    return Linted(tuple(entries), zip64_end)


def _ends(read: Read, size: int) -> tuple[int, int, int, bool]:
    end = read(size - _END.size, size)
    mark, disk, first_disk, here, count, directory_size, directory, comment = _END.unpack(end)
    assert (mark, disk, first_disk, comment) == (b"PK\5\6", 0, 0, 0)
    assert here == count
    classic = (count, directory_size, directory)
    tail = read(max(size - _END.size - _LOCATOR.size, 0), size - _END.size)
    if tail[:4] != b"PK\6\7":
        assert classic[0] < _L16, "a placeholder without its ZIP64 record"
        assert max(classic[1:]) < _L32, "a placeholder without its ZIP64 record"
        assert directory + directory_size == size - _END.size
        return (*classic, False)
    _, disk, record_at, disks = _LOCATOR.unpack(tail)
    record = _END_64.unpack(read(record_at, record_at + _END_64.size))
    assert (disk, disks) == (0, 1)
    assert record[:2] == (b"PK\6\6", _END_64.size - 12)
    assert record_at + _END_64.size == size - _END.size - _LOCATOR.size
    assert record[3:6] == (45, 0, 0)
    assert record[6] == record[7]
    wide = record[7:]
    assert wide[0] >= _L16 or wide[1] >= _L32 or wide[2] >= _L32, "ZIP64 records that nothing needs"
    assert classic == (min(wide[0], _L16), min(wide[1], _L32), min(wide[2], _L32))
    assert wide[1] + wide[2] == record_at
    return wide[0], wide[1], wide[2], True


def _entry(read: Read, blob: bytes, position: int) -> tuple[LintedEntry, int]:
    fields = _CENTRAL.unpack_from(blob, position)
    mark, made_by, version, flags, method, time, date, crc32, compressed, size, names, extras, comment, disk = fields[
        :14
    ]
    _internal, external, offset = fields[14:]
    assert mark == b"PK\1\2"
    assert (comment, disk) == (0, 0)
    assert made_by >> 8 == 3
    assert external == 0o100644 << 16
    at = position + _CENTRAL.size
    name, extra = blob[at : at + names], _extras(blob[at + names : at + names + extras])
    wanted = [value for value in (size, compressed, offset) if value == _L32]
    wide = list(unpack_from(f"<{len(wanted)}Q", extra.get(1, b""))) if wanted else []
    assert len(extra.get(1, b"")) == 8 * len(wanted), "64-bit values and placeholders disagree"
    assert all(value >= _L32 for value in wide), "a 64-bit value that fits in 32 bits"
    size, compressed, offset = (wide.pop(0) if value == _L32 else value for value in (size, compressed, offset))
    assert version == (45 if 1 in extra else 20)
    shared = (version, flags, method, time, date)
    local_extras, data_at = _local(read, offset, name, shared, crc32, size, compressed)
    _judge_time(time, date)
    assert local_extras.get(0x5455) == extra.get(0x5455)
    entry = LintedEntry(
        name.decode(), method, crc32, size, compressed, offset, data_at + compressed, version,
        tuple(local_extras), tuple(extra),
    )  # fmt: skip
    return entry, _CENTRAL.size + names + extras


def _local(
    read: Read, offset: int, name: bytes, shared: tuple[int, ...], crc32: int, size: int, compressed: int
) -> tuple[dict[int, bytes], int]:
    fields = _LOCAL.unpack(read(offset, offset + _LOCAL.size))
    names_at = offset + _LOCAL.size
    data_at = names_at + fields[9] + fields[10]
    assert fields[0] == b"PK\3\4"
    assert fields[1:6] == shared, "local and central header disagree"
    flags, method = fields[2], fields[3]
    assert flags == 1 << 11, "UTF-8 is always said, and nothing else (no descriptors)"
    assert method in (0, 8)
    assert fields[6] == crc32
    assert read(names_at, names_at + fields[9]) == name
    extras = _extras(read(names_at + fields[9], data_at))
    if size >= _L32 or compressed >= _L32:
        assert fields[7:9] == (_L32, _L32)
        assert unpack_from("<QQ", extras[1]) == (size, compressed)
        assert len(extras[1]) == 16
    else:
        assert fields[7:9] == (compressed, size)
        assert 1 not in extras, "ZIP64 in the local header of a small entry"
    assert method == 8 or size == compressed
    return extras, data_at


def _extras(blob: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at < len(blob):
        kind, length = unpack_from("<HH", blob, at)
        assert kind not in found
        assert at + 4 + length <= len(blob)
        found[kind] = blob[at + 4 : at + 4 + length]
        at += 4 + length
    return found


def _judge_time(time: int, date: int) -> None:
    assert 1 <= (date >> 5 & 15) <= 12
    assert 1 <= (date & 31) <= 31
    assert time >> 11 < 24
    assert (time >> 5 & 63) < 60
    assert (time & 31) <= 29
