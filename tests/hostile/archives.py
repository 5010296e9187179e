"""Random archives, written with all that may happen on the way, through our linter and everybody's readers."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

from downloader.names import NameBook
from downloader.work.archive import ArchiveWriter, EntryHead, Method
from downloader.work.budget import ByteBudget
from downloader.work.deflate import deflate
from tests.hostile.nasty import hostile_names
from tests.hostile.unpacking import READERS, Sample, complaints, quick_folder
from tests.ledger import MemoryLedger
from tests.memorystore import MemoryStore
from tests.readers import Found
from tests.ziplint import lint

_KEY = "random.zip"
_ENTRIES_MAX = 20
_SIZE_MAX = 200_000
_AT_ONCE = 1000  # archives on disk
_LINE = b"the same line again and again\n"
_AGAIN = 4  # every fourth is written twice, to see whether it comes out the same
_BORDERS = [0, 1, 29, 30, 31, 255, 256, 4095, 4096, 32_767, 32_768, 65_534, 65_535, 65_536, 65_537, _SIZE_MAX]
_DATES = [
    None,
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
    datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(1979, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(1980, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=45))),
    datetime(2000, 2, 29, 23, 59, 59, tzinfo=timezone(timedelta(hours=-12))),
    datetime(2024, 2, 29, 12, 0, 1),  # noqa: DTZ001 - without a zone, as some servers say it
    datetime(2038, 1, 19, 3, 14, 7, tzinfo=UTC),
    datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC),
    datetime(2106, 2, 7, 6, 28, 16, tzinfo=UTC),
    datetime(2107, 12, 31, 23, 59, 59, tzinfo=UTC),
    datetime(2108, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(timedelta(hours=-14))),
]


@dataclass(frozen=True, slots=True)
class Planned:
    """One file of an archive: its bytes as they are written, in how many pieces, and whether it stays."""

    head: EntryHead
    data: bytes
    cuts: tuple[int, ...]
    rolled_back: bool

    def pieces(self) -> list[bytes]:
        """What is written, cut anywhere."""
        packed = self.data
        if self.head.method is Method.DEFLATED:
            packed = deflate(self.data, "fast")
        marks = sorted({0, *(cut % (len(packed) + 1) for cut in self.cuts), len(packed)})
        return [packed[start:end] for start, end in pairwise(marks)]


@dataclass(frozen=True, slots=True)
class Plan:
    """One archive: its files in the order of writing, the size of the parts, and memory for how many."""

    files: tuple[Planned, ...]
    part_bytes: int
    budget_bytes: int

    @property
    def kept(self) -> list[Planned]:
        """The files that stay, in the order of the directory."""
        return sorted((file for file in self.files if not file.rolled_back), key=lambda file: file.head.index)


@dataclass(slots=True)
class ArchivesFigures:
    """How much was tried, and what was complained of."""

    archives: int = 0
    empty: int = 0
    entries: int = 0
    deflated: int = 0
    rolled_back: int = 0
    split_headers: int = 0
    bytes: int = 0
    complaints: dict[str, list[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        said = "\n".join(f"  {reader}: {len(texts)} complaints" for reader, texts in self.complaints.items())
        return (
            f"archives: {self.archives} with {self.entries} entries ({self.deflated} deflated), "
            f"{self.bytes / 1e6:.0f} MB; {self.rolled_back} entries rolled back, "
            f"{self.split_headers} headers across parts; {self.empty} without a file, each refused\n{said}"
        )

    @property
    def faults(self) -> list[str]:
        """All complaints."""
        return [f"{reader}: {text}" for reader, texts in self.complaints.items() for text in texts]


def try_archives(count: int, seed: int = 1) -> ArchivesFigures:
    """Write `count` random archives and have everybody read them."""
    figures = ArchivesFigures(complaints={name: [] for name in ("our linter", "written again", *READERS)})
    names = hostile_names(5000, seed)
    for numbers in _batches(count):
        with quick_folder() as folder:
            samples = [
                sample
                for number in numbers
                if (sample := _written(_plan(names, seed, number), Path(folder) / f"{number}.zip", figures))
            ]
            for reader, said in complaints(samples).items():
                figures.complaints[reader] += said
    return figures


def _batches(count: int) -> Iterator[range]:
    return (range(first, min(first + _AT_ONCE, count)) for first in range(0, count, _AT_ONCE))


# Plans


def _plan(names: Sequence[str], seed: int, number: int) -> Plan:
    rng = random.Random(f"{seed} {number}")
    book = NameBook()
    size = rng.choice([_small, _any])
    files = [
        _file(rng, index, book.reserve(rng.choice(names)), size(rng)) for index in range(rng.randint(0, _ENTRIES_MAX))
    ]
    rng.shuffle(files)
    part_bytes = rng.choice([7, 31, 64, 200, 1000, 5000, 65_536])
    # No archive of megabytes in parts of a few bytes: that would only take time.
    while sum(len(file.data) for file in files) / part_bytes > 100:
        part_bytes *= 5
    return Plan(tuple(files), part_bytes, rng.choice([0, part_bytes, 3 * part_bytes, 1 << 24]))


def _file(rng: random.Random, index: int, name: str, size: int) -> Planned:
    data = _data(rng, size)
    head = EntryHead(
        index,
        name,
        rng.choice(_DATES),
        rng.choice(list(Method)),
        rng.choice([len(data), None]),
    )
    cuts = tuple(rng.randrange(_SIZE_MAX) for _ in range(rng.randrange(5)))
    return Planned(head, data, cuts, rolled_back=rng.random() < 0.2)


def _small(rng: random.Random) -> int:
    """So small that parts may be, too, and many headers lie across two of them."""
    return rng.choice([0, 1, rng.randrange(300)])


def _any(rng: random.Random) -> int:
    return rng.choice([rng.choice(_BORDERS), rng.randrange(100), rng.randrange(3000), rng.randrange(3000)])


def _data(rng: random.Random, size: int) -> bytes:
    """Bytes that compress well, or not at all."""
    return rng.randbytes(size) if rng.random() < 0.5 else (_LINE * (size // len(_LINE) + 1))[:size]


# Writing


def _written(plan: Plan, path: Path, figures: ArchivesFigures) -> Sample | None:
    """Write and lint it; None for an archive without a file, which has to be refused."""
    figures.archives += 1
    figures.rolled_back += len(plan.files) - len(plan.kept)
    if not plan.kept:
        figures.empty += 1
        figures.complaints["our linter"] += _unless_refused(plan)
        return None
    data = asyncio.run(_archive(plan))
    path.write_bytes(data)
    figures.complaints["our linter"] += [f"{path.name}: {fault}" for fault in _lint_faults(plan, data, figures)]
    if figures.archives % _AGAIN == 0 and asyncio.run(_archive(plan)) != data:
        figures.complaints["written again"].append(f"{path.name}: other bytes")
    figures.entries += len(plan.kept)
    figures.deflated += sum(file.head.method is Method.DEFLATED for file in plan.kept)
    figures.bytes += len(data)
    return Sample(path, [Found(file.head.name, len(file.data), zlib.crc32(file.data)) for file in plan.kept])


def _unless_refused(plan: Plan) -> list[str]:
    try:
        asyncio.run(_archive(plan))
    except RuntimeError:
        return []
    return ["an archive without a file was finished"]


async def _archive(plan: Plan) -> bytes:
    store, ledger, budget = MemoryStore(), MemoryLedger(), ByteBudget(plan.budget_bytes)
    archive = ArchiveWriter(store, _KEY, part_bytes=plan.part_bytes, parts_in_flight=3, budget=budget, ledger=ledger)
    try:
        for file in plan.files:
            await _add(archive, file)
        await archive.finish()
    finally:
        await archive.close()
    return store.objects[_KEY]


async def _add(archive: ArchiveWriter, file: Planned) -> None:
    await archive.begin(file.head)
    for piece in file.pieces():
        await archive.write([piece])
    if file.rolled_back:
        await archive.rollback()
    else:
        await archive.commit(zlib.crc32(file.data), len(file.data))


def _lint_faults(plan: Plan, data: bytes, figures: ArchivesFigures) -> Iterator[str]:
    try:
        entries = lint(data).entries
    except AssertionError as error:
        yield str(error) or "an assertion of the linter"
        return
    for entry in entries:
        header_end = entry.end - entry.compressed
        figures.split_headers += entry.offset // plan.part_bytes != (header_end - 1) // plan.part_bytes
    if [entry.name for entry in entries] != [file.head.name for file in plan.kept]:
        yield "other names, or in another order"
    # What is rolled back leaves nothing, so the entries lie in the order of writing.
    written = [file.head.name for file in plan.files if not file.rolled_back]
    if [entry.name for entry in sorted(entries, key=lambda entry: entry.offset)] != written:
        yield "the data lies in another order than it was written in"
