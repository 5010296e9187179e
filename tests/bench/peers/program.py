"""What the programs of contestants have in common: what they are told, and how they tell what they took."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from tests.bench.place import Place
from tests.bench.process import memory_bytes


@dataclass(frozen=True, slots=True)
class Task:
    """What a contestant is to do: fetch these files and leave one archive under `key` in the bucket."""

    base: str
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    deflate: bool
    place: Place
    key: str = ""

    def to_json(self) -> str:
        """The task as one line, for the standard input of a program."""
        return json.dumps(asdict(self)) + "\n"


@dataclass(frozen=True, slots=True)
class Took:
    """What it took: seconds of wall and of CPU (user and system), the peak of resident memory in bytes."""

    wall_s: float
    cpu_s: float
    peak_bytes: int


def read_task() -> Task:
    """The task from one line of the standard input."""
    task: dict[str, Any] = json.loads(sys.stdin.readline())
    lists = {"names": tuple(task["names"]), "sizes": tuple(task["sizes"])}
    return Task(**task | lists | {"place": Place(**task["place"])})


def measured(work: Callable[[], None]) -> None:
    """Do the work and print what it took as JSON; start and imports, and what was prepared before, do not count."""
    before, begun = _cpu_s(), time.perf_counter()
    work()
    took = Took(time.perf_counter() - begun, _cpu_s() - before, memory_bytes(os.getpid(), "VmHWM"))
    print(json.dumps(asdict(took)))


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
