"""PDF (ISO 32000-1): its version, the number of its pages, and whether it is encrypted."""

from __future__ import annotations

import re
from itertools import islice

from downloader.work.metadata.windows import WINDOW_BYTES, Ends, Facts

_VERSION = re.compile(rb"%PDF-(\d\.\d)")
# Whitespace is bounded, so that no run of it is gone over again and again.
_FIELD = re.compile(rb"/(N|L)\s{0,8}(\d{1,12})(?![\d.])")
_STARTXREF = re.compile(rb"startxref\s{1,8}(\d{1,15})")
_ROOT = re.compile(rb"/Root\s{1,8}(\d{1,10})\s{1,8}(\d{1,5})\s{1,8}R\b")
_PAGES = re.compile(rb"/Pages\s{1,8}(\d{1,10})\s{1,8}(\d{1,5})\s{1,8}R\b")
_ENCRYPT = re.compile(rb"/Encrypt(?:\s{0,8}<<|\s{1,8}\d{1,10}\s{1,8}\d{1,5}\s{1,8}R\b)")
_TREE = re.compile(rb"/Type\s{0,8}/Pages\b")
_COUNT = re.compile(rb"/Count\s{1,8}(\d{1,9})(?=[\s/>])")
# A trailer or a catalog that is longer is none; the list of pages may be.
_MAX_DICTIONARY_BYTES = 16 * 1024


def pdf(ends: Ends) -> Facts:
    """What the header, the trailer (7.5.5) and the root of the page tree (7.7.3) say."""
    version = _VERSION.search(ends.head, 0, 1024 + 8)
    found: Facts = {"pdfVersion": version[1].decode()} if version else {}
    trailer, is_table = _trailer(ends)
    if _ENCRYPT.search(trailer, 0, _MAX_DICTIONARY_BYTES):
        found["encrypted"] = True
    pages = _linearized(ends) or _counted(ends, trailer, is_table=is_table)
    return found | ({"pages": pages} if pages else {})


def _linearized(ends: Ends) -> int:
    """The number of pages by the linearization dictionary (F.2.2), which is right as long as the length is."""
    mark = ends.head.find(b"/Linearized", 0, 1024 + 11)
    begin, end = ends.head.rfind(b"<<", 0, max(mark, 0)), ends.head.find(b">>", mark, mark + 512)
    dictionary = ends.head[begin:end] if 0 <= begin < mark < end else b""
    fields = {name: int(number) for name, number in _FIELD.findall(dictionary)}
    return fields.get(b"N", 0) if fields.get(b"L") == ends.size else 0


def _trailer(ends: Ends) -> tuple[bytes, bool]:
    """The last trailer dictionary, or that of the last cross-reference stream; and whether it is the former."""
    end = ends.tail.rfind(b"startxref")
    match = _STARTXREF.match(ends.tail, end) if end >= 0 else None
    if match is None:
        return b"", False
    table = ends.at(int(match[1]), WINDOW_BYTES).lstrip()
    if not table:
        # A table too long to be seen from its beginning: its trailer stands before the end all the same.
        return ends.tail[:end].rpartition(b"trailer")[2] if b"trailer" in ends.tail[:end] else b"", True
    if table.startswith(b"xref"):
        return table.partition(b"trailer")[2].partition(b"startxref")[0], True
    dictionary, stream, _ = table.partition(b"stream")
    return (dictionary if stream and b"/XRef" in dictionary else b""), False


def _counted(ends: Ends, trailer: bytes, *, is_table: bool) -> int:
    """The count of the page tree's root; 0 when it is out of sight, or when a newer one may be."""
    is_changed = b"/Prev" in trailer
    if b"/XRefStm" in trailer or (is_changed and not is_table):
        return 0
    catalog = _object(ends, _reference(trailer, _ROOT), is_changed=is_changed)
    tree = _object(ends, _reference(catalog, _PAGES), is_changed=is_changed)
    counts = [int(match[1]) for match in islice(_COUNT.finditer(tree), 2)]
    is_root = _TREE.search(tree) is not None and b"/Parent" not in tree
    return counts[0] if is_root and len(counts) == 1 else 0


def _reference(dictionary: bytes, entry: re.Pattern[bytes]) -> bytes:
    """Where a dictionary's entry points, as `3 0`; empty unless there is just one."""
    if len(dictionary) > _MAX_DICTIONARY_BYTES:
        return b""
    found = [b"%b %b" % match.groups() for match in islice(entry.finditer(dictionary), 2)]
    return found[0] if len(found) == 1 else b""


def _object(ends: Ends, reference: bytes, *, is_changed: bool) -> bytes:
    """The last object of this number; a changed file appends new ones, so the head alone proves nothing about it."""
    is_whole = len(ends.head) == ends.size
    windows = [ends.head] if is_whole else [ends.tail] if is_changed else [ends.tail, ends.head]
    for window in windows if reference else []:
        begin = max(window.rfind(before + reference + b" obj") for before in (b"\n", b"\r"))
        end = window.find(b"endobj", begin)
        if begin >= 0:
            return window[begin:end] if end >= 0 else b""
    return b""
