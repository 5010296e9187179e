"""The figures of an attempt: what is told of files that arrive and of those that have."""

from __future__ import annotations

from downloader.jobs import FileError, FileResult, FileStatus, Source
from downloader.work.progress import Progress

SOURCES = [Source(index, f"id-{index}", f"https://host/{index}.bin?secret=1") for index in range(3)]


def done(index: int) -> FileResult:
    """A file that is in the archive."""
    return FileResult(index, f"id-{index}", f"https://host/{index}.bin", f"{index}.bin", FileStatus.DONE, 5)


async def test_a_file_that_arrives_is_told_as_it_is_when_asked() -> None:
    """Its name, its length and its public URL; each change is told once."""
    progress = Progress(SOURCES)
    progress.fetching(0, None, None)
    progress.fetching(0, "a.bin", 7)
    (told,) = progress.take_changes(10)
    assert told == FileResult(0, "id-0", "https://host/0.bin", "a.bin", FileStatus.FETCHING, 7)
    assert not progress.untold
    assert not progress.take_changes(10)


async def test_who_asks_late_hears_the_end_alone() -> None:
    """Changes come oldest first, and only the last of each file."""
    progress = Progress(SOURCES)
    for index in range(3):
        progress.fetching(index, f"{index}.bin", 5)
    progress.done(done(0))
    progress.failed(1, "1.bin", FileError("timeout", "too slow"))
    assert [(file.index, file.status) for file in progress.take_changes(2)] == [
        (2, FileStatus.FETCHING),
        (0, FileStatus.DONE),
    ]
    assert [(file.index, file.status) for file in progress.take_changes(2)] == [(1, FileStatus.FAILED)]


async def test_what_could_not_be_told_is_told_again_unless_there_is_news() -> None:
    """A file that has come meanwhile is told as come."""
    progress = Progress(SOURCES)
    for index in range(2):
        progress.fetching(index, f"{index}.bin", 5)
    taken = progress.take_changes(10)
    progress.done(done(1))
    progress.put_back(taken)
    assert [(file.index, file.status) for file in progress.take_changes(10)] == [
        (0, FileStatus.FETCHING),
        (1, FileStatus.DONE),
    ]
