"""The admin view: GET /v1/admin/overview tells of the whole service, over all tenants and replicas; /admin shows it.

It names tenants, jobs and replicas, and tells no URL, no name of a file, and nothing that opens anything.
"""

from __future__ import annotations

from aiohttp import hdrs, web

from downloader.state.overview import KnownReplica, Overview, RecentJob, RunningJob, Tally, TenantLoad, failures
from downloader.web.assets import POLICY, Asset, served, text_of
from downloader.web.calls import NO_STORE
from downloader.web.parts import PARTS
from downloader.web.render import encoded, iso
from downloader.web.shapes import (
    FailuresObject,
    MinuteObject,
    OverviewObject,
    RecentJobObject,
    ReplicaObject,
    RunningJobObject,
    TenantObject,
)

_PAGE = Asset(text_of("admin.html").encode(), "text/html", {"Content-Security-Policy": POLICY})


async def page(request: web.Request) -> web.Response:
    """The page, which asks for a key by itself; 304 when the caller has it."""
    return served(request, _PAGE)


async def overview(request: web.Request) -> web.Response:
    """How all stands now."""
    found = await request.app[PARTS].watch.overview()
    headers = {hdrs.CACHE_CONTROL: NO_STORE}
    return web.Response(body=encoded(rendered(found)), content_type="application/json", headers=headers)


def rendered(found: Overview) -> OverviewObject:
    """The overview as it goes out."""
    census = found.census
    return {
        "at": iso(found.now_ms),
        "maintenance": found.maintenance,
        "queue": {
            "waiting": census.waiting,
            "pausing": census.pausing,
            "processing": census.processing,
            "waitsSince": _iso(found.waits_since_ms),
        },
        "tenants": [_tenant(tenant) for tenant in found.tenants],
        "tenantsTotal": found.tenants_total,
        "storedBytes": found.stored_bytes,
        "running": [_running(job) for job in sorted(found.running, key=lambda job: (job.started_ms, job.job_id))],
        "replicas": [_replica(replica) for replica in found.replicas],
        "replicasTotal": found.replicas_total,
        "minutes": [_minute(tally) for tally in found.minutes],
        "failures": {"hour": _failures(found.minutes), "day": _failures(found.hours)},
        "recent": [_recent(job) for job in found.recent],
    }


def _iso(ms: int | None) -> str | None:
    return None if ms is None else iso(ms)


def _tenant(tenant: TenantLoad) -> TenantObject:
    return {
        "tenant": tenant.tenant,
        "waiting": tenant.waiting,
        "pausing": tenant.pausing,
        "processing": tenant.processing,
        "waitsSince": _iso(tenant.waits_since_ms),
        "storedBytes": tenant.stored_bytes,
    }


def _running(job: RunningJob) -> RunningJobObject:
    return {
        "jobId": job.job_id,
        "tenant": job.tenant,
        "replica": job.replica,
        "attempt": job.attempt,
        "alone": job.alone,
        "progress": job.progress,
        "filesCompleted": job.done,
        "filesFailed": job.failed,
        "totalFiles": job.total,
        "bytesFetched": job.bytes_fetched,
        "createdAt": iso(job.created_ms),
        "startedAt": iso(job.started_ms),
        "leaseMs": job.lease_ms,
    }


def _replica(known: KnownReplica) -> ReplicaObject:
    replica = known.replica
    return {
        "id": known.replica_id,
        "host": replica.host,
        "pid": replica.pid,
        "version": replica.version,
        "since": iso(replica.since_ms),
        "knownMs": known.known_ms,
        "draining": replica.draining,
        "slots": replica.slots,
        "running": replica.running,
        "streams": replica.streams,
        "memoryUsedBytes": replica.memory_used,
        "memoryBudgetBytes": replica.memory_total,
    }


def _minute(tally: Tally) -> MinuteObject:
    return {
        "at": iso(tally.from_ms),
        "jobsCompleted": tally.of("jobs:completed"),
        "jobsFailed": tally.of("jobs:failed"),
        "jobsCancelled": tally.of("jobs:cancelled"),
        "filesDone": tally.of("files:done"),
        "filesFailed": tally.of("files:failed"),
        "bytesFetched": tally.of("bytes"),
    }


def _failures(tallies: tuple[Tally, ...]) -> FailuresObject:
    return {
        "since": iso(tallies[0].from_ms),
        "jobs": dict(failures(tallies, "job")),
        "files": dict(failures(tallies, "file")),
    }


def _recent(job: RecentJob) -> RecentJobObject:
    took_ms = None
    if job.started_ms is not None and job.completed_ms is not None:
        took_ms = max(0, job.completed_ms - job.started_ms)
    return {
        "jobId": job.job_id,
        "tenant": job.tenant,
        "status": job.state.value,
        "filesCompleted": job.done,
        "filesFailed": job.failed,
        "totalFiles": job.total,
        "bytesFetched": job.bytes_fetched,
        "archiveBytes": job.archive_bytes,
        "errorCode": job.error_code,
        "createdAt": iso(job.created_ms),
        "completedAt": _iso(job.completed_ms),
        "tookMs": took_ms,
    }
