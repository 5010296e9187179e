"""How the C library keeps freed memory, for a process whose work is to pass blocks of a quarter MiB along.

glibc takes such blocks from the kernel one by one and gives each back, which costs more (page faults: 1 CPU second per
GB, measured) than receiving the data. With these thresholds it keeps and reuses them.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_MIB = 1024 * 1024


def keep_freed_blocks(block_bytes_max: int = 4 * _MIB, kept_bytes_max: int = 32 * _MIB) -> bool:
    """Serve blocks up to `block_bytes_max` from the heap and keep up to `kept_bytes_max` of it free at its top.

    For the whole process, once at its start. False where the C library has no such setting.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, block_bytes_max) and mallopt(_M_TRIM_THRESHOLD, kept_bytes_max))
