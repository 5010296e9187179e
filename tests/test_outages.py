"""Redis or S3 away, at the start or later: a clear line, problems instead of hangs, and recovery without a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.api import Api
from tests.conftest import Start
from tests.files import Origin
from tests.proxy import Proxy, before
from tests.servers import S3, Redis
from tests.waiting import wait_until


@pytest.fixture
async def redis_proxy(valkey: Redis) -> AsyncIterator[Proxy]:
    """A way to Redis that can be cut."""
    async with before(valkey.url) as proxy:
        yield proxy


@pytest.fixture
async def s3_proxy(s3: S3) -> AsyncIterator[Proxy]:
    """A way to S3 that can be cut."""
    async with before(s3.endpoint_url) as proxy:
        yield proxy


def through(proxy: Proxy, **more: Any) -> dict[str, dict[str, Any]]:
    """Settings that reach Redis by the proxy."""
    return {"redis": {"url": f"redis://127.0.0.1:{proxy.port}/0"}, **more}


async def health(api: Api) -> tuple[int, dict[str, str]]:
    """Status and checks of `/health`."""
    answer = await api.call("GET", "/health")
    return answer.status, answer.body["checks"]


async def test_redis_absent_at_start(start: Start, redis_proxy: Proxy, origin: Origin) -> None:
    """The service starts without Redis, says 503, and takes jobs as soon as Redis is there."""
    await redis_proxy.down()
    async with start(**through(redis_proxy)) as api:
        answer = await api.initiate([origin.url(10, "a")])
        assert (answer.status, answer.body["code"]) == (503, "unavailable")
        assert int(answer.headers["Retry-After"]) > 0
        assert (await api.call("GET", "/livez")).status == 200
        assert (await api.call("GET", "/health")).status == 503
        await redis_proxy.up()

        async def taken() -> bool:
            return (await api.initiate([origin.url(10, "a")], headers={"Idempotency-Key": "once"})).status == 202

        await wait_until(taken)
        job = await api.initiate([origin.url(10, "a")], headers={"Idempotency-Key": "once"})
        assert (await api.finished(job.body["jobId"]))["status"] == "completed"


async def test_redis_lost_while_a_job_runs(start: Start, redis_proxy: Proxy, origin: Origin) -> None:
    """An outage shorter than the lease costs a running job nothing; streams come back with what they missed."""
    async with start(**through(redis_proxy)) as api:
        job_id = await api.submit([origin.slow(50_000 + n, delay_s=0.4) for n in range(24)])
        await wait_until(lambda: len(origin.requests) >= 8)
        await redis_proxy.down()
        answer = await api.call("GET", f"/v1/download/status/{job_id}")
        assert (answer.status, answer.body["code"]) == (503, "unavailable")
        await redis_proxy.up()

        async def completed() -> bool:
            answer = await api.call("GET", f"/v1/download/status/{job_id}")
            return answer.status == 200 and answer.body["status"] == "completed"

        await wait_until(completed, within_s=40)
        status = await api.finished(job_id)
        assert (status["attempt"], status["filesCompleted"]) == (1, 24)
        await api.archive(job_id)


async def test_redis_that_hangs_does_not_hang_callers(start: Start, redis_proxy: Proxy, origin: Origin) -> None:
    """A Redis that accepts and never answers gives a 503 in bounded time, and all is well when it wakes."""
    async with start(**through(redis_proxy)) as api:
        redis_proxy.hang()
        answer = await api.initiate([origin.url(10, "a")])
        assert answer.status == 503
        redis_proxy.flow()
        job_id = await api.submit([origin.url(10, "b")])
        assert (await api.finished(job_id))["status"] == "completed"


async def test_s3_absent_at_start(start: Start, s3_proxy: Proxy, origin: Origin) -> None:
    """Without S3 jobs are accepted and wait, health says which part is missing, and they run when it is there."""
    await s3_proxy.down()
    async with start(storage={"endpoint_url": f"http://127.0.0.1:{s3_proxy.port}"}) as api:
        job_id = await api.submit([origin.url(10, "a")])
        status, checks = await health(api)
        assert status == 503
        assert (checks["storage"], checks["redis"]) == ("error", "ok")
        assert (await api.status(job_id))["status"] == "queued"
        await s3_proxy.up()
        assert (await api.finished(job_id))["status"] == "completed"


async def test_s3_lost_while_parts_are_sent(start: Start, s3_proxy: Proxy, origin: Origin) -> None:
    """Connections to S3 that break in the middle of an upload are made good, and the archive is right."""
    async with start(storage={"endpoint_url": f"http://127.0.0.1:{s3_proxy.port}"}) as api:
        job_id = await api.submit([origin.url(40_000_000, "big"), origin.slow(100, delay_s=1.5)])

        async def moving() -> bool:
            return int((await api.status(job_id))["bytesFetched"]) > 20_000_000

        await wait_until(moving)
        await s3_proxy.down()
        await s3_proxy.up()
        status = await api.finished(job_id)
        assert (status["status"], status["filesCompleted"]) == ("completed", 2)
        await api.archive(job_id)
