"""Compares the bucket with what is remembered: what nobody knows of, and what should be there and is not.

The bucket is listed before the memory is read, so that what is made meanwhile is not taken for an orphan; what is
younger than an hour (or as asked) is left alone anyway.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from downloader.jobs import TERMINAL, JobRecord, kept_folder
from downloader.work.pipeline import attempt_key
from downloader.work.storage import Storage, Stored

_OURS = re.compile(
    r"(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/[0-9]+-[0-9a-f]+(?:\.zip|/[0-9]+)|\.probe/[0-9a-f]{32})"
)


class KnownThings(Protocol):
    """What in the bucket somebody knows of."""

    @property
    def archives(self) -> frozenset[str]:
        """Keys of archives."""
        ...

    @property
    def attempts(self) -> frozenset[tuple[str, str]]:
        """(job, token) of attempts that announced something."""
        ...


class Memory(Protocol):
    """What is remembered; `state/audit.py` reads it from Redis."""

    async def known(self) -> KnownThings:
        """What in the bucket somebody knows of."""
        ...

    def records(self) -> AsyncIterator[JobRecord]:
        """All jobs."""
        ...

    async def is_lost(self, record: JobRecord) -> bool:
        """Whether an active job stands nowhere that it would be found."""
        ...

    async def repair(self, job_id: str) -> bool:
        """Put a lost job back."""
        ...


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not agree; `fixed` says whether it does now."""

    kind: str
    what: str
    detail: str
    fixed: bool = False


class Reconciler:
    """Finds what does not agree between bucket and memory, and with `fix` mends what can be mended."""

    def __init__(self, memory: Memory, storage: Storage, key_prefix: str, *, fix: bool, older_than_s: float) -> None:
        self._memory = memory
        self._storage = storage
        self._prefix = key_prefix
        self._fix = fix
        self._before = datetime.now(UTC) - timedelta(seconds=older_than_s)

    async def run(self) -> AsyncIterator[Finding]:
        """All findings, one after the other. Raises UnavailableError and StorageError while a neighbour is away."""
        objects = [item async for item in self._storage.objects(self._prefix) if self._is_ours(item.key)]
        uploads = [item async for item in self._storage.uploads(self._prefix) if self._is_ours(item.key)]
        known = await self._memory.known()
        attempts = {attempt_key(self._prefix, job, token) for job, token in known.attempts}
        wanted = known.archives | attempts | {kept_folder(key) for key in attempts}
        for item in objects:
            if _owner(item.key) not in wanted and item.since < self._before:
                yield await self._orphan(item)
        for item in uploads:
            if _owner(item.key) not in wanted and item.since < self._before:
                yield await self._orphan(item)
        sizes = {item.key: item.size for item in objects}
        async for record in self._memory.records():
            if record.state not in TERMINAL and await self._memory.is_lost(record):
                fixed = self._fix and await self._memory.repair(record.job_id)
                yield Finding("lost job", record.job_id, f"{record.state.value}, but in no queue", fixed)
            if (finding := await self._archive(record, sizes)) is not None:
                yield finding

    def _is_ours(self, key: str) -> bool:
        return _OURS.fullmatch(key.removeprefix(self._prefix)) is not None

    async def _orphan(self, item: Stored) -> Finding:
        if self._fix and item.upload_id:
            await self._storage.abort(item.key, item.upload_id)
        elif self._fix:
            await self._storage.delete(item.key)
        kind = "orphan upload" if item.upload_id else "orphan object"
        return Finding(kind, item.key, f"{item.size} bytes since {item.since:%Y-%m-%d %H:%M:%S}", self._fix)

    async def _archive(self, record: JobRecord, sizes: dict[str, int]) -> Finding | None:
        archive, expires_ms = record.archive, record.snapshot.archive_expires_ms
        if archive is None or expires_ms is None or expires_ms <= datetime.now(UTC).timestamp() * 1000:
            return None
        size = sizes.get(archive.key)
        if size is None:  # perhaps it was finished after the bucket was listed
            info = await self._storage.head(archive.key)
            size = info.size if info else None
        if size is None:
            return Finding("missing archive", record.job_id, f"{archive.key} is not in the bucket; retry the job")
        if size != archive.size:
            return Finding("wrong archive", record.job_id, f"{archive.key} has {size} bytes, not {archive.size}")
        return None


def _owner(key: str) -> str:
    """What an object is remembered by: an archive by its key, a kept file by its folder."""
    return key if key.endswith(".zip") else f"{key.rpartition('/')[0]}/"
