"""The shapes of job that are killed: together they come by nearly everything on a job's path."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from downloader.work.reports import CHECKSUMS_NAME, MANIFEST_NAME, MISSING_NAME
from tests.failpoints.origin import File

MIB = 1024 * 1024


class Role(enum.Enum):
    """When the points of the child that is to be killed begin to count."""

    FIRST = "from the request on, of the first to work on the job"
    HEIR = "of the second, after the first was killed late in its upload"
    LEAVING = "from SIGTERM on, which comes late in the upload"
    DOOR = "from the request on, of one that only takes jobs in"


@dataclass(frozen=True, slots=True)
class Shape:
    """A job, and which of its processes is armed."""

    number: int
    story: str
    role: Role
    files: tuple[File, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def expected(self) -> dict[str, bytes | None]:
        """What the archive must hold by name; None for an entry of the service's own."""
        names: dict[str, bytes | None] = {file.name: file.data for file in self.files if file.comes}
        if len(names) < len(self.files):
            names[MISSING_NAME] = None
        if self.options.get("manifest"):
            names |= {MANIFEST_NAME: None, CHECKSUMS_NAME: None}
        return names

    @property
    def kept(self) -> dict[int, bytes]:
        """What must be kept beside the archive, by the files' places in the request."""
        if not self.options.get("keepFiles"):
            return {}
        return {index: file.data for index, file in enumerate(self.files) if file.comes}


def _many() -> tuple[File, ...]:
    kinds = ("plain", "text", "text", "plain", "chunked", "missing")
    return tuple(File(f"file-{n:02}.dat", 900 + 2711 * n, kinds[n % 6]) for n in range(30))  # type: ignore[arg-type]


def _large(last: str) -> tuple[File, ...]:
    return (
        File("unknown-length.bin", 6 * MIB, "chunked"),
        File("cut-once.bin", 6 * MIB, "cut"),
        File("last.bin", 6 * MIB, last),  # type: ignore[arg-type]
    )


def _torn() -> tuple[File, ...]:
    """The archive follows the large one, so that its first half is on its way to the store when it starts anew."""
    return (File("small.bin", 1000), File("starts-anew.bin", 24 * MIB, "torn"), File("broken.bin", 3 * MIB, "broken"))


def _kept() -> tuple[File, ...]:
    return (File("small.bin", 1000), File("text.txt", 50_000, "text"), File("large.bin", 12 * MIB))


ONE = (File("one.bin", 10_000),)

SHAPES = {
    shape.number: shape
    for shape in (
        Shape(1, "one small file", Role.FIRST, ONE),
        Shape(
            2,
            "thirty small files, some missing, with a manifest",
            Role.FIRST,
            _many(),
            {"manifest": True, "onError": "skip"},
        ),
        Shape(3, "three large files, an upload of several parts", Role.FIRST, _large("plain")),
        Shape(4, "the same, inherited from one that was killed late", Role.HEIR, _large("held")),
        Shape(5, "the same, given back at SIGTERM", Role.LEAVING, _large("held")),
        Shape(6, "the request of a job", Role.DOOR, ONE),
        Shape(7, "a large file that starts anew in the middle, and one that never comes", Role.FIRST, _torn()),
        Shape(8, "files that are kept, one larger than a part", Role.FIRST, _kept(), {"keepFiles": True}),
    )
}
