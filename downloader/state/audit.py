"""What the memory knows of the bucket, and whether its own indexes agree: for `downloader reconcile`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from downloader.jobs import JobRecord, JobState
from downloader.state.client import Client, answered, translated
from downloader.state.records import record_from_fields
from downloader.state.scripts import Scripts

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Known:
    """What is needed or will be swept: keys of archives, and (job, token) of attempts that announced something."""

    archives: frozenset[str]
    attempts: frozenset[tuple[str, str]]


class Audit:
    """Reads all of the memory; every method raises UnavailableError while Redis is away."""

    def __init__(self, client: Client, scripts: Scripts) -> None:
        self._client = client
        self._scripts = scripts
        self._prefix = scripts.prefix

    async def known(self) -> Known:
        """What in the bucket somebody knows of."""
        archives = await answered(self._client.zrange(f"{self._prefix}expiries", 0, -1))
        attempts = await answered(self._client.hkeys(f"{self._prefix}uploads"))
        pairs = (member.decode().partition(" ") for member in attempts)
        return Known(frozenset(key.decode() for key in archives), frozenset((job, token) for job, _, token in pairs))

    async def records(self) -> AsyncIterator[JobRecord]:
        """All jobs that are remembered, in no order."""
        start = len(f"{self._prefix}job:")
        cursor = 0
        while True:
            cursor, keys = await answered(self._client.scan(cursor, match=f"{self._prefix}job:*", count=_BATCH))
            for key in keys:
                fields = await answered(self._client.hgetall(key))
                record = record_from_fields(key.decode()[start:], fields, None) if fields else None
                if record is not None:
                    yield record
            if not cursor:
                return

    async def is_lost(self, record: JobRecord) -> bool:
        """Whether the job is active but stands nowhere that a claim or the reaper looks."""
        job_id = record.job_id
        with translated():
            async with self._client.pipeline(transaction=True) as pipeline:
                pipe: Any = pipeline  # its calls only queue, though their types say they must be awaited
                pipe.hget(f"{self._prefix}job:{job_id}", "state")
                pipe.zscore(f"{self._prefix}leases", job_id)
                pipe.zscore(f"{self._prefix}delayed", job_id)
                pipe.lpos(f"{self._prefix}alone", job_id)
                pipe.lpos(f"{self._prefix}ready:{record.tenant}", job_id)
                state, lease, delayed, alone, ready = await pipe.execute()
        if state == JobState.PROCESSING.value.encode():
            return lease is None
        return state == JobState.QUEUED.value.encode() and delayed is None and alone is None and ready is None

    async def repair(self, job_id: str) -> bool:
        """Put a lost job back where it is found; False when it was not lost."""
        return bool(await self._scripts.run("repair", job_id))
