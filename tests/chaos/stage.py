"""What is run: Valkey and SeaweedFS, a proxy before each, the sources, and the replicas."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.plan import Plan
from tests.chaos.replicas import Replica
from tests.chaos.sources import Sources, serving
from tests.chaos.workload import MIB, Workload
from tests.proxy import Proxy, before
from tests.restarts import OwnRedis, own_redis
from tests.servers import S3, free_ports, start_weed

PREFIX = "chaos"
LEASE_S = 2.0


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that runs; the replicas reach Redis and S3 through the proxies only."""

    redis: OwnRedis
    redis_proxy: Proxy
    s3: S3
    s3_proxy: Proxy
    workload: Workload
    sources: Sources
    replicas: tuple[Replica, ...]


@asynccontextmanager
async def staged(plan: Plan) -> AsyncIterator[Stage]:
    """Put all of it up, and away at the end."""
    workload = Workload(plan.seed)
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder, start_weed() as s3:
        async with (
            own_redis() as redis,
            before(redis.url) as redis_proxy,
            before(s3.endpoint_url) as s3_proxy,
            serving(workload) as sources,
        ):
            sets = _sets(redis_proxy, s3_proxy, s3)
            ports = free_ports(plan.replicas)
            replicas = tuple(
                Replica(number, port, Path(folder) / f"replica-{number}", sets) for number, port in enumerate(ports)
            )
            with _ended(replicas):
                await asyncio.gather(*(replica.start() for replica in replicas))
                yield Stage(redis, redis_proxy, s3, s3_proxy, workload, sources, replicas)


@contextmanager
def _ended(replicas: tuple[Replica, ...]) -> Iterator[None]:
    """No replica outlives the run, whatever state it is in."""
    try:
        yield
    finally:
        for replica in replicas:
            with suppress(AssertionError):
                replica.signal(signal.SIGKILL)


def _sets(redis_proxy: Proxy, s3_proxy: Proxy, s3: S3) -> dict[str, str]:
    """Settings with short times, so that a job is taken over within seconds, and limits that are not in the way."""
    return {
        "server.drain_s": "1",
        "redis.url": f"redis://127.0.0.1:{redis_proxy.port}/0",
        "redis.prefix": PREFIX,
        "storage.endpoint_url": f"http://127.0.0.1:{s3_proxy.port}",
        "storage.public_endpoint_url": s3.endpoint_url,
        "storage.access_key_id": s3.access_key_id,
        "storage.secret_access_key": s3.secret_access_key,
        "storage.part_bytes": str(5 * MIB),
        "worker.concurrency": "4",
        "worker.lease_s": str(LEASE_S),
        "worker.renew_s": "0.5",
        "worker.reap_s": "0.5",
        "worker.sweep_s": "2",
        "sources.allow_networks": "127.0.0.0/8",
        "sources.attempts": "4",
        "jobs.max_job_bytes": str(1024 * MIB),
        "limits.initiate_per_minute": "1000000",
        "limits.posts_per_minute": "1000000",
        "limits.reads_per_minute": "1000000",
        "limits.opens_per_minute": "1000000",
        "limits.running_jobs": "1000",
        "limits.queued_jobs": "100000",
        "limits.streams": "10000",
        "log.format": "json",
    }
