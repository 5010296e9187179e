"""Compression: whether it is worth the work, and raw deflate for ZIP. CPU only; call it in a thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from isal import isal_zlib
from zlib_ng import zlib_ng

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


class Deflater:
    """One entry's raw deflate: "balanced" is zlib-ng level 4, "fast" ISA-L level 1 (larger, four times as fast)."""

    def __init__(self, level: Literal["balanced", "fast"] = "balanced") -> None:
        self._stream = (
            zlib_ng.compressobj(4, zlib_ng.DEFLATED, -15)
            if level == "balanced"
            else isal_zlib.compressobj(1, isal_zlib.DEFLATED, -15)
        )

    def compress(self, buffers: Sequence[bytes | memoryview]) -> list[bytes]:
        """Take the next bytes; gives what is ready, which may be nothing."""
        return [done for done in map(self._stream.compress, buffers) if done]

    def flush(self) -> list[bytes]:
        """End the stream and give the rest; the deflater is spent."""
        rest = self._stream.flush()
        return [rest] if rest else []


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
