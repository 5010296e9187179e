"""The figures of one attempt at a job, and which files changed since they were last asked for."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from downloader.jobs import Fetching, Figures, FileError, FileResult, FileStatus, Source, public_url

# While a file arrives its fraction stays below this, so that the bar does not wait at the end for its packing.
ARRIVING = 0.95
# Of more files at once an event does not tell the bytes: it goes out several times a second.
FETCHING_MAX = 32


@dataclass(slots=True)
class _Moving:
    received: int = 0
    length: int | None = None
    fraction: float = 0.0
    name: str | None = None


class Progress:
    """Counts files and bytes; what is shown never falls within an attempt."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._moving: dict[int, _Moving] = {}
        self._fractions = 0.0
        self._done = 0
        self._failed = 0
        self._bytes = 0
        self._bytes_shown = 0
        self._lengths = 0
        self._lengths_unknown = len(sources)
        self._current: str | None = None
        # None stands for a file that arrives: most are in the archive before anybody asks.
        self._changes: dict[int, FileResult | None] = {}
        self.changed = asyncio.Event()

    def fetching(self, index: int, name: str | None, length: int | None) -> None:
        """A source answered; `length` in bytes where it says so."""
        file = self._moving.get(index)
        if file is None:
            file = self._moving[index] = _Moving()
        self._set_length(file, length)
        self._current = file.name = name
        self._change(index, None)

    def received(self, index: int, size_bytes: int) -> None:
        """Bytes of a file came in."""
        file = self._moving[index]
        file.received += size_bytes
        self._bytes += size_bytes
        if file.length:
            self._set_fraction(file, min(file.received / file.length, 1.0) * ARRIVING)
        self.changed.set()

    def restarted(self, index: int) -> None:
        """A file is fetched anew; its bytes so far do not count."""
        file = self._moving.get(index)
        if file is not None:
            self._bytes -= file.received
            file.received = 0
            self._set_fraction(file, 0.0)

    def resumed(self, result: FileResult) -> None:
        """A file was in the archive already when this attempt began."""
        self._moving[result.index] = _Moving(received=result.size or 0)
        self._bytes += result.size or 0
        self.done(result)

    def done(self, result: FileResult) -> None:
        """A file is in the archive."""
        self._done += 1
        self._end(result)

    def failed(self, index: int, name: str | None, error: FileError) -> None:
        """A file will not be in the archive."""
        self._failed += 1
        source = self._sources[index]
        self._end(FileResult(index, source.file_id, public_url(source.url), name, FileStatus.FAILED, error=error))

    def _end(self, result: FileResult) -> None:
        file = self._moving.pop(result.index, None) or _Moving()
        self._set_length(file, file.received)
        self._set_fraction(file, 1.0)
        if self._current == result.name:
            self._current = None
        self._change(result.index, result)

    def _set_length(self, file: _Moving, length: int | None) -> None:
        self._lengths += (length or 0) - (file.length or 0)
        self._lengths_unknown += (length is None) - (file.length is None)
        file.length = length

    def _set_fraction(self, file: _Moving, fraction: float) -> None:
        self._fractions += fraction - file.fraction
        file.fraction = fraction

    def _change(self, index: int, result: FileResult | None) -> None:
        self._changes.pop(index, None)
        self._changes[index] = result
        self.changed.set()

    def figures(self) -> Figures:
        """The figures now; `bytes_total` is None while the length of some file is unknown."""
        self._bytes_shown = max(self._bytes_shown, self._bytes)
        share = min(self._fractions / len(self._sources), 1.0) if self._sources else 0.0
        return Figures(
            done=self._done,
            failed=self._failed,
            bytes_fetched=self._bytes_shown,
            bytes_total=None if self._lengths_unknown else max(self._lengths, self._bytes_shown),
            progress=math.floor(99 * share + 1e-9),
            current_file=self._current,
            fetching=self._fetching(),
        )

    def _fetching(self) -> Fetching:
        """The files that arrive; those that are complete and wait to be packed are no news."""
        arriving = ((index, file.received) for index, file in self._moving.items() if file.received != file.length)
        return tuple(itertools.islice(arriving, FETCHING_MAX))

    def take_changes(self, limit: int) -> list[FileResult]:
        """Up to `limit` files that changed, oldest change first; each is given once."""
        indexes = list(itertools.islice(self._changes, limit))
        return [self._changes.pop(index) or self._arriving(index) for index in indexes]

    def _arriving(self, index: int) -> FileResult:
        source, file = self._sources[index], self._moving[index]
        url = public_url(source.url)
        return FileResult(index, source.file_id, url, file.name, FileStatus.FETCHING, file.length)

    def put_back(self, files: Sequence[FileResult]) -> None:
        """Changes that could not be told are told again, unless there is news of the same file."""
        taken: dict[int, FileResult | None] = {file.index: file for file in files}
        self._changes = taken | self._changes

    @property
    def untold(self) -> bool:
        """True while there are changes that nobody has taken."""
        return bool(self._changes)
