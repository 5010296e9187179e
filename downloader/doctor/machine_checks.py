"""This machine: room on disk and in memory, open files."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from downloader.config import Settings, job_minimum_bytes
from downloader.doctor.findings import Finding, fail, ok, warn
from downloader.errors import StartError
from downloader.work.cache import check_folder

MIB = 1024 * 1024
# What the process takes beside the budget, as measured: code, connections, buffers of the libraries.
BESIDE_THE_BUDGET_BYTES = 160 * MIB
# Connections to Redis and the store, the listening socket, logs.
FILES_OF_OWN = 400


def examine_machine(settings: Settings) -> Iterator[Finding]:
    """Room on disk and in memory, and how many files may be open."""
    yield _disk(settings)
    yield from _memory(settings)
    yield from _open_files(settings)


def _disk(settings: Settings) -> Finding:
    wanted, folder = settings.cache.disk_bytes, settings.cache.dir or tempfile.gettempdir()
    if not wanted:
        return ok("cache", "no disk is used (cache.disk_bytes = 0)")
    try:
        check_folder(settings.cache.dir)
        free = shutil.disk_usage(folder).free
    except StartError as error:
        return fail("cache", error.message, "nothing can wait on disk")
    except OSError as error:
        return fail("cache", f"cannot look at {folder} ({error.strerror})", "set cache.dir to another folder")
    found = f"{folder} has {free // MIB} MiB free of the {wanted // MIB} MiB that cache.disk_bytes allows"
    if free < wanted:
        return warn("cache", found, "set cache.dir to a larger disk, or lower cache.disk_bytes")
    if _is_in_memory(Path(folder)):
        return warn("cache", f"{folder} lies in memory (tmpfs)", "set cache.dir to a folder on disk")
    return ok("cache", f"{folder} can be written to and has room for {wanted // MIB} MiB")


def _is_in_memory(folder: Path) -> bool:
    """Whether the folder lies in a tmpfs; False where the system does not tell."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    path = folder.resolve()
    under = [line.split() for line in mounts if path.is_relative_to(line.split()[1])]
    return bool(under) and max(under, key=lambda columns: len(columns[1]))[2] in ("tmpfs", "ramfs")


def _memory(settings: Settings) -> Iterator[Finding]:
    budget, least = settings.memory.budget_bytes, job_minimum_bytes(settings.part_bytes)
    jobs, wanted = budget // least, settings.worker.concurrency
    found = f"memory.budget_bytes ({budget // MIB} MiB) has room for {jobs} jobs at once, {least // MIB} MiB each"
    if jobs < wanted:
        remedy = f"raise it to {wanted * least} for worker.concurrency = {wanted}, or lower that"
        yield warn("memory", found, remedy)
    else:
        yield ok("memory", found)
    limit = _memory_limit_bytes()
    if limit and budget + BESIDE_THE_BUDGET_BYTES > limit:
        remedy = "lower memory.budget_bytes or give the process more: it may be killed under load"
        yield warn("memory limit", f"this process may have {limit // MIB} MiB in all", remedy)


def _memory_limit_bytes() -> int:
    """What the process may have: the machine's memory, or less where a control group says so; 0 when unknown."""
    try:
        limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not on Windows
        return 0
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (Path("/sys/fs/cgroup") / name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            limit = min(limit, int(text))
    return limit


def _open_files(settings: Settings) -> Iterator[Finding]:
    if sys.platform == "win32":
        return
    import resource  # not on Windows

    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)  # `serve` takes all that it may have
    worker = settings.worker
    # Each file under way has a connection, and may have a file on disk.
    needed = settings.limits.streams + 2 * worker.concurrency * worker.files_in_flight + FILES_OF_OWN
    if limit not in (resource.RLIM_INFINITY, -1) and limit < needed:
        remedy = f"raise it (ulimit -n {needed}, LimitNOFILE=), or lower limits.streams ({settings.limits.streams})"
        yield warn("open files", f"{limit} may be open, {needed} may be needed", remedy)
    else:
        yield ok("open files", f"{limit if limit >= 0 else 'any number'} may be open, {needed} may be needed")
