"""Prints the figures: `python -m tests.hostile [names|archives|guard|flaky|http]`, all by default; 1 on any fault."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable
from typing import Protocol

import structlog

from tests.hostile.archives import try_archives
from tests.hostile.flaky import try_flaky
from tests.hostile.guard import try_guard
from tests.hostile.names import try_names
from tests.hostile.rawhttp import try_http

_SHOWN = 20


class Figures(Protocol):
    """Prints itself, and knows what is wrong."""

    @property
    def faults(self) -> list[str]:
        """What is wrong, in words."""


PIECES: dict[str, Callable[[int], Figures]] = {
    "names": lambda seed: try_names(10_000, seed),
    "archives": lambda seed: try_archives(1000, seed),
    "guard": lambda seed: try_guard(fuzzed=2000),
    "flaky": lambda seed: try_flaky(1000, seed),
    "http": lambda seed: try_http(5000, seed),
}


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("pieces", nargs="*", metavar="piece", help=f"any of {', '.join(PIECES)}; all by default")
    parser.add_argument("--seed", type=int, default=1, help="other chances")
    asked = parser.parse_args()
    if unknown := set(asked.pieces) - PIECES.keys():
        parser.error(f"no such piece: {', '.join(sorted(unknown))}")
    # The stories break connections on purpose, so nobody wants to read of it.
    logging.disable()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    return sum([_show(piece, asked.seed) for piece in asked.pieces or PIECES]) and 1


def _show(piece: str, seed: int) -> int:
    begun = time.monotonic()
    figures = PIECES[piece](seed)
    print(f"{figures}\n  {len(figures.faults)} faults, {time.monotonic() - begun:.0f} s\n", flush=True)
    for fault in figures.faults[:_SHOWN]:
        print(f"  FAULT {fault!a}")
    return len(figures.faults)


if __name__ == "__main__":
    sys.exit(main())
