"""Width and height of images that are not made of ISO boxes."""

from __future__ import annotations

import re
import struct

from downloader.work.metadata.windows import MAX_STEPS, Ends, Facts, budget, size
from downloader.work.sniff import root_at

# Possessive throughout: a root element that does not end is given up after one pass.
_SVG_ROOT = re.compile(rb"""<svg((?:\s++[\w:.-]++\s*+=\s*+(?:"[^"<]*+"|'[^'<]*+'))*+)\s*+/?>""")
_SVG_ATTRIBUTE = re.compile(rb"""\s(width|height|viewBox)\s*+=\s*+["']([^"'<]*+)""")
_SVG_LENGTH = re.compile(rb"\s*+(\d{1,10})(?:\.0{1,10})?(?:px)?\s*+")
_SVG_PARTS = re.compile(rb"[\s,]++")


def png(ends: Ends) -> Facts:
    """The header chunk comes first (PNG, 11.2.1)."""
    return size(*struct.unpack_from(">II", ends.head, 16)) if ends.head[12:16] == b"IHDR" else {}


def gif(ends: Ends) -> Facts:
    """The logical screen (GIF89a, 18)."""
    return size(*struct.unpack_from("<HH", ends.head, 6))


def jpeg(ends: Ends) -> Facts:
    """Walk the segments (ITU T.81, B.1.1) to the frame header, which is any SOF but DHT, JPG and DAC."""
    place = 2
    for _ in budget():
        lead, marker, length = struct.unpack_from(">BBH", ends.head, place)
        if lead != 0xFF or marker in (0x01, *range(0xD0, 0xDB)):
            return {}
        if marker == 0xFF:
            place += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", ends.head, place + 5)
            return size(width, height)
        else:
            place += 2 + length
    return {}


def webp(ends: Ends) -> Facts:
    """The canvas of the extended format, else the frame of the only chunk (RFC 9649, 2.5 to 2.7)."""
    kind = ends.head[12:16]
    if kind == b"VP8X":
        wide, width, tall, height = struct.unpack_from("<HBHB", ends.head, 24)
        return size((width << 16 | wide) + 1, (height << 16 | tall) + 1)
    if kind == b"VP8 " and ends.head[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", ends.head, 26)
        return size(width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L" and ends.head[20:21] == b"\x2f":
        bits = struct.unpack_from("<I", ends.head, 21)[0]
        return size((bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1)
    return {}


def bmp(ends: Ends) -> Facts:
    """The DIB header, old or new; the height of an image stored from its top is negative."""
    if ends.head[14] == 12:
        return size(*struct.unpack_from("<HH", ends.head, 18))
    width, height = struct.unpack_from("<ii", ends.head, 18)
    return size(width, abs(height))


def tiff(ends: Ends) -> Facts:
    """Tags 256 and 257 of the first directory (TIFF 6.0, section 2), unless that is a mere thumbnail (tag 254)."""
    order = "<" if ends.head.startswith(b"II") else ">"
    place = struct.unpack_from(f"{order}I", ends.head, 4)[0]
    count = struct.unpack(f"{order}H", ends.at(place, 2))[0]
    if count > MAX_STEPS:
        return {}
    tags: dict[int, int] = {}
    for tag, kind, number, value in struct.iter_unpack(f"{order}HHI4s", ends.at(place + 2, 12 * count)):
        if tag in (254, 256, 257) and number == 1 and kind in (3, 4):
            tags[tag] = struct.unpack_from(order + ("H" if kind == 3 else "I"), value)[0]
    return {} if tags.get(254, 0) & 1 else size(tags[256], tags[257])


def icon(ends: Ends) -> Facts:
    """The largest picture of the directory; a side of 0 means 256."""
    count = struct.unpack_from("<H", ends.head, 4)[0]
    entries = ends.head[6 : 6 + 16 * count]
    if not 0 < count <= MAX_STEPS or len(entries) < 16 * count:
        return {}
    sides = [(width or 256, height or 256) for width, height in struct.iter_unpack("<BB14x", entries)]
    return size(*max(sides, key=lambda side: side[0] * side[1]))


def photoshop(ends: Ends) -> Facts:
    """The file header section (Adobe Photoshop File Formats)."""
    height, width = struct.unpack_from(">II", ends.head, 14)
    return size(width, height)


def svg(ends: Ends) -> Facts:
    """The root's width and height in pixels, else its viewBox (SVG 2, 8.2); other units depend on where it is shown."""
    root = _SVG_ROOT.match(ends.head, root_at(ends.head))
    if root is None:
        return {}
    said = dict(_SVG_ATTRIBUTE.findall(root[1]))
    sides = [said[name] for name in (b"width", b"height") if name in said]
    if not sides and b"viewBox" in said:
        sides = _SVG_PARTS.split(said[b"viewBox"].strip())[2:]
    pixels = [int(match[1]) for match in map(_SVG_LENGTH.fullmatch, sides) if match]
    return size(*pixels) if len(pixels) == len(sides) == 2 else {}
