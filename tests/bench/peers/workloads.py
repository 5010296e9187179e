"""The files of the comparison: six kinds of jobs, made once per run in memory (tmpfs)."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
# So many different contents are made of each kind; the other files are links to them.
CONTENTS = 20


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of job.

    `sizes` are the bytes of its files; `text` says which of them compress. `deflate` is what the contestants are asked
    for, as far as they can; `delay_s` and `rate` are the source's manners, 0 for none.
    """

    name: str
    title: str
    sizes: tuple[int, ...]
    text: tuple[bool, ...]
    deflate: bool = True
    delay_s: float = 0.0
    rate: int = 0

    @property
    def total(self) -> int:
        """Bytes of all files."""
        return sum(self.sizes)

    @property
    def files(self) -> int:
        """How many files there are."""
        return len(self.sizes)

    def file_name(self, index: int) -> str:
        """The name of a file; what compresses says so by its extension."""
        return f"{self.name.lower()}-{index:05d}.{'txt' if self.text[index] else 'bin'}"


def workloads(scale: float) -> dict[str, Workload]:
    """All six by name; `scale` 1 is the full size."""
    at_random = random.Random(11)

    def many(count: int, least: int = 2) -> int:
        return max(least, round(count * scale))

    documents = tuple(at_random.randint(20 * KIB, 2 * MIB) for _ in range(many(300)))
    photos, slow, logs, small = many(100), many(300, 8), many(40), many(20_000, 20)
    big = max(16 * MIB, int(GIB * scale))
    all_of = (
        Workload("W1", "documents", documents, tuple(n % 2 == 0 for n in range(len(documents)))),
        Workload("W2", "photos", (5 * MIB,) * photos, (False,) * photos, deflate=False),
        Workload("W3", "big files", (big, big), (False, False), deflate=False),
        Workload("W4", "slow source", (200 * KIB,) * slow, (False,) * slow, deflate=False, delay_s=0.1, rate=2_000_000),
        Workload("W5", "logs", (10 * MIB,) * logs, (True,) * logs),
        Workload("W6", "many files", (4 * KIB,) * small, (False,) * small, deflate=False),
    )
    return {workload.name: workload for workload in all_of}


def make(workload: Workload, folder: Path) -> Path:
    """Write the workload's files into a folder of its own; gives that folder."""
    target = folder / workload.name
    target.mkdir()
    made: dict[tuple[int, bool, int], Path] = {}
    for index, (size, text) in enumerate(zip(workload.sizes, workload.text, strict=True)):
        path = target / workload.file_name(index)
        kind = (size, text, index % CONTENTS if size < GIB // 8 else 0)
        if kind in made:
            os.link(made[kind], path)
            continue
        with path.open("wb") as file:
            for block in _log_lines(size, index) if text else _noise(size, index):
                file.write(block)
        made[kind] = path
    return target


def _noise(size: int, seed: int) -> Iterator[bytes]:
    at_random = random.Random(seed)
    block = at_random.randbytes(min(size, 8 * MIB))
    for start in range(0, size, len(block)):
        yield block[: size - start]


_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "curl/8.5.0",
)
_PATHS = ("/", "/api/v1/orders", "/api/v1/users", "/static/app.js", "/static/app.css", "/images/logo.png", "/login")
_STATUSES = (200, 200, 200, 200, 304, 404, 302, 500)


def _log_lines(size: int, seed: int) -> Iterator[bytes]:
    """Lines of nginx's combined format with time and request id: zlib leaves a tenth of them."""
    at_random = random.Random(seed)
    visitors = [f"10.{n % 7}.{at_random.randint(0, 255)}.{at_random.randint(1, 254)}" for n in range(300)]
    left, second = size, 0
    while left > 0:
        lines = []
        for _ in range(2000):
            second += at_random.random() < 0.3
            when = f"28/Nov/2026:{second // 3600 % 24:02d}:{second // 60 % 60:02d}:{second % 60:02d} +0000"
            path = at_random.choice(_PATHS) + (f"?page={at_random.randint(1, 40)}" if at_random.random() < 0.3 else "")
            sent, agent = at_random.choice((612, 1024, 4312, at_random.randint(200, 9000))), at_random.choice(_AGENTS)
            lines.append(
                f'{at_random.choice(visitors)} - - [{when}] "GET {path} HTTP/1.1" {at_random.choice(_STATUSES)} {sent} '
                f'"https://shop.example/" "{agent}" {at_random.random():.3f} {at_random.getrandbits(32):08x}\n'
            )
        block = "".join(lines).encode()[:left]
        left -= len(block)
        yield block
