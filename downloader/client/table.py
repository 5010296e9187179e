"""The caller's jobs as a table, and the end of one of them."""

from __future__ import annotations

import json
from typing import Any

from downloader.client.calls import Calls
from downloader.client.printing import result
from downloader.client.server import JobRef
from downloader.client.text import amount, printable

PAGE_JOBS = 200
HEADER = ("JOB", "STATUS", "FILES", "MISSING", "ARCHIVE", "CREATED (UTC)", "NAME")


async def jobs(calls: Calls, states: str, limit: int, *, as_json: bool) -> int:
    """Print the newest `limit` jobs, as a table or one JSON object each."""
    found: list[dict[str, Any]] = []
    after: str | None = None
    while len(found) < limit:
        page = await calls.jobs(min(PAGE_JOBS, limit - len(found)), states, after)
        found += page["jobs"]
        after = page["next"]
        if after is None:
            break
    if as_json:
        for job in found:
            result(json.dumps(job, separators=(",", ":")))
    elif not found:
        result("There are no such jobs." if states else "There are no jobs.")
    else:
        for line in _table([HEADER, *map(_row, found)]):
            result(line)
    return 0


async def cancel(calls: Calls, ref: JobRef, *, as_json: bool) -> int:
    """Cancel a job and print what it is now; 1 when it had ended otherwise."""
    job = await calls.cancel(ref)
    if as_json:
        result(json.dumps(job, separators=(",", ":")))
    else:
        result(f"job {job['jobId']} is {job['status']}")
    return 0 if job["status"] == "cancelled" else 1


def _row(job: dict[str, Any]) -> tuple[str, ...]:
    archive = job.get("archive") or {}
    return (
        job["jobId"],
        f"{job['status']} {job['progress']} %" if job["status"] == "processing" else job["status"],
        f"{job['filesCompleted']}/{job['totalFiles']}",
        str(job["filesFailed"] or ""),
        amount(archive["size"]) if archive else "",
        job["createdAt"][:16].replace("T", " "),
        printable(archive.get("name", ""), 40),
    )


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
