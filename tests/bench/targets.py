"""What the figures must reach: one line for each bound, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

Numbers = Mapping[str, Mapping[str, float]]


class Verdict(Enum):
    """What became of a target."""

    REACHED = "reached"
    MISSED = "missed"
    UNKNOWN = "not measured"


@dataclass(frozen=True, slots=True)
class Target:
    """A bound of one figure: `value`, or its quotient by `per`, is at most (or with `at_least`, no less than) `bound`.

    Both are `figure.number`.
    """

    title: str
    value: str
    bound: float
    unit: str = ""
    per: str = ""
    at_least: bool = False

    def found(self, numbers: Numbers) -> float | None:
        """What was measured, None when it was not."""
        value, per = _number(numbers, self.value), _number(numbers, self.per) if self.per else 1.0
        return value / per if value is not None and per else None

    def verdict(self, numbers: Numbers) -> Verdict:
        """Whether the bound is kept."""
        found = self.found(numbers)
        if found is None:
            return Verdict.UNKNOWN
        return Verdict.REACHED if (found >= self.bound if self.at_least else found <= self.bound) else Verdict.MISSED


def _number(numbers: Numbers, path: str) -> float | None:
    figure, _, name = path.partition(".")
    return numbers.get(figure, {}).get(name)


def _times(workload: str, store: str, what: str, bound: float, other: str, *, title: str = "") -> Target:
    """So many times what another contestant needs."""
    ours, theirs = f"{workload}.{store}.downloader.{what}", f"{workload}.{store}.{other}.{what}"
    where = "SeaweedFS" if store == "weed" else "discarding sink"
    named = {"wall_s": "wall", "cpu_s_per_gb": "CPU", "archive_bytes": "size of the archive"}[what]
    return Target(title or f"{workload} {named}, {where}", ours, bound, f"x {other}", per=theirs)


def _mib(title: str, number: str, bound: float) -> Target:
    return Target(f"peak memory, {title}", f"memory.{number}", bound, "MiB")


TARGETS = (
    *(
        target
        for name in ("W2", "W3")
        for target in (
            _times(name, "sink", "cpu_s_per_gb", 0.62, "rclone", title=f"{name} CPU with SHA-256, discarding sink"),
            Target(
                f"{name} CPU without SHA-256, discarding sink",
                f"{name}.sink.downloader-plain.cpu_s_per_gb",
                0.45,
                "x rclone",
                per=f"{name}.sink.rclone.cpu_s_per_gb",
            ),
        )
    ),
    _times("W3", "weed", "wall_s", 0.95, "rclone"),
    _times("W3", "weed", "wall_s", 1.45, "limit"),
    _times("W1", "sink", "wall_s", 0.25, "script"),
    _times("W1", "weed", "wall_s", 0.25, "script"),
    _times("W1", "weed", "wall_s", 0.5, "rclone"),
    *(
        target
        for store in ("sink", "weed")
        for target in (
            _times("W4", store, "wall_s", 0.15, "rclone"),
            Target(
                f"W4 wall, {'SeaweedFS' if store == 'weed' else 'discarding sink'}",
                f"W4.{store}.downloader.wall_s",
                1.15,
                "x ideal",
                per="W4.ideal_wall_s",
            ),
            _times("W6", store, "wall_s", 1.0, "script"),
            _times("W6", store, "wall_s", 0.8, "rclone"),
            _times("W5", store, "wall_s", 0.4, "script"),
            _times("W5", store, "archive_bytes", 1.08, "script"),
        )
    ),
    Target("W6 CPU, discarding sink", "W6.sink.downloader.cpu_ms_per_file", 0.3, "ms per file"),
    _mib("W1 to W6, 1 and 8 GiB, default budget", "default.most_mib", 320),
    _mib("W1 to W6, 1 and 8 GiB, memory.budget_bytes at 48 MiB", "48_mib.most_mib", 160),
    Target("peak memory, 8 GiB", "memory.default.8_gib_by_1_gib", 1.1, "x 1 GiB"),
    *(
        Target(f"event loop lag beside {name}: p99 above idle", f"lag.{name}_above_idle_p99_ms", 20, "ms")
        for name in ("W2", "W3", "W5")
    ),
    Target("initiate, 100 files, 300/s for 30 s beside two jobs: p99", "hurry.p99_ms", 50, "ms"),
    Target("initiate, 5 files, one process", "ceiling.per_s", 2000, "per s", at_least=True),
    Target("open event streams held", "streams.streams", 5000, at_least=True),
    Target("memory of an open stream", "streams.each_kib", 16, "KiB"),
    Target("event to 1,000 listeners: p99", "streams.event_p99_ms", 100, "ms"),
    Target("time per file, jobs of 100 to 10,000 files: most by least", "growth.spread", 1.3, "x"),
    Target("status of a job of 10,000 files: p99", "growth.status_p99_ms", 50, "ms"),
    Target("three replicas, jobs per minute", "replicas.three_by_one", 2.2, "x one", at_least=True),
)
