"""A tenant's jobs, newest first, read a page at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from downloader.errors import UnavailableError
from downloader.jobs import JobRecord, JobState
from downloader.state.client import REFUSES, Client, answered, translated
from downloader.state.records import record_from_fields
from downloader.state.scripts import Scripts

_BATCH = 200
# Jobs looked at for one page: a rare state among very many jobs gives a short page and a cursor, not a long wait.
LOOKED_AT_MAX = 1000


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """A place in the list: behind the job that was taken in at `created_ms` (ties are ordered by id)."""

    created_ms: int
    job_id: str


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs, and from where to go on; `next` is None at the end."""

    records: tuple[JobRecord, ...]
    next: Cursor | None


class Listing:
    """Reads the lists of jobs; every method raises UnavailableError while Redis is away."""

    def __init__(self, client: Client, scripts: Scripts) -> None:
        self._client = client
        self._prefix = scripts.prefix

    async def page(self, tenant: str, *, after: Cursor | None, limit: int, states: frozenset[JobState]) -> Page:
        """Up to `limit` jobs behind `after`, newest first, in one of `states` (empty = any)."""
        found: list[JobRecord] = []
        looked_at = 0
        async for places in self._batches(tenant, after):
            records = await self._records(places)
            gone = [place.job_id for place, record in zip(places, records, strict=True) if record is None]
            await self._forget(tenant, gone)
            for place, record in zip(places, records, strict=True):
                if record is not None and (not states or record.state in states):
                    if len(found) == limit:
                        return Page(tuple(found), after)
                    found.append(record)
                after = place
            looked_at += len(places) - len(gone)
            if looked_at >= LOOKED_AT_MAX:
                return Page(tuple(found), after)
        return Page(tuple(found), None)

    async def _batches(self, tenant: str, after: Cursor | None) -> AsyncIterator[list[Cursor]]:
        """The tenant's jobs behind `after`, by their places."""
        key, offset = f"{self._prefix}jobs:{tenant}", 0
        while True:
            newest = "+inf" if after is None else after.created_ms
            rows = await answered(
                self._client.zrange(
                    key, newest, "-inf", desc=True, byscore=True, offset=offset, num=_BATCH, withscores=True
                )
            )
            places = [Cursor(int(created), job.decode()) for job, created in rows]
            behind = [place for place in places if after is None or place < after]
            if behind:
                yield behind
                after, offset = behind[-1], 0
            else:  # a whole batch of one millisecond, before the cursor
                offset += _BATCH
            if len(places) < _BATCH:
                return

    async def _forget(self, tenant: str, gone: list[str]) -> None:
        """Take out jobs whose time is over, which would be looked at again and again; a Redis may take no writes."""
        if not gone:
            return
        try:
            await answered(self._client.zrem(f"{self._prefix}jobs:{tenant}", *gone))
        except UnavailableError as error:
            if error.code != REFUSES:
                raise

    async def _records(self, places: list[Cursor]) -> list[JobRecord | None]:
        """The jobs at these places, without their positions in the queue: each would cost a walk along it."""
        with translated():
            async with self._client.pipeline(transaction=False) as pipeline:
                pipe: Any = pipeline  # its calls only queue, though their types say they must be awaited
                for place in places:
                    pipe.hgetall(f"{self._prefix}job:{place.job_id}")
                answers = await pipe.execute()
        return [
            record_from_fields(place.job_id, fields, None) if fields else None
            for place, fields in zip(places, answers, strict=True)
        ]
