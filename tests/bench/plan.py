"""What a run measures: how large, how often, on what, against whom; and what each figure gives."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

OURS, RCLONE, RCLONE_PLAIN, SCRIPT, STREAM_ZIP, LIMIT = "downloader rclone rclone-plain script stream-zip limit".split()
OURS_PLAIN, OURS_FAST = "downloader-plain", "downloader-fast"
# The service as it is, without SHA-256, which none of its peers makes, and with its faster deflate.
SERVICES: Mapping[str, Sequence[str]] = {
    OURS: (),
    OURS_PLAIN: ("worker.sha256=false",),
    OURS_FAST: ("worker.deflate=fast",),
}
CONTESTANTS = (OURS, OURS_PLAIN, OURS_FAST, RCLONE, RCLONE_PLAIN, SCRIPT, STREAM_ZIP, LIMIT)
GB = 1e9


@dataclass(frozen=True, slots=True)
class Plan:
    """`scale` 1 is the full size; `settings` are the service's (`section.key=value`)."""

    scale: float = 1.0
    runs: int = 5
    stores: Sequence[str] = ("sink", "weed")
    contestants: Sequence[str] = CONTESTANTS
    settings: Sequence[str] = ()

    def of(self, full: int, least: int = 1) -> int:
        """So many of what the full size has `full` of."""
        return max(least, round(full * self.scale))


@dataclass(frozen=True, slots=True)
class Measured:
    """What a figure gives: numbers by name, with the unit at the name's end, and the runs they were made of."""

    numbers: Mapping[str, float]
    runs: Sequence[Mapping[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Figure:
    """Something to measure; it prints what it finds as it goes."""

    name: str
    about: str
    measure: Callable[[Plan], Measured]


def spread(times_ms: Sequence[float]) -> str:
    """Median, 99th percentile and most, in milliseconds."""
    p50, p99, most = spread_of(times_ms).values()
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, most {most:.1f} ms"


def spread_of(times_ms: Sequence[float], prefix: str = "") -> dict[str, float]:
    """The same as numbers."""
    cuts = statistics.quantiles(times_ms, n=100, method="inclusive")
    return {f"{prefix}p50_ms": cuts[49], f"{prefix}p99_ms": cuts[98], f"{prefix}most_ms": max(times_ms)}
