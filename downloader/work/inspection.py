"""Inspection: what a file is, found out while its bytes pass, and whether it is what was asked for.

CPU only: the pipeline calls it wherever it likes, in order, with blocks of any size. The first kilobyte decides about
the type, the two ends about figures like an image's size; nothing else is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from isal import isal_zlib

from downloader.errors import SourceError
from downloader.jobs import Source
from downloader.work import sniff
from downloader.work.expectations import best_type, check_no_page, check_no_report, check_type
from downloader.work.metadata import Windows, figures
from downloader.work.pages import LOOK_BYTES
from downloader.work.transfer import Offer


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found: size in bytes, digests, the media type and figures for the caller."""

    size: int
    crc32: int
    sha256: str | None
    content_type: str | None
    metadata: dict[str, Any] = field(default_factory=dict)


class Inspector:
    """Takes a file's bytes in order; raises SourceError as soon as they cannot be the file that was asked for."""

    def __init__(self, source: Source, offer: Offer, *, sha256: bool = True) -> None:
        """Without `sha256` the digest is only made where the caller expects one."""
        self._source = source
        self._offer = offer
        self._size = 0
        self._crc32 = 0
        expected = source.checksum.algorithm if source.checksum else None
        self._sha256 = hashlib.sha256() if sha256 or expected == "sha256" else None
        self._md5 = hashlib.md5(usedforsecurity=False) if expected == "md5" else None
        self._windows = Windows()
        self._proven: str | None = None
        self._is_judged = False

    def update(self, chunks: Sequence[bytes | memoryview]) -> None:
        """Take the next bytes; raises `html_instead_of_file`, `type_mismatch` or `size_mismatch` when that is known."""
        for chunk in chunks:
            if self._sha256 is not None:
                self._sha256.update(chunk)
            if self._md5 is not None:
                self._md5.update(chunk)
            self._crc32 = isal_zlib.crc32(chunk, self._crc32)
            self._size += len(chunk)
            self._windows.add(chunk)
        self._check_size(is_whole=False)
        if not self._is_judged and self._size >= LOOK_BYTES:
            self._judge()

    def finish(self) -> Inspection:
        """Judge the whole; raises `size_mismatch` or `checksum_mismatch` besides what `update` raises."""
        self._check_size(is_whole=True)
        if not self._is_judged:
            self._judge()
        self._check_digest()
        kind = best_type(self._offer.content_type, self._proven)
        sha256 = self._sha256.hexdigest() if self._sha256 is not None else None
        return Inspection(self._size, self._crc32, sha256, kind, self._metadata(kind))

    def _judge(self) -> None:
        self._is_judged = True
        start = self._windows.head[: 2 * LOOK_BYTES]
        self._proven = sniff.media_type(start)
        declared = self._offer.content_type
        check_no_page(self._source, self._offer.filename, declared, self._proven, start)
        check_no_report(self._source, self._offer.filename, self._proven, start)
        if self._source.content_type is not None:
            check_type(self._source.content_type, declared, self._proven, is_empty=not self._size)

    def _check_size(self, *, is_whole: bool) -> None:
        expected = self._source.size
        if expected is None:
            return
        announced = self._offer.length
        if self._size > expected or (is_whole and self._size != expected) or announced not in (None, expected):
            found = max(self._size, announced or 0)
            raise SourceError("size_mismatch", f"the file has {found} bytes, {expected} were expected")

    def _check_digest(self) -> None:
        expected = self._source.checksum
        if expected is None:
            return
        found = {
            "sha256": self._sha256.hexdigest() if self._sha256 is not None else "",
            "md5": self._md5.hexdigest() if self._md5 is not None else "",
            "crc32": f"{self._crc32:08x}",
        }[expected.algorithm]
        if found != expected.hex:
            raise SourceError("checksum_mismatch", f"the file's {expected.algorithm} is not the expected one")

    def _metadata(self, kind: str | None) -> dict[str, Any]:
        about = {"mediaType": kind} if kind else {}
        return about | figures(self._proven, self._windows)
