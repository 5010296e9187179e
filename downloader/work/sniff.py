"""What a file is by its first bytes: a small table of signatures, and what begins an SVG, an HTML page or an MP3.

Only what cannot be mistaken is told; None means "some text or something unknown".
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

HTML = "text/html"
SVG = "image/svg+xml"
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
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"hevc": "image/heic",
    b"hevx": "image/heic",
    b"mif1": "image/heif",
    b"msf1": "image/heif",
    b"qt  ": "video/quicktime",
    b"M4A ": "audio/mp4",
}
# Bitrates in kbit/s by their number, of MPEG-1 and of MPEG-2 and 2.5 (ISO/IEC 11172-3 and 13818-3, 2.4.2.3).
_BITRATES_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_BITRATES_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_SAMPLE_RATES = (44_100, 48_000, 32_000)
_DIB_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})
# With what texts in markup, and JSON, can begin: blanks, a byte order mark of UTF-8 or UTF-16, and their own marks.
# A PDF whose header stands a little later begins with a blank, a piece of a byte order mark or a zero.
_TEXT_BEGINS = frozenset(b"\t\n\v\f\r \xef\xbb\xbf\xfe\xff\x00<{[")
# Blanks, comments and an XML declaration may stand before a page begins.
BEFORE_HTML = rb"(?:\s+|<!--.*?-->|<\?xml.*?\?>)*"
_BEFORE_HTML = re.compile(BEFORE_HTML, re.DOTALL)
# Before an SVG a document type may stand too; one with declarations of its own is not followed.
_BEFORE_SVG = re.compile(rb"(?:\s+|<!--.*?-->|<\?xml.*?\?>|<!DOCTYPE\s+svg[^>\[]*>)*", re.DOTALL)
_SVG_START = re.compile(rb"""<svg\s[^>]*?xmlns\s*=\s*["']http://www\.w3\.org/2000/svg["']""")
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
    if start.startswith(b"BM"):
        return "image/bmp" if _is_bmp(start) else None
    if start[0] == 0xFF and _is_mp3(start):
        return "audio/mpeg"
    if not may_be_markup(start):
        return None
    if is_html(start):
        return HTML
    if is_svg(start):
        return SVG
    # Readers take a PDF whose header stands a little later (ISO 32000, Annex H); text may only mention it.
    head = start[:SNIFF_BYTES].lstrip(b"\xef\xbb\xbf\r\n\t \x00")
    return "application/pdf" if head.startswith(b"%PDF-") else None


def as_ascii(start: bytes, limit: int = SNIFF_BYTES) -> bytes:
    """The first bytes as text is looked through: without a byte order mark, UTF-16 reduced to ASCII."""
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return start[: 2 * limit].decode("utf-16", "ignore").encode("ascii", "replace")
    return start[:limit].removeprefix(b"\xef\xbb\xbf")


def may_be_markup(start: bytes) -> bool:
    """False for what cannot begin as HTML, XML or JSON do: the first byte tells, and most files are done with."""
    return start[:1] != b"" and start[0] in _TEXT_BEGINS


def is_html(start: bytes) -> bool:
    """Whether the bytes begin as an HTML page does."""
    text = as_ascii(start)
    begin = _BEFORE_HTML.match(text)
    return _HTML_START.match(text, begin.end() if begin else 0) is not None


def has_markup(start: bytes) -> bool:
    """Whether any of HTML's common tags is there."""
    return _HTML_TAG.search(as_ascii(start)) is not None


def root_at(text: bytes) -> int:
    """Where the first element of an XML text stands if that is an SVG."""
    begin = _BEFORE_SVG.match(text, 3 if text.startswith(b"\xef\xbb\xbf") else 0)
    return begin.end() if begin else 0


def is_svg(start: bytes) -> bool:
    """Whether the bytes begin with SVG's root element, in SVG's namespace."""
    text = as_ascii(start)
    return _SVG_START.match(text, root_at(text)) is not None


def _is_bmp(start: bytes) -> bool:
    """Two letters prove nothing; the headers' sizes must fit one another too."""
    if len(start) < 18:
        return False
    pixels, header = struct.unpack_from("<II", start, 10)
    return header in _DIB_HEADERS and 14 + header <= pixels < 2**20


class Mp3Frame(NamedTuple):
    """What the header of an MPEG audio frame of layer III says.

    `length` is without padding; `kind` is the byte with the bitrate, without the padding's bit; `side_bytes` come
    before its sound.
    """

    sync: bytes
    kind: int
    bitrate: int
    rate: int
    samples: int
    length: int
    side_bytes: int


def mp3_frame(header: bytes) -> Mp3Frame | None:
    """Read a frame's four bytes (ISO/IEC 11172-3, 2.4.2.3); None for other layers and for a free bitrate."""
    bits = int.from_bytes(header[:4], "big")
    version, bitrate_index, rate_index = bits >> 19 & 3, bits >> 12 & 15, bits >> 10 & 3
    is_frame = len(header) >= 4 and bits >> 21 == 0x7FF and bits >> 17 & 3 == 1 and version != 1
    if not is_frame or bitrate_index in (0, 15) or rate_index == 3:
        return None
    bitrate = 1000 * (_BITRATES_1 if version == 3 else _BITRATES_2)[bitrate_index]
    rate = _SAMPLE_RATES[rate_index] // {3: 1, 2: 2, 0: 4}[version]
    samples = 1152 if version == 3 else 576
    is_mono = bits >> 6 & 3 == 3
    side_bytes = (17 if is_mono else 32) if version == 3 else (9 if is_mono else 17)
    length = samples // 8 * bitrate // rate
    return Mp3Frame(header[:2], header[2] & ~2, bitrate, rate, samples, length, side_bytes)


def _is_mp3(start: bytes) -> bool:
    """Whether a second frame of the same kind follows the first."""
    first = mp3_frame(start[:4])
    if first is None:
        return False
    place = first.length + (start[2] >> 1 & 1)
    second = mp3_frame(start[place : place + 4])
    return bool(second and first.sync == second.sync and first.rate == second.rate)
