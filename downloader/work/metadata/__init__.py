"""Figures about a file for the caller: sizes of images, pages of PDFs, durations of audio and video.

They are read from the two ends of the file that were kept while it passed, and only what is certain is told. Whatever
bytes come, reading them is bounded (a few milliseconds at most) and never fails: then there are just no figures.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType

from downloader.work.metadata import boxes, images, matroska, mp3, pdf, sound
from downloader.work.metadata.windows import Ends, Facts, Windows

__all__ = ["Facts", "Windows", "figures"]

MAX_SIDE = 2**31
MAX_DURATION_S = 10 * 366 * 24 * 3600
_READERS: Mapping[str | None, Callable[[Ends], Facts]] = MappingProxyType(
    {
        "image/png": images.png,
        "image/gif": images.gif,
        "image/jpeg": images.jpeg,
        "image/webp": images.webp,
        "image/bmp": images.bmp,
        "image/tiff": images.tiff,
        "image/vnd.microsoft.icon": images.icon,
        "image/vnd.adobe.photoshop": images.photoshop,
        "image/svg+xml": images.svg,
        "image/avif": boxes.still,
        "image/heic": boxes.still,
        "image/heif": boxes.still,
        "application/pdf": pdf.pdf,
        "audio/wav": sound.wav,
        "audio/flac": sound.flac,
        "application/ogg": sound.ogg,
        "audio/mpeg": mp3.mp3,
        "audio/mp4": boxes.movie,
        "video/mp4": boxes.movie,
        "video/quicktime": boxes.movie,
        "video/webm": matroska.matroska,
        "video/x-msvideo": sound.avi,
    }
)


def figures(kind: str | None, windows: Windows) -> Facts:
    """What the ends of a file of this proven kind tell for certain; empty for an unknown kind."""
    reader = _READERS.get(kind)
    if reader is None:
        return {}
    try:
        return _sane(reader(windows.ends()))
    except (struct.error, LookupError, ValueError, ArithmeticError):
        return {}


def _sane(found: Facts) -> Facts:
    """The figures without those that no real file has."""
    sane = dict(found)
    if not (0 < found.get("width", 0) <= MAX_SIDE and 0 < found.get("height", 0) <= MAX_SIDE):
        sane.pop("width", None)
        sane.pop("height", None)
    if "duration" in found:
        sane["duration"] = round(float(found["duration"]), 3)
        # NaN is in no order with anything, so it is not kept either.
        if not 0 < sane["duration"] < MAX_DURATION_S:
            del sane["duration"]
    return sane
