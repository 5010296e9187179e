"""Redis or S3 away, at the start or later: a clear line, problems instead of hangs, and recovery without a restart."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis as RedisClient

from downloader.state.scripts import Scripts, source_of
from tests.api import Answer, Api, Frame
from tests.conftest import Start, no_leaks
from tests.files import Origin
from tests.gated import gated_source
from tests.proxy import Proxy, before
from tests.restarts import SERVICE, OwnRedis, own_redis, sentinel_of
from tests.s3faults import Call, Relay, relaying
from tests.servers import S3, Redis
from tests.tenants import tenant
from tests.test_cli import ended, serving
from tests.waiting import wait_until

SLOW_FILES = 16
# How long a caller may have to wait for any answer while a neighbour is silent.
ANSWER_S = 6.0
SMALL_PARTS: dict[str, Any] = {"storage": {"part_bytes": 5 * 1024**2}, "jobs": {"max_job_bytes": 1024**3}}
SCRIPTS = ("enqueue", "claim", "renew", "report", "upload", "checkpoint", "settle")
# Of claims only one that took a job counts.
EVENTS = {"Accept": "text/event-stream"}
REPLIES = {"claim": b"$3\r\njob\r\n"}


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


@pytest.fixture
async def relay(s3: S3) -> AsyncIterator[Relay]:
    """A way to S3 on which single answers can be replaced."""
    async with relaying(s3.endpoint_url) as relay:
        yield relay


@pytest.fixture
async def redis(settings: dict[str, Any]) -> AsyncIterator[OwnRedis]:
    """A Redis of the test's own, in which nothing may be left over at the end."""
    async with own_redis() as server:
        yield server
        await no_leaks(settings | {"redis": settings["redis"] | {"url": server.url}})


def at_redis(url: str, **more: Any) -> dict[str, dict[str, Any]]:
    """Settings that reach Redis by this URL."""
    return {"redis": {"url": url}, **more}


def through(proxy: Proxy, **more: Any) -> dict[str, dict[str, Any]]:
    """Settings that reach Redis by the proxy."""
    return at_redis(f"redis://127.0.0.1:{proxy.port}/0", **more)


def storing_at(place: Proxy | Relay, **more: Any) -> dict[str, dict[str, Any]]:
    """Settings that reach S3 by the proxy or the relay, in parts of the least size."""
    url = place.endpoint_url if isinstance(place, Relay) else f"http://127.0.0.1:{place.port}"
    return SMALL_PARTS | {"storage": SMALL_PARTS["storage"] | {"endpoint_url": url}, **more}


async def health(api: Api) -> tuple[int, dict[str, str]]:
    """Status and checks of `/health`."""
    answer = await api.call("GET", "/health")
    return answer.status, answer.body["checks"]


async def submit_slow(api: Api, origin: Origin, files: int = SLOW_FILES) -> str:
    """A job that takes a while, well under way."""
    job_id = await api.submit([origin.slow(50_000 + n, delay_s=0.4) for n in range(files)])
    await wait_until(lambda: len(origin.requests) >= 8)
    return job_id


async def outcome(api: Api, job_id: str, *, within_s: float = 40) -> dict[str, Any]:
    """The job's status at its end; the answers on the way may be problems, if they are the right ones."""

    async def ended() -> Any:
        answer = await api.call("GET", f"/v1/download/status/{job_id}")
        if answer.status != 200:
            assert_unavailable(answer)
            return None
        return answer.body if answer.body["status"] in {"completed", "failed"} else None

    status = await wait_until(ended, within_s=within_s)
    assert isinstance(status, dict)
    return status


async def followed(api: Api, job_id: str) -> list[Frame]:
    """The job's events to its end, as a browser gets them: it comes back with its last id however a stream ends."""
    frames: list[Frame] = []
    while not frames or frames[-1].event not in {"complete", "error"}:
        with suppress(aiohttp.ClientError):
            last_id = frames[-1].id if frames else None
            stream = api.stream(job_id, last_event_id=last_id)
            frames += [frame async for frame in stream if frame.event != "busy"]
        await asyncio.sleep(0.1)
    return frames


async def assert_done_once(api: Api, origin: Origin, job_id: str, files: int = SLOW_FILES) -> None:
    """The job completes in its first attempt, no source was asked twice, and its archive is right."""
    status = await outcome(api, job_id)
    assert (status["status"], status["attempt"], status["filesCompleted"]) == ("completed", 1, files)
    assert len(origin.requests) == len(set(origin.requests)) == files
    await assert_archive_right(api, status)


async def assert_archive_right(api: Api, status: dict[str, Any]) -> None:
    """Each file of the archive is, byte for byte, what the status says of it."""
    archive = await api.archive(status["jobId"])
    assert len(archive.namelist()) == status["totalFiles"]
    for file in status["files"]:
        data = archive.read(file["name"])
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["size"], file["sha256"])


async def assert_no_gap(stream: asyncio.Future[list[Frame]], api: Api, job_id: str) -> None:
    """The stream ends, without a repeat, and every change of a file is in it."""
    frames = await asyncio.wait_for(stream, 20)
    ids = [frame.id for frame in frames]
    assert frames[-1].event == "complete"
    assert len(set(ids)) == len(ids)
    assert "reset" not in [frame.event for frame in frames]
    missed = {frame.id for frame in await api.events(job_id, last_event_id=ids[0]) if frame.event == "files"} - set(ids)
    assert not missed


def assert_unavailable(answer: Answer, code: str = "unavailable") -> None:
    """A problem that says: not now, and when to come again."""
    assert (answer.status, answer.body["code"]) == (503, code)
    assert int(answer.headers["Retry-After"]) > 0


async def assert_takes_jobs(api: Api, origin: Origin) -> None:
    """Without a restart the service takes and does new work."""
    url = origin.url(10, "afterwards")

    async def taken() -> Any:
        answer = await api.initiate([url], headers={"Idempotency-Key": "afterwards"})
        return answer.body["jobId"] if answer.status == 202 else assert_unavailable(answer)

    job_id = await wait_until(taken)
    assert (await outcome(api, job_id))["status"] == "completed"
    assert origin.requests.count(url.removeprefix(origin.base)) == 1


# Redis


async def test_redis_absent_at_start(start: Start, redis_proxy: Proxy, origin: Origin) -> None:
    """The service starts without Redis, says 503, and takes jobs as soon as Redis is there."""
    await redis_proxy.down()
    async with start(**through(redis_proxy)) as api:
        assert_unavailable(await api.initiate([origin.url(10, "a")]))
        assert (await api.call("GET", "/livez")).status == 200
        assert (await api.call("GET", "/health")).status == 503
        await redis_proxy.up()
        await assert_takes_jobs(api, origin)


async def test_redis_lost_while_a_job_runs(start: Start, redis_proxy: Proxy, origin: Origin) -> None:
    """An outage shorter than the lease costs a running job nothing; streams come back with what they missed."""
    async with start(**through(redis_proxy)) as api:
        job_id = await submit_slow(api, origin)
        await redis_proxy.down()
        assert_unavailable(await api.call("GET", f"/v1/download/status/{job_id}"))
        await redis_proxy.up()
        await assert_done_once(api, origin, job_id)
        assert (await api.events(job_id))[-1].event == "complete"


async def test_redis_that_hangs_does_not_hang_callers(start: Start, redis_proxy: Proxy, origin: Origin) -> None:
    """A Redis that accepts and never answers gives a 503 in bounded time, and all is well when it wakes."""
    async with start(**through(redis_proxy)) as api:
        redis_proxy.hang()
        async with asyncio.timeout(ANSWER_S):
            assert_unavailable(await api.initiate([origin.url(10, "a")]))
        redis_proxy.flow()
        await assert_takes_jobs(api, origin)


async def test_redis_killed_and_started_again(start: Start, redis: OwnRedis, origin: Origin) -> None:
    """After SIGKILL and a start from its append-only file the running job goes on as the same attempt."""
    async with start(**at_redis(redis.url)) as api:
        job_id = await submit_slow(api, origin)
        stream = asyncio.ensure_future(followed(api, job_id))
        await redis.kill()
        assert_unavailable(await api.call("GET", f"/v1/download/status/{job_id}"))
        await redis.start()
        await assert_done_once(api, origin, job_id)
        await assert_no_gap(stream, api, job_id)


@pytest.mark.slow
async def test_redis_stopped_for_seconds(start: Start, redis: OwnRedis, origin: Origin) -> None:
    """A Redis that is frozen (SIGSTOP) past our patience gives 503; the job goes on when it thaws."""
    async with start(**at_redis(redis.url)) as api:
        job_id = await submit_slow(api, origin)
        os.kill(redis.process.pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(ANSWER_S):
                assert_unavailable(await api.call("GET", f"/v1/download/status/{job_id}"))
        finally:
            os.kill(redis.process.pid, signal.SIGCONT)
        await assert_done_once(api, origin, job_id)


@pytest.mark.slow
async def test_redis_paused_for_a_moment(start: Start, redis: OwnRedis, origin: Origin) -> None:
    """CLIENT PAUSE, as in a planned failover: calls wait and are answered, nobody sees an error."""
    async with start(**at_redis(redis.url)) as api:
        job_id = await submit_slow(api, origin)
        await redis.client.client_pause(1500)
        status = await api.status(job_id)
        assert status["status"] in {"processing", "completed"}
        await assert_done_once(api, origin, job_id)


@pytest.mark.slow
async def test_redis_forgets_scripts_and_breaks_connections(start: Start, redis: OwnRedis, origin: Origin) -> None:
    """SCRIPT FLUSH and CLIENT KILL, again and again while a job runs, are no outage: callers notice nothing."""
    async with start(**at_redis(redis.url)) as api:
        job_id = await submit_slow(api, origin)
        others = []
        for n in range(10):
            await redis.client.script_flush()
            await redis.client.client_kill_filter(_type="normal", skipme=True)
            others.append(await api.submit([origin.url(10, f"{n}")]))
        ends = [await outcome(api, each) for each in (job_id, *others)]
        assert {(end["status"], end["attempt"]) for end in ends} == {("completed", 1)}
        assert len(origin.requests) == len(set(origin.requests)) == SLOW_FILES + 10
        await assert_archive_right(api, ends[0])


async def test_redis_full(start: Start, redis: OwnRedis, origin: Origin) -> None:
    """A full Redis takes no new jobs and says so, those that run can end, and all is well when there is room."""
    async with start(**at_redis(redis.url)) as api:
        job_id = await submit_slow(api, origin)
        await redis.client.config_set("maxmemory", "1mb")
        assert_unavailable(await api.initiate([origin.url(10, "a")]), "redis_full")
        status = await outcome(api, job_id)
        assert (status["status"], status["attempt"], status["filesCompleted"]) == ("completed", 1, SLOW_FILES)
        await assert_archive_right(api, status)
        await redis.client.config_set("maxmemory", "0")
        await assert_takes_jobs(api, origin)


async def test_a_redis_that_takes_no_writes_can_be_read(
    start: Start, settings: dict[str, Any], redis: OwnRedis, origin: Origin
) -> None:
    """Full or without its replicas it takes no jobs; status, files, list, link and stream are there, for keys too.

    What callers show and what they are charged for must not need a write.
    """
    at_own = {"redis": settings["redis"] | {"url": redis.url}}
    async with (
        start(**at_own, access={"open": False}) as anyone,
        tenant(at_own, anyone.base, "acme") as acme,
    ):
        started = await acme.initiate([origin.url(1000, "a")])
        job_id, token = started.body["jobId"], started.body["statusUrl"].partition("?")[2]
        await acme.finished(job_id)
        for setting, bad, good in (("maxmemory", "1mb", "0"), ("min-replicas-to-write", "1", "0")):
            await redis.client.config_set(setting, bad)
            assert (await acme.initiate([origin.url(10, "b")])).status == 503
            for path in (f"status/{job_id}", f"{job_id}/files", "jobs", job_id):
                assert (await acme.call("GET", f"/v1/download/{path}")).status in {200, 302}, (setting, path)
            seen = await anyone.call("GET", f"/v1/download/subscribe/{job_id}?{token}", headers=EVENTS)
            assert b"event: complete" in seen.raw
            await redis.client.config_set(setting, good)
        await acme.finished(await acme.submit([origin.url(10, "b")]))


async def test_redis_full_while_a_job_is_stored(start: Start, redis: OwnRedis, origin: Origin) -> None:
    """A job that has to note its upload while Redis is full waits, and completes when there is room."""
    async with start(**at_redis(redis.url, **SMALL_PARTS)) as api:
        job_id = await api.submit([origin.url(12_000_000, "big"), origin.slow(100, delay_s=0.5)])
        await wait_until(lambda: len(origin.requests) == 2)
        await redis.client.config_set("maxmemory", "1mb")
        assert_unavailable(await api.initiate([origin.url(10, "a")]), "redis_full")
        await redis.client.config_set("maxmemory", "0")
        await assert_done_once(api, origin, job_id, files=2)


@pytest.mark.parametrize(
    "after_bytes", [pytest.param(0, id="lost"), pytest.param(1, id="cut short", marks=pytest.mark.slow)]
)
async def test_every_answer_of_redis_lost_once(
    start: Start, redis_proxy: Proxy, origin: Origin, after_bytes: int
) -> None:
    """Each transition of a job is done by Redis and its answer never arrives: one job, one attempt, one archive."""
    worker = {"lease_s": 10, "renew_s": 0.3}
    async with start(**through(redis_proxy, worker=worker, **SMALL_PARTS)) as api:
        lost = {
            name: redis_proxy.truncate_next_reply(after_bytes, match=hash_of(name), reply=REPLIES.get(name, b""))
            for name in SCRIPTS
        }
        files = [origin.url(12_000_000, "big"), *(origin.slow(100 + n, delay_s=0.5) for n in range(9))]
        job_id = await api.submit(files)
        await assert_done_once(api, origin, job_id, files=10)
        await wait_until(lambda: all(event.is_set() for event in lost.values()), within_s=2)


def hash_of(script: str) -> bytes:
    """What a call of the script says to Redis in place of its name."""
    return hashlib.sha1(source_of(script).encode(), usedforsecurity=False).hexdigest().encode()


@pytest.mark.slow
async def test_connections_to_redis_die_without_a_word(start: Start, redis_proxy: Proxy, origin: Origin) -> None:
    """All connections fall silent for good (a firewall forgot them): new ones take over, streams included."""
    async with start(**through(redis_proxy)) as api:
        job_id = await submit_slow(api, origin)
        stream = asyncio.ensure_future(followed(api, job_id))
        await wait_until(lambda: redis_proxy.links >= 3)
        redis_proxy.half_open()
        async with asyncio.timeout(ANSWER_S):
            await api.call("GET", f"/v1/download/status/{job_id}")
        await assert_done_once(api, origin, job_id)
        await assert_no_gap(stream, api, job_id)


@pytest.mark.slow
async def test_redis_far_away(start: Start, redis_proxy: Proxy, origin: Origin) -> None:
    """A tenth of a second to Redis and back makes nothing fail, only later."""
    async with start(**through(redis_proxy)) as api:
        redis_proxy.delay(0.05)
        job_id = await submit_slow(api, origin)
        await assert_done_once(api, origin, job_id)


@pytest.mark.slow
async def test_a_replica_becomes_the_master(start: Start, redis: OwnRedis, origin: Origin) -> None:
    """The address leads to another server and the old master answers READONLY: the job goes on at the new one."""
    async with own_redis() as master, before(master.url) as proxy:
        await redis.follow(master)
        async with start(**through(proxy)) as api:
            job_id = await submit_slow(api, origin)
            await master.client.wait(1, 1000)
            proxy.turn_to(redis.url)
            await redis.client.replicaof("NO", "ONE")
            await master.follow(redis)
            await assert_done_once(api, origin, job_id)
            await assert_takes_jobs(api, origin)


@pytest.mark.slow  # Sentinel asks a master for its replicas every 10 s
async def test_sentinel_fails_over(start: Start, redis: OwnRedis, origin: Origin) -> None:
    """The master is killed while a job runs; Sentinel promotes its replica, and the job goes on there."""
    async with own_redis() as master, sentinel_of(master) as sentinel:
        await redis.follow(master)
        url = f"redis+sentinel://127.0.0.1:{sentinel.port}/{SERVICE}"
        async with start(**at_redis(url)) as api:

            async def known() -> bool:
                return bool(await sentinel.client.sentinel_slaves(SERVICE))

            await wait_until(known)
            job_id = await submit_slow(api, origin)
            await master.client.wait(1, 1000)
            await master.kill()
            await assert_done_once(api, origin, job_id)
            await assert_takes_jobs(api, origin)


# S3


@pytest.mark.slow
async def test_s3_absent_at_start(start: Start, s3_proxy: Proxy, origin: Origin) -> None:
    """Without S3 jobs are accepted and wait, health says which part is missing, and they run when it is there."""
    await s3_proxy.down()
    async with start(**storing_at(s3_proxy)) as api:
        job_id = await api.submit([origin.url(10, "a")])
        status, checks = await health(api)
        assert status == 503
        assert (checks["storage"], checks["redis"]) == ("error", "ok")
        assert (await api.status(job_id))["status"] == "queued"
        await s3_proxy.up()
        assert (await api.finished(job_id))["status"] == "completed"


async def submit_large(api: Api, origin: Origin) -> str:
    """A job of several parts, some of which are on their way."""
    job_id = await api.submit([origin.url(40_000_000, "big"), origin.slow(100, delay_s=1.0)])

    async def moving() -> bool:
        return int((await api.status(job_id))["bytesFetched"]) > 20_000_000

    await wait_until(moving)
    return job_id


async def test_s3_lost_while_parts_are_sent(start: Start, s3_proxy: Proxy, origin: Origin) -> None:
    """Connections to S3 that break in the middle of an upload are made good, and the archive is right."""
    async with start(**storing_at(s3_proxy)) as api:
        job_id = await submit_large(api, origin)
        await s3_proxy.down()
        await s3_proxy.up()
        await assert_done_once(api, origin, job_id, files=2)


@pytest.mark.slow
async def test_s3_gone_for_a_while(start: Start, s3_proxy: Proxy, origin: Origin) -> None:
    """An S3 that refuses connections for a second in mid-job is waited for; callers get their answers meanwhile."""
    async with start(**storing_at(s3_proxy)) as api:
        job_id = await submit_large(api, origin)
        await s3_proxy.down()
        began = asyncio.get_running_loop().time()

        async def still_at_work() -> bool:
            assert (await api.status(job_id))["status"] == "processing"
            return asyncio.get_running_loop().time() > began + 1

        await wait_until(still_at_work)
        await s3_proxy.up()
        await assert_done_once(api, origin, job_id, files=2)


@pytest.mark.slow
async def test_s3_slow(start: Start, s3_proxy: Proxy, origin: Origin) -> None:
    """A store that takes its time for every piece makes the job slower and nothing else."""
    async with start(**storing_at(s3_proxy)) as api:
        s3_proxy.delay(0.005)
        job_id = await api.submit([origin.url(11_000_000, "big"), origin.url(100, "small")])
        await assert_done_once(api, origin, job_id, files=2)


async def test_parts_that_go_wrong(start: Start, relay: Relay, origin: Origin) -> None:
    """SlowDown, an error, a connection that breaks in mid-part or after it: sent again, and the archive is right."""
    faults: dict[tuple[int, int], str | int] = {(1, 1): 503, (1, 2): "reset", (2, 1): "lost", (3, 1): 500}

    def fault(call: Call) -> str | int | None:
        return faults.pop((call.number, call.time), None) if call.operation == "UploadPart" else None

    relay.fault = fault
    async with start(**storing_at(relay)) as api:
        job_id = await api.submit([origin.url(17_000_000, "big"), origin.url(100, "small")])
        await assert_done_once(api, origin, job_id, files=2)
        assert not faults, "some never happened"


@pytest.mark.parametrize(
    "faults",
    [
        (503, "error-body", "gone"),
        ("lost",),
        pytest.param((500, "lost-error-body"), marks=pytest.mark.slow),
        pytest.param(("gone",), marks=pytest.mark.slow),
    ],
    ids=str,
)
async def test_complete_does_not_say_what_it_did(
    start: Start, relay: Relay, origin: Origin, faults: tuple[str | int, ...]
) -> None:
    """A Complete that fails, says 200 and means an error, or took effect and says it did not: the archive is there."""
    left = list(faults)
    relay.fault = lambda call: left.pop(0) if left and call.operation == "Complete" else None
    async with start(**storing_at(relay)) as api:
        job_id = await api.submit([origin.url(6_000_000, "big"), origin.url(100, "small")])
        await assert_done_once(api, origin, job_id, files=2)
        assert not left, "some never happened"


async def test_a_store_that_refuses(start: Start, relay: Relay, origin: Origin) -> None:
    """A store that takes no parts ends the job with a stable code, and the next one is none the worse."""
    relay.fault = lambda call: 403 if call.operation == "UploadPart" else None
    async with start(**storing_at(relay)) as api:
        job_id = await api.submit([origin.url(12_000_000, "big")])
        status = await outcome(api, job_id)
        assert (status["status"], status["errorCode"], status["attempt"]) == ("failed", "storage_failed", 1)
        relay.fault = lambda call: None
        job_id = await api.submit([origin.url(12_000_000, "other")])
        assert (await outcome(api, job_id))["status"] == "completed"


# The disk


async def test_a_disk_that_takes_no_more(settings: dict[str, Any], tmp_path: Path) -> None:
    """The kernel refuses to write what waits for its turn: it waits at its source, and nothing is lost."""
    small = settings | {
        "memory": {"budget_bytes": 24 * 1024**2},
        "storage": settings["storage"] | SMALL_PARTS["storage"],
        "jobs": SMALL_PARTS["jobs"],
        "log": {"level": "warning"},
    }
    async with (
        gated_source() as origin,
        serving(small, tmp_path) as (process, url),
        aiohttp.ClientSession() as session,
    ):
        api = Api(session, url)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1024**2, resource.RLIM_INFINITY))
        # The archive follows the first that outgrows its share of memory; the other one is left to the disk.
        job_id = await api.submit([origin.held(8_000_000), origin.url(9_000_000, "a"), origin.url(10_000_000, "b")])
        assert process.stderr is not None
        async with asyncio.timeout(20):
            assert b"cache.disk_refused" in await process.stderr.readline()
        origin.gate.set()
        await assert_done_once(api, origin, job_id, files=3)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await assert_takes_jobs(api, origin)


@pytest.mark.slow
async def test_connections_of_redis_that_break_again_and_again(
    settings: dict[str, Any], redis_proxy: Proxy, session: aiohttp.ClientSession, tmp_path: Path, origin: Origin
) -> None:
    """Redis goes and comes a dozen times under a process that runs as in production: it lives, and the job is done."""
    changed = settings | {"redis": settings["redis"] | {"url": f"redis://127.0.0.1:{redis_proxy.port}/0"}}
    changed["worker"] = {"renew_s": 0.05, "reap_s": 0.05}
    async with serving(changed, tmp_path) as (process, url):
        api = Api(session, url)
        job_id = await api.submit([origin.slow(1000 + n, delay_s=0.4) for n in range(40)])
        for _ in range(12):
            await redis_proxy.down()
            await redis_proxy.up()

            async def answers() -> bool:
                return (await api.call("GET", f"/v1/download/status/{job_id}")).status == 200

            await wait_until(answers)
        assert (await api.finished(job_id))["status"] == "completed"
        process.terminate()
        assert (await ended(process)).status == 0


async def test_a_redis_that_forgets_scripts_as_soon_as_it_is_told(redis: OwnRedis) -> None:
    """As in a failover: between telling a script and calling it there may be another server, who knows nothing."""
    async with RedisClient.from_url(redis.url) as client, RedisClient.from_url(redis.url) as other:
        scripts = Scripts(client, "forgetful")
        calling = asyncio.create_task(_run_often(scripts, 1000))
        while not calling.done():
            await other.script_flush()
        assert len(calling.result()) == 1


async def _run_often(scripts: Scripts, times: int) -> set[bytes]:
    return {await scripts.run("server") for _ in range(times)}
