"""Threads for what must not run on the event loop: one small pool each, so that none can starve another."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

NICENESS = 5

# One for each processor, and never one alone: a digest must not wait for a compression.
COMPUTE_THREADS = min(max(os.cpu_count() or 1, 2), 8)
# Made when they are needed; the thread of a look-up that was given up stays busy until the resolver gives up too.
LOOKUP_THREADS = 32


@dataclass(frozen=True, slots=True)
class Threads:
    """The pools: `compute` for digests and compression, `disk` for spilled files, `lookup` for names."""

    compute: ThreadPoolExecutor
    disk: ThreadPoolExecutor
    lookup: ThreadPoolExecutor


@contextmanager
def threads() -> Iterator[Threads]:
    """Open the pools, and wait for their last work when closing."""
    with (
        ThreadPoolExecutor(COMPUTE_THREADS, "compute", _stand_back) as compute,
        ThreadPoolExecutor(2, "disk", _stand_back) as disk,
        ThreadPoolExecutor(LOOKUP_THREADS, "lookup") as lookup,
    ):
        yield Threads(compute, disk, lookup)


def _stand_back() -> None:
    """Let the loop go first when the processors are wanted by all: who calls the API waits for the loop alone."""
    if sys.platform == "linux":  # elsewhere niceness belongs to the whole process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)


async def off_loop(pool: ThreadPoolExecutor, work: Callable[[*Ts], T], *args: *Ts) -> T:
    """Run `work(*args)` in `pool`; the caller waits, the loop does not.

    When the caller is cancelled the work still runs to its end first, so that what it touches is never used twice.
    """
    future = asyncio.get_running_loop().run_in_executor(pool, lambda: work(*args))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise
