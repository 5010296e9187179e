"""Hostile names through the real rule into a real archive, which all readers then unpack."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from downloader.jobs import Source
from downloader.names import NameBook, late_name, wanted_name
from downloader.work.archive import ArchiveWriter, EntryHead
from downloader.work.budget import ByteBudget
from downloader.work.disposition import filename
from downloader.work.reports import CHECKSUMS_NAME, MANIFEST_NAME, MISSING_NAME
from tests.hostile.nasty import carried, hostile_names
from tests.hostile.twins import collisions
from tests.hostile.unpacking import Sample, complaints, quick_folder
from tests.hostile.windows import character_faults, windows_faults
from tests.ledger import MemoryLedger
from tests.memorystore import MemoryStore
from tests.readers import Found
from tests.ziplint import lint

_KEY = "names.zip"
_PART_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class NamesFigures:
    """What came of it; everything but `wanted` and `changed` has to be empty or true."""

    wanted: int
    changed: int
    same_again: bool
    collisions: list[str]
    illegal: list[str]
    complaints: dict[str, list[str]]

    def __str__(self) -> str:
        readers = "\n".join(f"  {reader}: {len(said)} complaints" for reader, said in self.complaints.items())
        return (
            f"names: {self.wanted} hostile names, {self.changed} of them changed, {len(self.collisions)} collisions, "
            f"{len(self.illegal)} illegal on Windows, the same names again: {self.same_again}\n{readers}"
        )

    @property
    def faults(self) -> list[str]:
        """All that is wrong."""
        said = [f"{reader}: {text}" for reader, texts in self.complaints.items() for text in texts]
        return [*self.collisions, *self.illegal, *said, *([] if self.same_again else ["other names the second time"])]


def try_names(count: int, seed: int = 1) -> NamesFigures:
    """Give `count` hostile names to the rule, pack them, and have everybody unpack them."""
    hostile = hostile_names(count, seed)
    files = carried(hostile, seed)
    names = given_names(files)
    with quick_folder() as folder:
        sample = asyncio.run(_packed(names, Path(folder) / _KEY))
        linted = [entry.name for entry in lint(sample.path.read_bytes()).entries]
        said = complaints([sample]) | {"our linter": [] if linted == names else ["other names than were given"]}
    return NamesFigures(
        wanted=count,
        changed=sum(name != wanted for name, wanted in zip(names, hostile, strict=False)),
        same_again=given_names(carried(hostile_names(count, seed), seed)) == names,
        collisions=collisions(names),
        illegal=[fault for name in names for fault in (*windows_faults(name), *character_faults(name))],
        complaints=said,
    )


def given_names(files: Sequence[tuple[Source, str | None]]) -> list[str]:
    """The names of one archive, as a job gives them: first what the request says, then the answers, then our own."""
    book = NameBook()
    planned = [book.reserve(wanted) if (wanted := wanted_name(source)) else None for source, _ in files]
    late = [
        name or book.reserve(late_name(source, filename(disposition)))
        for name, (source, disposition) in zip(planned, files, strict=True)
    ]
    return late + [book.reserve(name) for name in (MISSING_NAME, MANIFEST_NAME, CHECKSUMS_NAME)]


async def _packed(names: Sequence[str], path: Path) -> Sample:
    """An archive with a file of its own bytes for each name; their CRCs all differ, since only four bytes do."""
    store = MemoryStore()
    budget = ByteBudget(64 * _PART_BYTES)
    archive = ArchiveWriter(
        store, _KEY, part_bytes=_PART_BYTES, parts_in_flight=4, budget=budget, ledger=MemoryLedger()
    )
    wanted = []
    for index, name in enumerate(names):
        data = b"file " + index.to_bytes(4, "big")
        found = Found(name, len(data), zlib.crc32(data))
        await archive.begin(EntryHead(index, name, size=found.size))
        await archive.write([data])
        await archive.commit(found.crc32, found.size)
        wanted.append(found)
    await archive.finish()
    path.write_bytes(store.objects[_KEY])
    return Sample(path, wanted)
