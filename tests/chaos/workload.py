"""The jobs: what is asked for, and what must come of it. All of it follows from the seed and the job's number."""

from __future__ import annotations

import enum
import hashlib
import random
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

KIB = 1024
MIB = 1024 * KIB
# Every so many jobs comes one whose archive takes several parts.
LARGE_EVERY = 40
LINE = b"2026-11-25 12:00:00 INFO the same line again and again\n"


class Kind(enum.StrEnum):
    """How a source behaves; those after CHUNKED never give the file that was asked for."""

    PLAIN = "plain"
    SLOW = "slow"
    CUT_ONCE = "cut_once"
    BUSY_ONCE = "busy_once"
    CHUNKED = "chunked"
    GONE = "gone"
    SHORT = "short"
    OTHER = "other"


BAD = frozenset({Kind.GONE, Kind.SHORT, Kind.OTHER})
_WEIGHTS = {
    Kind.PLAIN: 40,
    Kind.SLOW: 30,
    Kind.CUT_ONCE: 10,
    Kind.BUSY_ONCE: 8,
    Kind.CHUNKED: 6,
    Kind.GONE: 4,
    Kind.SHORT: 1,
    Kind.OTHER: 1,
}


@dataclass(frozen=True, slots=True)
class FileSpec:
    """One file: its bytes follow from `seed` and `size`; `pause_s` is how long a slow source takes."""

    number: int
    index: int
    seed: str
    size: int
    kind: Kind
    text: bool
    pause_s: float
    checked: bool

    @property
    def name(self) -> str:
        """Its name in the archive."""
        return f"{self.number}/{self.index}.{'txt' if self.text else 'bin'}"

    @property
    def bad(self) -> bool:
        """Whether it must be reported as failed."""
        return self.kind in BAD

    @property
    def content(self) -> bytes:
        """What the archive must hold."""
        return content(self.seed, self.size, text=self.text)

    @property
    def sha256(self) -> str:
        """The digest of the content."""
        return _sha256(self.seed, self.size, text=self.text)


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One job: its files, and what must become of it if it is not lost by three workers."""

    number: int
    files: tuple[FileSpec, ...]
    on_error: str
    manifest: bool

    @property
    def completes(self) -> bool:
        """Whether there is an archive at the end."""
        bad = sum(file.bad for file in self.files)
        return bad == 0 or (self.on_error == "skip" and bad < len(self.files))

    def body(self, base: str) -> dict[str, Any]:
        """The request, for a source at `base`."""
        return {
            "files": [_wish(file, base) for file in self.files],
            "archiveName": f"job-{self.number}.zip",
            "options": {"onError": self.on_error, "manifest": self.manifest},
        }


class Workload:
    """All jobs of a run by their numbers."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._made: dict[int, JobSpec] = {}

    def job(self, number: int) -> JobSpec:
        """The job with this number, from 0."""
        made = self._made.get(number)
        if made is None:
            made = self._made[number] = _job(self._seed, number)
        return made


@lru_cache(64)
def content(seed: str, size: int, *, text: bool) -> bytes:
    """`size` bytes that are always the same for a seed; text compresses well, the rest does not."""
    if text:
        head = f"{seed}\n".encode()
        return (head + LINE * (size // len(LINE) + 1))[:size]
    return random.Random(seed).randbytes(size)


@lru_cache(4096)
def _sha256(seed: str, size: int, *, text: bool) -> str:
    return hashlib.sha256(content(seed, size, text=text)).hexdigest()


def _wish(file: FileSpec, base: str) -> dict[str, Any]:
    wish: dict[str, Any] = {
        "id": file.index,
        "url": f"{base}/file/{file.number}/{file.index}",
        "name": file.name,
    }
    if file.checked or file.kind is Kind.OTHER:  # who swaps a file is found out by its digest only
        wish["checksum"] = f"sha256:{file.sha256}"
    return wish


def _job(seed: int, number: int) -> JobSpec:
    dice = random.Random(f"{seed}-{number}")
    large = number % LARGE_EVERY == LARGE_EVERY - 1
    count = dice.randint(3, 5) if large else dice.choice((1, 2, 3, 3, 4, 5, 6, 8))
    files = tuple(_file(dice, seed, number, index, large=large) for index in range(count))
    return JobSpec(number, files, "fail" if dice.random() < 0.05 else "skip", dice.random() < 0.1)


def _file(dice: random.Random, seed: int, number: int, index: int, *, large: bool) -> FileSpec:
    kind = dice.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
    if large:
        size = dice.randint(3 * MIB, 6 * MIB)
        kind = kind if kind in (Kind.CUT_ONCE, Kind.GONE) else Kind.SLOW
    else:
        size = 0 if dice.random() < 0.05 else int(300 * KIB * dice.random() ** 2) + 1
    if kind in (Kind.CUT_ONCE, Kind.SHORT, Kind.OTHER):
        size = max(size, 64)  # too small a file cannot be cut, nor told from another
    return FileSpec(
        number=number,
        index=index,
        seed=f"{seed}-{number}-{index}",
        size=size,
        kind=kind,
        text=dice.random() < 0.3 and not large,
        pause_s=dice.uniform(1.5, 3.0) if large else dice.uniform(0.1, 2.0),
        checked=dice.random() < 0.3,
    )
