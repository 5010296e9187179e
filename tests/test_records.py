"""What is remembered of files, in its two forms: the words, and the wire form that is made without them."""

from __future__ import annotations

import pytest

from downloader.jobs import FileError, FileResult, FileStatus, JobRequest, Source
from downloader.state.records import PAGE_FILES, KeptRequest, file_to_json, files_from_fields, wire_from_fields
from downloader.wire import file_to_wire

COUNT = 2 * PAGE_FILES + 5
SOURCES = tuple(
    Source(n, f"id-{n}" if n % 3 else n, f"https://h.example/{n}?token=x", "ü" if n % 7 else None) for n in range(COUNT)
)
EMPTY = FileResult(2, 2, "", "empty", FileStatus.DONE, 0, "text/plain", "ab" * 32, "00000000", length_verified=True)
WHOLE = FileResult(3, 3, "", "b", FileStatus.DONE, 7, None, "cd" * 32, "ffffffff", {"x": [1.5]}, length_verified=False)
GONE = FileError("http_status:404", "It is gone.")
TOLD = {
    0: FileResult(0, 0, "", "a b", FileStatus.FETCHING),
    1: FileResult(1, 1, "", None, FileStatus.FETCHING, 12),
    2: EMPTY,
    3: WHOLE,
    PAGE_FILES: FileResult(PAGE_FILES, 3, "", 'q"', FileStatus.FAILED, error=GONE),
}


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (0, COUNT),
        (0, 1),
        (1, PAGE_FILES),
        (PAGE_FILES - 1, PAGE_FILES + 1),
        (199, 999),
        (COUNT, COUNT + 9),
        (2000, 2001),
    ],
)
def test_both_forms_tell_the_same(first: int, last: int) -> None:
    """Whatever is asked for, also past the end: as many files, with the same members in the same order."""
    pages = dict(enumerate(KeptRequest.of(JobRequest(SOURCES, "a.zip")).pages))
    asked = {
        number: page for number, page in pages.items() if number in range(first // PAGE_FILES, last // PAGE_FILES + 1)
    }
    changes = {index: file_to_json(file) for index, file in TOLD.items() if first <= index < last}
    words = files_from_fields(first, last, asked, changes)
    pieces = list(wire_from_fields(first, last, asked, changes))
    assert [list(file.items()) for piece in pieces for file in piece] == [
        list(file_to_wire(file).items()) for file in words
    ]
    assert all(len(piece) <= PAGE_FILES for piece in pieces)
    assert len(words) == max(0, min(last, COUNT) - first)
