"""Budgets, quotas and maintenance: what callers may use, counted over all replicas."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from multidict import CIMultiDict
from redis.asyncio import Redis as RedisClient

from downloader.operate import maintenance
from tests.api import Answer, Api
from tests.conftest import Start, merged
from tests.files import Origin
from tests.gated import gated_source
from tests.tenants import caller, tenant
from tests.waiting import wait_until

JOBS = "/v1/download/jobs"
STREAM = {"Accept": "text/event-stream"}
UNKNOWN = "00000000-0000-4000-8000-000000000000"


def refused(answer: Answer, code: str) -> dict[str, Any]:
    """The problem of a refusal, which must say when to come back."""
    assert (answer.status, answer.body["code"]) == (429, code), answer
    assert 1 <= int(answer.headers["Retry-After"]) <= 86_400
    return dict(answer.body)


async def spend(api: Api, method: str, path: str, most: int) -> list[Answer]:
    """Call until the first refusal; all answers."""
    answers = []
    for _ in range(most):
        answers.append(await api.call(method, path))
        if answers[-1].status == 429:
            break
    return answers


async def test_each_budget_is_its_own(start: Start, settings: dict[str, Any], origin: Origin) -> None:
    """A page that polls until it is refused can still cancel, follow its stream and start jobs.

    The other tenant does not feel it, another replica does; each answer tells what is left.
    """
    limits = {"reads_per_minute": 5, "changes_per_minute": 3}
    async with (
        start(access={"open": False}, limits=limits) as first,
        start(access={"open": False}, limits=limits) as second,
        tenant(settings, first.base, "acme") as acme,
        tenant(settings, first.base, "bolt") as bolt,
    ):
        job_id = await acme.submit([origin.url(1000, "a")])
        answers = await spend(acme, "GET", f"/v1/download/status/{job_id}", 20)
        assert 5 <= len(answers) - 1 <= 10  # the minute may turn meanwhile
        left = [int(answer.headers["RateLimit-Remaining"]) for answer in answers]
        assert left[-2:] == [0, 0]
        assert {answer.headers["RateLimit-Limit"] for answer in answers} == {"5"}
        problem = refused(answers[-1], "rate_limited")
        assert "limits.reads_per_minute" in problem["detail"]
        assert answers[-1].headers["RateLimit-Reset"] == answers[-1].headers["Retry-After"]
        acme.base = second.base
        if (await acme.call("GET", JOBS)).status != 429:  # the minute has just turned
            refused((await spend(acme, "GET", JOBS, 6))[-1], "rate_limited")
        assert (await bolt.call("GET", JOBS)).status == 200
        assert (await acme.call("POST", f"/v1/download/{job_id}/cancel")).status == 200
        assert (await acme.call("GET", f"/v1/download/subscribe/{job_id}", headers=STREAM)).status == 200
        assert (await acme.initiate([origin.url(1000, "b")])).status == 202
        assert (await acme.call("GET", "/readyz")).status == 200


async def test_a_page_cannot_lock_its_tenant_out(start: Start, settings: dict[str, Any], origin: Origin) -> None:
    """Whoever holds a job's link has three quarters of the tenant's budget at most; the rest is for its keys."""
    limits = {"reads_per_minute": 8, "streams": 4}
    async with (
        start(access={"open": False}, limits=limits) as page,
        tenant(settings, page.base, "acme") as acme,
        gated_source() as gated,
    ):
        answer = await acme.initiate([gated.held(1000)])
        token = answer.body["statusUrl"].partition("?")[2]
        path = f"/v1/download/subscribe/{answer.body['jobId']}?{token}"
        waiting = [asyncio.create_task(page.call("GET", path, headers=STREAM)) for _ in range(6)]
        await wait_until(lambda: sum(task.done() for task in waiting) == 3)
        with_key = asyncio.create_task(acme.events(answer.body["jobId"]))
        refused((await spend(page, "GET", answer.body["statusUrl"], 20))[-1], "rate_limited")
        assert (await acme.call("GET", JOBS)).status == 200
        gated.gate.set()
        assert (await with_key)[-1].event == "complete"
        await asyncio.gather(*waiting)


async def test_addresses_count_only_without_a_key(start: Start, settings: dict[str, Any]) -> None:
    """Strangers behind a trusted proxy are told apart by the address it names.

    What they write into the header themselves does not count, a whole /64 is one, and a key is counted by its tenant.
    """
    limits = {"address_calls_per_minute": 3, "address_initiate_per_minute": 2}
    server = {"port": 0, "drain_s": 0, "trusted_proxies": ["127.0.0.1/32"]}
    async with start(access={"open": True}, limits=limits, server=server) as proxy, AsyncExitStack() as stack:

        async def stranger(forwarded: str) -> Api:
            return await stack.enter_async_context(caller(proxy.base, X_Forwarded_For=forwarded))

        one, other = await stranger("6.6.6.6, 198.51.100.1"), await stranger("6.6.6.6, 198.51.100.2")
        refused((await spend(one, "GET", JOBS, 8))[-1], "rate_limited")
        assert (await other.call("GET", JOBS)).status == 200
        six, neighbour = await stranger("2001:db8:1:2::1"), await stranger("2001:db8:1:2:ffff::9")
        shared = []
        for _ in range(2):  # the minute may turn in between
            refused((await spend(six, "GET", JOBS, 8))[-1], "rate_limited")
            shared.append((await neighbour.call("GET", JOBS)).status)
        assert 429 in shared
        by_two_lines = []
        for number in range(8):
            lines = CIMultiDict([("X-Forwarded-For", f"203.0.113.{number}"), ("X-Forwarded-For", "198.51.100.3:4711")])
            by_two_lines.append(await proxy.call("GET", JOBS, headers=lines))
        refused(by_two_lines[-1], "rate_limited")
        answers = [await other.initiate([f"{proxy.base}/none"]) for _ in range(5)]
        refused(answers[-1], "rate_limited")
        keyed = await stack.enter_async_context(tenant(settings, proxy.base, "acme"))
        keyed.session.headers["X-Forwarded-For"] = "198.51.100.1"
        assert {(await keyed.call("GET", JOBS)).status for _ in range(8)} == {200}
        for answer in answers:
            if answer.status == 202:
                await proxy.finished(answer.body["jobId"])


async def test_a_job_costs_one_job(start: Start, settings: dict[str, Any], origin: Origin) -> None:
    """The budget of new jobs is spent by jobs that are taken, and by nothing that is repeated or refused."""
    limits = {"initiate_per_minute": 5}
    async with start(access={"open": False}, limits=limits) as api, tenant(settings, api.base, "acme") as acme:
        taken = set()
        for number in range(7):
            await acme.call("POST", "/v1/download/initiate", json={"files": 1})
            for _ in range(2):
                answer = await acme.initiate([origin.url(10, "a")], headers={"Idempotency-Key": f"k{number}"})
                taken.add(answer.body.get("jobId"))
        jobs = taken - {None}
        assert len(jobs) >= 5
        client = RedisClient.from_url(settings["redis"]["url"])
        names = [name async for name in client.scan_iter(f"{{{settings['redis']['prefix']}}}:rate:initiate:acme:*")]
        assert sum(int(value or 0) for value in await client.mget(names)) == len(jobs)
        await client.aclose()
        for job_id in jobs:
            await acme.finished(job_id)


async def test_what_is_refused_costs_too(start: Start, settings: dict[str, Any]) -> None:
    """Bodies that are wrong, calls without right and streams opened over and over are bounded; each in its own way."""
    limits = {"posts_per_minute": 4, "opens_per_minute": 4, "address_calls_per_minute": 4}
    server = {"port": 0, "drain_s": 0, "trusted_proxies": ["127.0.0.1/32"]}
    async with (
        start(access={"open": False}, limits=limits, server=server) as api,
        tenant(settings, api.base, "acme") as acme,
        caller(api.base, X_Forwarded_For="198.51.100.9", Authorization="Bearer dl_x") as stranger,
    ):
        wrong = [await acme.call("POST", "/v1/download/initiate", json={"files": 1}) for _ in range(10)]
        assert wrong[0].status == 400
        assert "limits.posts_per_minute" in refused(wrong[-1], "rate_limited")["detail"]
        path = f"/v1/download/subscribe/{UNKNOWN}"
        opened = [await acme.call("GET", path, headers=STREAM) for _ in range(10)]
        assert {answer.status for answer in opened} == {200}
        assert (b"event: error" in opened[0].raw, b"event: busy" in opened[-1].raw) == (True, True)
        denied = [await stranger.call("GET", JOBS) for _ in range(10)]
        assert denied[0].status == 401
        assert "limits.address_calls_per_minute" in refused(denied[-1], "rate_limited")["detail"]


async def test_streams_are_counted_over_replicas(start: Start, settings: dict[str, Any]) -> None:
    """The third stream is told to come back later, whichever replica it tries; a place is free when a stream ends."""
    limits = {"streams": 2}
    async with start(limits=limits) as first, start(limits=limits) as second, gated_source() as gated:
        job_id = await first.submit([gated.held(1000)])
        path = f"/v1/download/subscribe/{job_id}"
        streams = [asyncio.create_task(api.events(job_id)) for api in (first, second)]
        client = RedisClient.from_url(settings["redis"]["url"])
        places = f"{{{settings['redis']['prefix']}}}:streams:public"

        async def are_open() -> bool:
            return bool(await client.zcard(places) == 2)

        await wait_until(are_open)
        for api in (first, second):
            busy = await api.call("GET", path, headers=STREAM)
            assert (busy.status, b"event: busy" in busy.raw, b"retry: 30000" in busy.raw) == (200, True, True)
        held = await first.call("GET", f"/v1/download/status/{job_id}", headers={"Prefer": "wait=30"})
        assert "Preference-Applied" not in held.headers  # no place to wait in, so the answer comes at once
        gated.gate.set()
        assert [(await stream)[-1].event for stream in streams] == ["complete", "complete"]

        async def is_free() -> bool:
            return not await client.zcard(places)

        await wait_until(is_free)
        await client.aclose()


async def test_quotas_of_a_day_and_of_storage(start: Start, settings: dict[str, Any], origin: Origin) -> None:
    """Files and bytes of a day, and stored bytes, each stop new jobs with their own remedy.

    Deleting gives room back; a repeat of an accepted call is never refused.
    """
    own = [
        {"name": "files", "day_files": 3},
        {"name": "bytes", "day_bytes": 50_000},
        {"name": "store", "stored_bytes": 50_000},
    ]
    async with start(limits={"tenants": own}, worker={"sweep_s": 0.2}) as anyone, AsyncExitStack() as stack:
        files, octets, store = [
            await stack.enter_async_context(tenant(settings, anyone.base, name)) for name in ("files", "bytes", "store")
        ]
        await files.finished(await files.submit([origin.url(10, "a"), origin.url(10, "b")]))
        assert (
            "limits.day_files" in refused(await files.initiate([origin.url(10, "c")] * 2), "quota_exceeded")["detail"]
        )
        once = {"Idempotency-Key": "k"}
        assert (await files.initiate([origin.url(10, "c")], headers=once)).status == 202
        assert (await files.initiate([origin.url(10, "c")], headers=once)).headers["Idempotency-Replayed"] == "true"
        await octets.finished(await octets.submit([origin.url(60_000, "d")]))
        assert "limits.day_bytes" in refused(await octets.initiate([origin.url(10, "e")]), "quota_exceeded")["detail"]
        job_id = await store.submit([origin.url(60_000, "f")], options={"keepFiles": True})
        await store.finished(job_id)
        assert "delete" in refused(await store.initiate([origin.url(10, "g")]), "quota_exceeded")["detail"]
        assert (await store.call("DELETE", f"/v1/download/{job_id}")).status == 204

        async def has_room() -> Any:
            return (await store.initiate([origin.url(10, "g")])).body.get("jobId")

        await store.finished(await wait_until(has_room))


async def test_jobs_of_a_tenant_have_its_size(start: Start, settings: dict[str, Any], origin: Origin) -> None:
    """Too many files are refused by name, too many bytes end the job; other tenants have the service's limits."""
    own = [{"name": "small", "job_files": 2, "job_bytes": 5000, "running_jobs": 1}]
    async with (
        start(limits={"tenants": own}) as anyone,
        tenant(settings, anyone.base, "small") as small,
        tenant(settings, anyone.base, "large") as large,
        gated_source() as gated,
    ):
        three = [origin.url(2000, name) for name in "abc"]
        answer = await small.initiate(three)
        assert (answer.status, answer.body["errors"][0]["pointer"]) == (400, "/files")
        ended = await small.finished(await small.submit([origin.url(4000, "a"), origin.url(4000, "b")]))
        assert (ended["status"], ended["errorCode"]) == ("failed", "job_too_large")
        assert (await large.finished(await large.submit([*three, origin.url(4000, "b")])))["status"] == "completed"
        first, second = await small.submit([gated.held(1000)]), await small.submit([gated.held(1001)])

        async def runs() -> bool:
            return bool((await small.status(first))["status"] == "processing")

        await wait_until(runs)
        await large.finished(await large.submit(three[:1]))  # a slot was free, but not for a second job of `small`
        waiting = await small.status(second)
        assert (waiting["status"], waiting["queuePosition"]) == ("queued", 1)
        gated.gate.set()
        assert (await small.finished(second))["status"] == "completed"
        await small.finished(first)


async def test_maintenance_takes_nothing_and_finishes_what_runs(start: Start, settings: dict[str, Any]) -> None:
    """While it lasts new jobs get 503 with the operator's words on every replica.

    A running job ends well, a repeat of an accepted call gets its answer, and afterwards jobs are taken again.
    """
    lines: list[str] = []
    async with start() as first, start() as second, gated_source() as gated:
        once = {"Idempotency-Key": "k"}
        job_id = (await first.initiate([gated.held(1000)], headers=once)).body["jobId"]
        assert await maintenance(merged(settings, {}), lines.append, print, "on", "Back at 5.") == 0
        for api in (first, second):
            answer = await api.initiate([gated.url(10, "a")])
            assert (answer.status, answer.body["code"], answer.body["detail"]) == (503, "maintenance", "Back at 5.")
            assert int(answer.headers["Retry-After"]) > 0
        assert (await second.initiate([gated.held(1000)], headers=once)).body["jobId"] == job_id
        gated.gate.set()
        assert (await second.finished(job_id))["status"] == "completed"
        assert (await first.call("GET", "/readyz")).status == 200
        assert await maintenance(merged(settings, {}), lines.append, print, "off", "") == 0
        await first.finished(await first.submit([gated.url(10, "a")]))
    assert lines == ["maintenance is on; callers are told: Back at 5.", "maintenance is off: jobs are taken"]


async def test_fifty_identical_calls_on_two_replicas_make_one_job(start: Start, origin: Origin) -> None:
    """One key, one body, fifty calls at once on two replicas: one job, 49 replays, and one entry in the list."""
    async with start() as first, start() as second:
        calls = [
            api.initiate([origin.url(1000, "a")], headers={"Idempotency-Key": "same"})
            for api in (first, second)
            for _ in range(25)
        ]
        answers = await asyncio.gather(*calls)
        assert {answer.status for answer in answers} == {202}
        assert len({answer.body["jobId"] for answer in answers}) == 1
        assert sum(answer.headers.get("Idempotency-Replayed") == "true" for answer in answers) == 49
        assert len((await second.call("GET", JOBS)).body["jobs"]) == 1
        await first.finished(answers[0].body["jobId"])
