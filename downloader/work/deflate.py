"""Compression: whether it is worth the work, and raw deflate for ZIP. CPU only; call it in a thread."""

from __future__ import annotations

from typing import Any, Literal

from isal import isal_zlib
from zlib_ng import zlib_ng

Level = Literal["balanced", "fast"]

# How far back a deflate stream refers.
WINDOW_BYTES = 32 * 1024
# Fewer bytes than this share of the block must be left for compression to pay.
_WORTH_RATIO = 0.95
_TRIAL_BYTES = 64 * 1024
_LEAST_BYTES = 64

# fmt: off
_PACKED_SUFFIXES = frozenset({
    "7z", "aac", "apk", "arj", "avif", "br", "bz2", "cab", "crx", "deb", "docx", "dmg", "ear", "epub", "flac", "gif",
    "gz", "heic", "heif", "ipa", "jar", "jp2", "jpeg", "jpg", "jxl", "lz", "lz4", "lzma", "m4a", "m4v", "mkv", "mov",
    "mp3", "mp4", "mpeg", "mpg", "odp", "ods", "odt", "oga", "ogg", "ogv", "opus", "png", "pptx", "rar", "rpm",
    "tbz2", "tgz", "txz", "vsix", "war", "webm", "webp", "whl", "wma", "wmv", "woff", "woff2", "xlsx", "xz", "z",
    "zip", "zst",
})
_PACKED_TYPES = frozenset({
    "application/gzip", "application/x-gzip", "application/zip", "application/x-7z-compressed", "application/x-bzip2",
    "application/x-rar-compressed", "application/vnd.rar", "application/x-xz", "application/zstd",
    "application/java-archive", "application/epub+zip", "font/woff", "font/woff2", "audio/mpeg", "audio/mp4",
    "audio/aac", "audio/ogg", "audio/flac", "audio/webm", "image/jpeg", "image/png", "image/gif", "image/webp",
    "image/avif", "image/heic", "image/jxl", "image/jp2",
})
# fmt: on
_PACKED_MARKS = (
    b"\x1f\x8b",
    b"PK\3\4",
    b"\x89PNG\r\n",
    b"\xff\xd8\xff",
    b"7z\xbc\xaf\x27\x1c",
    b"\xfd7zXZ\0",
    b"Rar!\x1a\7",
)


def deflate(block: bytes | memoryview, level: Level, *, before: bytes = b"", is_last: bool = True) -> bytes:
    """One block of a raw deflate stream (RFC 1951): blocks made one by one, and joined in order, are the stream.

    "balanced" is zlib-ng's level 4, "fast" ISA-L's level 1 (larger, four times as fast). `before` are the bytes in
    front of the block, of which the last 32 KiB count: what repeats them is found as in one stream, so that cutting
    costs a thousandth of the size. All but the last block end on a byte (Z_SYNC_FLUSH).
    """
    library: Any = zlib_ng if level == "balanced" else isal_zlib
    known = (before[-WINDOW_BYTES:],) if before else ()
    stream = library.compressobj(
        4 if level == "balanced" else 1,
        library.DEFLATED,
        -15,
        library.DEF_MEM_LEVEL,
        library.Z_DEFAULT_STRATEGY,
        *known,
    )
    start = stream.compress(block)
    return bytes(start + stream.flush(library.Z_FINISH if is_last else library.Z_SYNC_FLUSH))


def worth_compressing(first_block: bytes | memoryview, content_type: str | None, name: str) -> bool:
    """Whether a file with this beginning is worth deflating: judged by its type, then by a trial of up to 64 KiB."""
    if len(first_block) < _LEAST_BYTES or _is_packed(bytes(first_block[:8]), content_type, name):
        return False
    block = first_block[:_TRIAL_BYTES]
    return len(isal_zlib.compress(block, 1, -15)) < _WORTH_RATIO * len(block)


def _is_packed(mark: bytes, content_type: str | None, name: str) -> bool:
    media_type = (content_type or "").partition(";")[0].strip().lower()
    suffix = name.rpartition(".")[2].lower() if "." in name else ""
    return (
        suffix in _PACKED_SUFFIXES
        or media_type in _PACKED_TYPES
        or (media_type.startswith("video/"))
        or mark.startswith(_PACKED_MARKS)
    )
