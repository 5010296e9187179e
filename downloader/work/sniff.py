"""What a file is by its first bytes: a small table of signatures, HTML, and a few figures about images and PDFs.

Only what cannot be mistaken is told; None means "some text or something unknown".
"""

from __future__ import annotations

import re
import struct
from typing import Any

HTML = "text/html"
SNIFF_BYTES = 1024
_PREFIXES = (
    (b"%PDF-", "application/pdf"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"PK\x03\x04", "application/zip"),
    (b"PK\x05\x06", "application/zip"),
    (b"PK\x07\x08", "application/zip"),
    (b"\x1f\x8b\x08", "application/gzip"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\x00", "application/x-xz"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"8BPS", "image/vnd.adobe.photoshop"),
    (b"\x00\x00\x01\x00", "image/vnd.microsoft.icon"),
    (b"ID3", "audio/mpeg"),
    (b"OggS", "application/ogg"),
    (b"fLaC", "audio/flac"),
    (b"\x1a\x45\xdf\xa3", "video/webm"),
    (b"FLV\x01", "video/x-flv"),
    (b"\x7fELF", "application/x-elf"),
    (b"SQLite format 3\x00", "application/vnd.sqlite3"),
    (b"PAR1", "application/vnd.apache.parquet"),
    (b"wOFF", "font/woff"),
    (b"wOF2", "font/woff2"),
    (b"\x00\x01\x00\x00\x00", "font/ttf"),
    (b"OTTO", "font/otf"),
    (b"\x00asm", "application/wasm"),
    (b"{\\rtf", "application/rtf"),
    (b"%!PS", "application/postscript"),
)
_FIRST_BYTES = frozenset(prefix[0] for prefix, _ in _PREFIXES)
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
_BRANDS = {
    b"avif": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"mif1": "image/heif",
    b"qt  ": "video/quicktime",
    b"M4A ": "audio/mp4",
}
# Blanks, comments and an XML declaration may stand before a page begins.
_BEFORE_HTML = re.compile(rb"(?:\s+|<!--.*?-->|<\?xml.*?\?>)*", re.DOTALL)
_HTML_START = re.compile(rb"(?:<!doctype\s+html|<(?:html|head|body)(?=[\s>/]))", re.IGNORECASE)
_HTML_TAG = re.compile(rb"<(?:!doctype|html|head|body|title|meta|script|div|p|a|h1|table|form|br)\b", re.IGNORECASE)


def media_type(start: bytes) -> str | None:
    """The media type that the first bytes (up to 1 KiB) prove, or None."""
    if not start:
        return None
    if start[0] in _FIRST_BYTES:
        for prefix, name in _PREFIXES:
            if start.startswith(prefix):
                return name
    if start.startswith(b"RIFF"):
        return _RIFF.get(start[8:12])
    if start[4:8] == b"ftyp":
        return _BRANDS.get(start[8:12], "video/mp4")
    if start[257:262] == b"ustar":
        return "application/x-tar"
    return _less_certain(start)


def _less_certain(start: bytes) -> str | None:
    if is_html(start):
        return HTML
    # Readers take a PDF whose header stands a little later (ISO 32000, Annex H); text may only mention it.
    head = start[:SNIFF_BYTES].lstrip(b"\xef\xbb\xbf\r\n\t \x00")
    return "application/pdf" if head.startswith(b"%PDF-") else None


def _as_ascii(start: bytes) -> bytes:
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return start[: 2 * SNIFF_BYTES].decode("utf-16", "ignore").encode("ascii", "replace")
    return start[:SNIFF_BYTES].removeprefix(b"\xef\xbb\xbf")


def is_html(start: bytes) -> bool:
    """Whether the bytes begin as an HTML page does."""
    text = _as_ascii(start)
    begin = _BEFORE_HTML.match(text)
    return _HTML_START.match(text, begin.end() if begin else 0) is not None


def has_markup(start: bytes) -> bool:
    """Whether any of HTML's common tags is there."""
    return _HTML_TAG.search(_as_ascii(start)) is not None


def figures(kind: str | None, start: bytes) -> dict[str, Any]:
    """Width and height of an image, the version of a PDF, as far as the first block (up to 64 KiB) tells."""
    reader = _READERS.get(kind or "")
    if reader is None:
        return {}
    try:
        return reader(start)
    except (struct.error, IndexError, ValueError):
        return {}


def _size(width: int, height: int) -> dict[str, Any]:
    return {"width": width, "height": height} if width and height else {}


def _png(start: bytes) -> dict[str, Any]:
    return _size(*struct.unpack_from(">II", start, 16)) if start[12:16] == b"IHDR" else {}


def _gif(start: bytes) -> dict[str, Any]:
    return _size(*struct.unpack_from("<HH", start, 6))


def _pdf(start: bytes) -> dict[str, Any]:
    match = re.search(rb"%PDF-(\d\.\d)", start[:SNIFF_BYTES])
    return {"pdfVersion": match[1].decode()} if match else {}


def _jpeg(start: bytes) -> dict[str, Any]:
    """Walk the segments (ITU T.81, B.1.1) to the frame header, which is any SOF but DHT, JPG and DAC."""
    place = 2
    while place + 9 <= len(start) and start[place] == 0xFF:
        marker = start[place + 1]
        if marker == 0xFF:
            place += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", start, place + 5)
            return _size(width, height)
        place += 2 + struct.unpack_from(">H", start, place + 2)[0]
    return {}


def _webp(start: bytes) -> dict[str, Any]:
    kind = start[12:16]
    if kind == b"VP8X":
        return _size(int.from_bytes(start[24:27], "little") + 1, int.from_bytes(start[27:30], "little") + 1)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", start, 26)
        return _size(width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", start, 21)[0]
        return _size((bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1)
    return {}


_READERS = {"image/png": _png, "image/gif": _gif, "image/jpeg": _jpeg, "image/webp": _webp, "application/pdf": _pdf}
