"""The service as a whole, over all replicas and tenants: read in one call, whose time does not grow with the jobs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from downloader.jobs import JobState
from downloader.state.census import Census
from downloader.state.replicas import Replica, replica_from_json
from downloader.state.scripts import Scripts

RUNNING_SHOWN, RECENT_SHOWN, TENANTS_SHOWN, REPLICAS_SHOWN = 200, 50, 100, 100
MINUTES, HOURS = 60, 24
MINUTE_MS = 60_000
KEPT_S = 0.5
# A look that takes long, with very many tenants, is kept for so many times longer: Redis has other things to do.
KEPT_TIMES = 20
KEPT_MOST_S = 5.0


@dataclass(frozen=True, slots=True)
class TenantLoad:
    """What a tenant has in the queue and in the store."""

    tenant: str
    waiting: int
    pausing: int
    processing: int
    stored_bytes: int
    waits_since_ms: int | None


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that is worked on; `replica` is the id of the one that has it, None when an earlier version took it.

    `lease_ms` is what is left of its lease, below zero when it has lapsed; `alone`: it took its worker down before.
    """

    job_id: str
    tenant: str
    created_ms: int
    started_ms: int
    attempt: int
    progress: int
    done: int
    failed: int
    total: int
    bytes_fetched: int
    alone: bool
    lease_ms: int
    replica: str | None


@dataclass(frozen=True, slots=True)
class RecentJob:
    """A job that was taken in or has ended lately; `archive_bytes` when it has an archive."""

    job_id: str
    tenant: str
    state: JobState
    created_ms: int
    started_ms: int | None
    completed_ms: int | None
    done: int
    failed: int
    total: int
    bytes_fetched: int
    archive_bytes: int | None
    error_code: str | None


@dataclass(frozen=True, slots=True)
class KnownReplica:
    """A replica, and for how long it is still known if nothing more is heard of it."""

    replica_id: str
    known_ms: int
    replica: Replica


@dataclass(frozen=True, slots=True)
class Tally:
    """What happened in a stretch of time that began at `from_ms`: amounts by name."""

    from_ms: int
    amounts: Mapping[str, int]

    def of(self, name: str) -> int:
        """The amount of that name."""
        return self.amounts.get(name, 0)


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole; the tallies oldest first, the lists as far as they are shown.

    `waits_since_ms` is when the job was taken in that waits longest; with many tenants, among those whose turn is next.
    `replicas_total` has those too that tell too little to be shown.
    """

    now_ms: int
    census: Census
    waits_since_ms: int | None
    tenants_total: int
    stored_bytes: int
    replicas_total: int
    tenants: tuple[TenantLoad, ...]
    running: tuple[RunningJob, ...]
    recent: tuple[RecentJob, ...]
    replicas: tuple[KnownReplica, ...]
    minutes: tuple[Tally, ...]
    hours: tuple[Tally, ...]
    maintenance: str | None


def failures(tallies: Iterable[Tally], kind: str) -> Mapping[str, int]:
    """Failures by code over all `tallies`, most frequent first; `kind` is `job` or `file`."""
    found: Counter[str] = Counter()
    for tally in tallies:
        for name, amount in tally.amounts.items():
            if name.startswith(f"{kind}:"):
                found[name.removeprefix(f"{kind}:")] += amount
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


class Watch:
    """Looks at the whole; however many want to see it, Redis is asked about once in KEPT_S at most."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts
        self._kept: Overview | None = None
        self._until_s = float("-inf")

    async def overview(self) -> Overview:
        """How all stands now; UnavailableError while Redis is away."""
        began_s = time.monotonic()
        if self._kept is None or began_s >= self._until_s:
            self._until_s = began_s + KEPT_S  # others see what there is while this one looks
            self._kept = await self._look()
            ended_s = time.monotonic()
            self._until_s = ended_s + min(max(KEPT_S, KEPT_TIMES * (ended_s - began_s)), KEPT_MOST_S)
        return self._kept

    async def _look(self) -> Overview:
        answer = await self._scripts.run(
            "overview", RUNNING_SHOWN, RECENT_SHOWN, TENANTS_SHOWN, REPLICAS_SHOWN, MINUTES, HOURS
        )
        now, counts, waits_since, totals, tenants, running, recent, replicas, minutes, hours, maintenance = answer
        tenants_total, stored_bytes, replicas_total = map(int, totals)
        return Overview(
            now_ms=int(now),
            census=Census(*map(int, counts)),
            waits_since_ms=_number(waits_since),
            tenants_total=tenants_total,
            stored_bytes=stored_bytes,
            replicas_total=replicas_total,
            tenants=tuple(_tenant(row) for row in tenants),
            running=tuple(_running(row) for row in running),
            recent=tuple(_recent(row) for row in recent),
            replicas=tuple(_replicas(replicas)),
            minutes=tuple(_tally(row, MINUTE_MS) for row in minutes),
            hours=tuple(_tally(row, 60 * MINUTE_MS) for row in hours),
            maintenance=None if maintenance is None else maintenance.decode("utf-8", "replace"),
        )


Row = Sequence[Any]


def _number(word: Any) -> int | None:
    return int(word) if word not in (None, b"") else None


def _tenant(row: Row) -> TenantLoad:
    tenant, waiting, pausing, processing, stored, since = row
    return TenantLoad(tenant.decode(), int(waiting), int(pausing), int(processing), int(stored), _number(since))


def _running(row: Row) -> RunningJob:
    job_id, tenant, created, started, attempt, progress, done, failed, total, size, alone, lease, by = row
    return RunningJob(
        job_id=job_id.decode(),
        tenant=tenant.decode(),
        created_ms=int(created),
        started_ms=int(started),
        attempt=int(attempt),
        progress=int(progress),
        done=int(done),
        failed=int(failed),
        total=int(total),
        bytes_fetched=int(size),
        alone=bool(alone),
        lease_ms=int(lease),
        replica=by.decode() or None,
    )


def _recent(row: Row) -> RecentJob:
    job_id, tenant, state, created, started, completed, done, failed, total, size, archive, code = row
    return RecentJob(
        job_id=job_id.decode(),
        tenant=tenant.decode(),
        state=JobState(state.decode()),
        created_ms=int(created),
        started_ms=_number(started),
        completed_ms=_number(completed),
        done=int(done),
        failed=int(failed),
        total=int(total),
        bytes_fetched=int(size),
        archive_bytes=_number(archive),
        error_code=code.decode() if code else None,
    )


def _replicas(rows: Iterable[Row]) -> Iterable[KnownReplica]:
    """By host and pid, so that their order does not change from one look to the next."""
    read = [(replica_id.decode(), int(known), replica_from_json(told)) for replica_id, known, told in rows]
    found = [KnownReplica(name, known, replica) for name, known, replica in read if replica is not None]
    return sorted(found, key=lambda one: (one.replica.host, one.replica.pid, one.replica_id))


def _tally(row: Row, length_ms: int) -> Tally:
    number, flat = row
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return Tally(int(number) * length_ms, {name.decode(): int(amount) for name, amount in pairs})
