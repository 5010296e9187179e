"""How the C library keeps freed memory, for a process whose work is to pass blocks of a quarter MiB along.

glibc takes such blocks from the kernel one by one and gives each back, which costs more (page faults: 1 CPU second per
GB, measured) than receiving the data. With these thresholds it keeps and reuses them. All threads share one heap: with
one each, what a thread once freed stays in its own, and the process grows job by job (by 60 MiB, measured).
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from downloader.work.threads import off_loop

_M_ARENA_MAX = -8
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_MIB = 1024 * 1024
# Between two jobs that follow each other the freed memory is worth more to us than to the kernel.
REST_S = 2.0


def keep_freed_blocks(block_bytes_max: int = 4 * _MIB, kept_bytes_max: int = 32 * _MIB) -> bool:
    """Serve all threads from one heap, with blocks up to `block_bytes_max` in it.

    Up to `kept_bytes_max` stay free at its top. For the whole process, once at its start. False where the C library has
    no such setting.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wishes = ((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, block_bytes_max), (_M_TRIM_THRESHOLD, kept_bytes_max))
    return all(mallopt(name, value) for name, value in wishes)


async def give_back_at_rest(is_at_rest: Callable[[], bool], pool: ThreadPoolExecutor) -> None:
    """Until cancelled: when work has ended, return to the kernel what is free in the middle of the heap as well."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    has_worked = False
    while trim is not None:
        await asyncio.sleep(REST_S)
        if not is_at_rest():
            has_worked = True
        elif has_worked:
            has_worked = False
            await off_loop(pool, trim, 0)
