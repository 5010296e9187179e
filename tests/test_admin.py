"""The admin view: figures of the whole service that are right, for who may see them, and the page that shows them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from playwright.async_api import Page, expect
from pydantic import TypeAdapter
from redis.asyncio import Redis as RedisClient

from downloader.errors import UnavailableError
from downloader.keys import ApiKey
from downloader.state.client import connect, opened
from downloader.state.overview import MINUTES, RECENT_SHOWN, REPLICAS_SHOWN, RUNNING_SHOWN, TENANTS_SHOWN
from downloader.state.replicas import Pulse, Replica
from downloader.state.scripts import Scripts
from downloader.web.render import iso
from tests.api import Api
from tests.browser import PHONE, chromium, hosts_of, page_in, picture, violations
from tests.conftest import Start
from tests.files import Origin
from tests.gated import gated_source
from tests.proxy import before
from tests.servers import Redis
from tests.tenants import caller, keyring, make_key, tenant
from tests.test_cli import run
from tests.waiting import wait_until
from tests.web_front import fronted

OVERVIEW = "/v1/admin/overview"
CLOSED = {"open": False}
CANARY = "canary-7d3f"
TOLD = Replica("host", 7, "0", 0, slots=3, running=1, streams=0, memory_used=1, memory_total=2, draining=False)
Seen = dict[str, Any]


async def admin_key(settings: dict[str, Any]) -> str:
    """A key with the admin right."""
    async with keyring(settings) as keys:
        _, text = await keys.make("ops", admin=True)
    return text


@asynccontextmanager
async def operator(settings: dict[str, Any], base: str) -> AsyncIterator[Api]:
    """Who may see the whole."""
    async with caller(base, Authorization=f"Bearer {await admin_key(settings)}") as api:
        yield api


async def seen(api: Api) -> Seen:
    """The overview."""
    answer = await api.call("GET", OVERVIEW)
    assert answer.status == 200, answer
    return dict(answer.body)


async def seen_when(api: Api, **wanted: Any) -> Seen:
    """The overview as soon as these sums are as wanted."""

    async def is_so() -> Seen | None:
        now = await seen(api)
        return now if all(sums(now)[name] == value for name, value in wanted.items()) else None

    found = await wait_until(is_so)
    assert isinstance(found, dict)
    return found


def sums(overview: Seen) -> Mapping[str, int]:
    """The hour's throughput, and a few counts of the rest."""
    minutes = overview["minutes"]
    summed: dict[str, int] = {name: sum(minute[name] for minute in minutes) for name in minutes[0] if name != "at"}
    queue = {name: overview["queue"][name] for name in ("waiting", "pausing", "processing")}
    held = sum(job["filesCompleted"] for job in overview["running"])
    return summed | queue | {"replicas": len(overview["replicas"]), "held": held}


async def test_the_figures_are_right(start: Start, settings: dict[str, Any], origin: Origin) -> None:
    """Two replicas and two tenants: each figure is what was done, and who has the job is named."""
    async with (
        start(access=CLOSED, worker={"concurrency": 0}) as front,
        start(access=CLOSED, worker={"concurrency": 1}),
        operator(settings, front.base) as ops,
        tenant(settings, front.base, "acme") as acme,
        tenant(settings, front.base, "bolt") as bolt,
        gated_source() as gated,
    ):
        done = await acme.submit([origin.url(1000, "a"), origin.url(500, "b"), origin.status(404)])
        await acme.finished(done)
        lost = await bolt.submit([origin.status(404), origin.status(410)])
        await bolt.finished(lost)
        held = await acme.submit([origin.url(100, "c"), gated.held(1000)])
        await wait_until(lambda: len(gated.requests) == 1)
        waiting = [await bolt.submit([origin.url(10, f"w{n}")]) for n in range(2)]
        now = await seen_when(ops, filesDone=3, filesFailed=3, replicas=2, held=1)
        assert (now["queue"]["waiting"], now["queue"]["pausing"], now["queue"]["processing"]) == (2, 0, 1)
        loads = {one["tenant"]: (one["waiting"], one["pausing"], one["processing"]) for one in now["tenants"]}
        assert loads == {"acme": (0, 0, 1), "bolt": (2, 0, 0)}
        assert now["tenantsTotal"] == 2
        assert now["queue"]["waitsSince"] == (await bolt.status(waiting[0]))["createdAt"]
        stored = {one["tenant"]: one["storedBytes"] for one in now["tenants"]}
        assert stored == {"acme": (await acme.status(done))["archive"]["size"], "bolt": 0}
        (running,) = now["running"]
        worker, server = sorted(now["replicas"], key=lambda replica: -replica["slots"])
        assert (running["jobId"], running["tenant"], running["attempt"]) == (held, "acme", 1)
        assert (running["filesCompleted"], running["totalFiles"]) == (1, 2)
        assert 0 < running["leaseMs"] <= 20_000
        assert running["replica"] == worker["id"]
        assert (worker["slots"], worker["running"], server["slots"], server["running"]) == (1, 1, 0, 0)
        assert worker["memoryBudgetBytes"] >= worker["memoryUsedBytes"] > 0
        assert (sums(now)["jobsCompleted"], sums(now)["jobsFailed"], sums(now)["bytesFetched"]) == (1, 1, 1600)
        assert now["failures"]["hour"]["jobs"] == {"all_files_failed": 1}
        assert now["failures"]["day"]["files"] == {"http_status:404": 2, "http_status:410": 1}
        recent = {job["jobId"]: (job["status"], job["filesCompleted"], job["errorCode"]) for job in now["recent"]}
        assert list(recent) == [*reversed(waiting), held, lost, done]
        assert recent[done] == ("completed", 2, None)
        assert recent[lost] == ("failed", 0, "all_files_failed")
        document = (await front.call("GET", "/openapi.json")).body
        told = document["paths"][OVERVIEW]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema_rs.Draft202012Validator(told | {"components": document["components"]}).validate(now)
        for job_id in waiting:
            await bolt.call("POST", f"/v1/download/{job_id}/cancel")
        await acme.call("DELETE", f"/v1/download/{done}")
        gated.gate.set()
        await acme.finished(held)
        now = await seen_when(ops, filesDone=4, jobsCompleted=2, jobsCancelled=2, waiting=0, processing=0)
        assert done not in {job["jobId"] for job in now["recent"]}


async def test_it_is_for_admins(start: Start, settings: dict[str, Any]) -> None:
    """Only a key with the admin right opens it, on this machine and where the service is open too; so for HEAD."""
    async with (
        start(access={"open": True}) as anyone,
        tenant(settings, anyone.base, "acme") as acme,
        operator(settings, anyone.base) as ops,
    ):
        for method in ("GET", "HEAD"):
            assert (await anyone.call(method, OVERVIEW)).status == 401
            assert (await acme.call(method, OVERVIEW)).status == 403
            assert (await ops.call(method, OVERVIEW)).status == 200
        nobody, other = await anyone.call("GET", OVERVIEW), await acme.call("GET", OVERVIEW)
        assert (nobody.body["code"], other.body["code"]) == ("key_required", "admin_required")
        for answer in (nobody, other):
            assert "downloader keys new --admin ops" in answer.body["detail"]
        allowed = await ops.call("GET", OVERVIEW)
        assert allowed.headers["Cache-Control"] == "no-store"
        assert (await ops.call("GET", "/v1/download/jobs")).body["jobs"] == []  # else a key as any other


async def test_an_operator_makes_an_admin_key(settings: dict[str, Any], tmp_path: Path) -> None:
    """`keys new --admin` makes one and `keys list` tells them apart; a key of an earlier version is none."""
    flags = [f"--set=redis.{name}={value}" for name, value in settings["redis"].items()]
    made = await run("keys", "new", "--admin", "ops", *flags, cwd=tmp_path)
    assert (made.status, "admin" in made.err) == (0, True), made
    await make_key(settings, "acme")
    listed = (await run("keys", "list", *flags, cwd=tmp_path)).out.splitlines()
    assert sorted((line.split()[1], ", admin," in line) for line in listed) == [("acme", False), ("ops", True)]
    async with keyring(settings) as keys:
        key = await keys.verify(made.out.strip())
    assert key is not None
    assert key.admin
    reader = TypeAdapter(ApiKey)
    old = {name: value for name, value in json.loads(reader.dump_json(key)).items() if name != "admin"}
    assert not reader.validate_json(json.dumps(old)).admin
    assert reader.validate_json(json.dumps(old | {"of_a_later_version": 1})).tenant == "ops"


@pytest.mark.slow
async def test_a_replica_that_stops_is_not_shown(start: Start, settings: dict[str, Any]) -> None:
    """It is gone from the list at once."""
    async with start() as api, operator(settings, api.base) as ops:
        await seen_when(ops, replicas=1)
        async with start():
            await seen_when(ops, replicas=2)
        await seen_when(ops, replicas=1)


async def test_a_replica_that_is_killed_is_not_shown(valkey: Redis, settings: dict[str, Any]) -> None:
    """It is gone when nothing was heard of it for its life, though nobody is left to clear up after it."""
    async with fronted(valkey.url, redis=settings["redis"]) as front, scripts_of(settings) as scripts:
        await Pulse(scripts, "killed", lambda: TOLD, dict, life_s=1).beat()
        async with operator(settings, front.api.base) as ops:
            (shown,) = (await seen(ops))["replicas"]
            assert (shown["id"], shown["host"], shown["slots"], shown["running"]) == ("killed", "host", 3, 1)
            assert 0 < shown["knownMs"] <= 1000
            await seen_when(ops, replicas=0)


async def test_a_replica_that_tells_nonsense_is_left_out(valkey: Redis, settings: dict[str, Any]) -> None:
    """It is counted and not listed, and all the rest is there."""
    async with fronted(valkey.url, redis=settings["redis"]) as front, scripts_of(settings) as scripts:
        for name, since_ms in (("mad", 10**18), ("sane", 0)):
            await Pulse(scripts, name, partial(replace, TOLD, since_ms=since_ms), dict).beat()
        async with operator(settings, front.api.base) as ops:
            now = await seen(ops)
        assert ([one["id"] for one in now["replicas"]], now["replicasTotal"]) == (["sane"], 2)


@pytest.mark.slow
async def test_a_replica_that_stops_says_so(start: Start, settings: dict[str, Any]) -> None:
    """While it lets its job end it is shown as draining."""
    stop = asyncio.Event()

    async def replica() -> None:
        async with start(server={"drain_s": 30}):
            await stop.wait()

    async with (
        start(worker={"concurrency": 0}) as front,
        operator(settings, front.base) as ops,
        gated_source() as gated,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(replica())
        job_id = await front.submit([gated.held(1000)])
        await wait_until(lambda: gated.requests)
        stop.set()

        async def is_draining() -> bool:
            return sorted(one["draining"] for one in (await seen(ops))["replicas"]) == [False, True]

        await wait_until(is_draining)
        gated.gate.set()
        await front.finished(job_id)
        await seen_when(ops, replicas=1)


async def test_nothing_is_lost_or_counted_twice(start: Start, settings: dict[str, Any], valkey: Redis) -> None:
    """Redis hears the counts but its answer is lost, then it is away and more is counted: all of it counts once."""
    counts: Counter[str] = Counter()

    def take() -> dict[str, int]:
        taken = dict(counts)
        counts.clear()
        return taken

    async with (
        start(worker={"concurrency": 0}) as api,
        operator(settings, api.base) as ops,
        before(valkey.url) as proxy,
        opened(connect(f"redis://127.0.0.1:{proxy.port}/0")) as client,
    ):
        pulse = Pulse(Scripts(client, settings["redis"]["prefix"]), "one", lambda: TOLD, take)
        await pulse.beat()
        lost = [proxy.drop_next_reply(match=b"files:done") for _ in range(3)]  # the repeats of a script too
        counts.update({"files:done": 2, "bytes": 2000})
        with pytest.raises(UnavailableError):
            await pulse.beat()
        assert all(one.is_set() for one in lost)
        counts.update({"files:done": 1, "files:failed": 1, "file:timeout": 1})
        await pulse.beat()
        await proxy.down()
        for _ in range(2):
            with pytest.raises(UnavailableError):
                await pulse.beat()
            counts.update({"files:done": 10, "bytes": 5})
        await proxy.up()
        await pulse.beat()
        await pulse.beat()
        now = await seen_when(ops, filesDone=23, filesFailed=1)
        assert sums(now)["bytesFetched"] == 2010
        assert now["failures"]["day"]["files"] == {"timeout": 1}


async def test_what_was_counted_last_is_told_at_the_end(start: Start, settings: dict[str, Any], origin: Origin) -> None:
    """A replica that stops right after its job leaves its figures behind."""
    async with start(worker={"concurrency": 0}) as front, operator(settings, front.base) as ops:
        async with start():
            await front.finished(await front.submit([origin.url(1000, "a"), origin.status(404)]))
        await seen_when(ops, replicas=1, filesDone=1, filesFailed=1, jobsCompleted=1)


async def test_it_tells_no_secrets(start: Start, settings: dict[str, Any], origin: Origin) -> None:
    """Neither what callers send nor what opens anything stands in the answer."""
    async with start(access=CLOSED) as api, tenant(settings, api.base, "acme") as acme:
        bad = {
            "url": f"http://{CANARY}:{CANARY}@127.0.0.1:1/{CANARY}?key={CANARY}",
            "name": f"{CANARY}.txt",
            "headers": {"Authorization": f"Bearer {CANARY}"},
        }
        more: dict[str, Any] = {"archiveName": f"{CANARY}.zip", "headers": {"Idempotency-Key": CANARY}}
        job_id = await acme.submit([bad, origin.url(10, CANARY)], **more)
        await acme.finished(job_id)
        await acme.finished(await acme.submit([bad], options={"onError": "fail"}, headers={"X-Request-Id": CANARY}))
        text = await admin_key(settings)
        async with caller(api.base, Authorization=f"Bearer {text}") as ops:
            await seen_when(ops, filesFailed=2)
            raw = (await ops.call("GET", OVERVIEW)).raw
        assert job_id.encode() in raw
        for secret in (
            CANARY,
            "127.0.0.1",
            "token",
            text.split("_", 2)[2],
            "dl_",
            "://",
            settings["storage"]["prefix"],
        ):
            assert secret.encode() not in raw, secret


async def test_its_size_is_bounded(valkey: Redis, settings: dict[str, Any]) -> None:
    """With more of everything than is shown the counts are whole, and the lists are cut off."""
    jobs = [f"{number:08d}-0000-4000-8000-000000000000" for number in range(1000)]
    async with fronted(valkey.url, redis=settings["redis"]) as front, scripts_of(settings) as scripts:
        await crowd(RedisClient.from_url(valkey.url), scripts.prefix, jobs)
        for name in range(REPLICAS_SHOWN + 20):
            await Pulse(scripts, f"{999 - name}", lambda: TOLD, dict).beat()
        async with operator(settings, front.api.base) as ops:
            answer = await ops.call("GET", OVERVIEW)
            now = answer.body
        assert (now["queue"]["waiting"], now["queue"]["processing"]) == (1000, 1000)
        assert (now["tenantsTotal"], now["storedBytes"], now["replicasTotal"]) == (
            950,
            700_000_000,
            REPLICAS_SHOWN + 20,
        )
        assert now["queue"]["waitsSince"] == iso(1000)
        assert "tenant-99" not in {one["tenant"] for one in now["tenants"]}
        shown = [len(now[name]) for name in ("running", "recent", "tenants", "replicas", "minutes")]
        assert shown == [RUNNING_SHOWN, RECENT_SHOWN, TENANTS_SHOWN, REPLICAS_SHOWN, MINUTES]
        assert min(one["id"] for one in now["replicas"]) == f"{1000 - REPLICAS_SHOWN - 20}"
        assert len(answer.raw) < 180_000


async def crowd(client: Any, prefix: str, jobs: list[str]) -> None:
    """Make these jobs wait, be worked on, and be recent, of 250 tenants; tenant-99's is the oldest.

    700 others have archives.
    """
    figures = dict.fromkeys(("done", "failed", "total", "bytes", "progress", "attempt", "crashes"), 1)
    fields = figures | {"state": "processing", "created": 5000, "started": 1, "token": "1-a", "by": "r 1-a"}
    async with client, client.pipeline() as pipe:
        for number, job in enumerate(jobs):
            of = f"tenant-{number % 250}"
            pipe.hset(f"{prefix}job:{job}", mapping=fields | {"tenant": of})
            pipe.rpush(f"{prefix}ready:{of}", job)
            pipe.zadd(f"{prefix}ring", {of: 0})
            pipe.zadd(f"{prefix}leases", {job: number})
            pipe.zadd(f"{prefix}recent", {job: number})
        pipe.hset(f"{prefix}job:{jobs[99]}", "created", 1000)
        pipe.hset(f"{prefix}stored", mapping={f"other-{number}": 1_000_000 for number in range(700)})
        await pipe.execute()


@asynccontextmanager
async def scripts_of(settings: dict[str, Any]) -> AsyncIterator[Scripts]:
    """The scripts in the memory of the services with these settings."""
    async with opened(connect(settings["redis"]["url"])) as client:
        yield Scripts(client, settings["redis"]["prefix"])


async def test_a_job_that_an_earlier_version_took_has_no_replica(valkey: Redis, settings: dict[str, Any]) -> None:
    """A claim that does not say whose it is leaves an older word as it stands; then nobody is named."""
    async with fronted(valkey.url, redis=settings["redis"]) as front, operator(settings, front.api.base) as ops:
        job_id = await front.api.submit(["http://127.0.0.1:1/"])
        await front.claimed()
        assert await holders(ops) == [front.queue.process]
        async with opened(connect(valkey.url)) as client:
            record: Any = client.hset(f"{{{settings['redis']['prefix']}}}:job:{job_id}", "token", "2-another")
            await record

        async def is_unknown() -> bool:
            return await holders(ops) == [None]

        await wait_until(is_unknown)


async def holders(api: Api) -> list[str | None]:
    """Who has the jobs that are worked on."""
    return [job["replica"] for job in (await seen(api))["running"]]


async def test_the_page_stands_by_itself(api: Api) -> None:
    """The page and its files come without a key, may be kept, load nothing from elsewhere, and are small."""
    shared = ("/assets/dom.js", "/assets/format.js", "/assets/storage.js")
    paths = ("/admin", "/assets/admin.css", "/assets/admin.js", *shared)
    answers = [await api.call("GET", path) for path in paths]
    assert {answer.status for answer in answers} == {200}
    assert "script-src 'self'" in answers[0].headers["Content-Security-Policy"]
    assert "unsafe" not in answers[0].headers["Content-Security-Policy"]
    again = await api.call("GET", "/admin", headers={"If-None-Match": answers[0].headers["ETag"]})
    assert (again.status, again.raw) == (304, b"")
    assert sum(len(answer.raw) for answer in answers) < 32 * 1024
    assert b"innerHTML" not in answers[2].raw


async def a_busy_hour(client: Any, prefix: str, now_ms: int) -> None:
    """Tallies of the minutes before this one, as they would have been."""
    for ago in range(1, 60):
        key, jobs = f"{prefix}tally:m:{now_ms // 60_000 - ago}", 12 + (ago * 7) % 19 - (ago % 11)
        lost = {"jobs:failed": ago % 4 == 0, "file:timeout": ago % 3, "files:failed": ago % 3}
        good = {"jobs:completed": jobs, "files:done": jobs * 21, "bytes": jobs * 48_000_000}
        await client.hset(key, mapping={name: int(amount) for name, amount in (good | lost).items()})
        await client.expire(key, 60)


async def give(page: Page, key: str) -> None:
    """Give the page a key."""
    await page.get_by_label("Key").fill(key)
    await page.get_by_role("button", name="Open").click()


@pytest.mark.slow
async def test_the_page_shows_it_live(start: Start, settings: dict[str, Any], origin: Origin) -> None:
    """In a browser: it asks for an admin key, shows what happens as it happens, and goes on after an outage."""
    message = "<img src=x onerror=alert(1)> until noon"
    client, prefix = RedisClient.from_url(settings["redis"]["url"]), f"{{{settings['redis']['prefix']}}}:"
    async with (
        start(access=CLOSED, worker={"concurrency": 2}) as api,
        tenant(settings, api.base, "acme") as acme,
        tenant(settings, api.base, "bolt") as bolt,
        gated_source() as gated,
        chromium() as browser,
    ):
        text = await admin_key(settings)
        _, other = await make_key(settings, "acme")
        async with page_in(browser, allowed=["403", "ERR_FAILED"], color_scheme="light") as page:
            await page.goto(f"{api.base}/admin")
            await give(page, other)
            await expect(page.get_by_role("alert")).to_contain_text("no admin right")
            assert await violations(page) == []
            await picture(page, "admin-key")
            await give(page, text)
            await expect(page.get_by_text("No job is being worked on.")).to_be_visible()
            await expect(page.get_by_text("serving", exact=True)).to_be_visible()
            assert await violations(page) == []
            await picture(page, "admin-empty")
            await some_jobs(acme, bolt, gated.held(5_000_000), origin)
            await a_busy_hour(client, prefix, int((await client.time())[0]) * 1000)
            await client.set(f"{prefix}maintenance", message)
            running = page.get_by_role("table", name="Running jobs").get_by_role("row")
            await expect(running).to_have_count(3)
            await expect(page.get_by_text("Callers are told")).to_contain_text(message)
            recent = page.get_by_role("table", name="Recent jobs")
            for word in ("completed", "partly done", "failed", "cancelled", "queued", "processing"):
                await expect(recent.get_by_text(word, exact=True).first).to_be_visible()
            await expect(page.get_by_role("table", name="Failures of files")).to_contain_text("http_status:404")
            assert await violations(page) == []
            await picture(page, "admin-desktop-light")
            await page.emulate_media(color_scheme="dark")
            assert await violations(page) == []
            await picture(page, "admin-desktop-dark")
            await page.set_viewport_size({"width": PHONE["width"], "height": PHONE["height"]})
            assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
            assert await violations(page) == []
            await picture(page, "admin-phone")
            await goes_on_after_an_outage(page, running, gated.gate)
            assert hosts_of(page) == {api.base.removeprefix("http://")}
            assert await page.evaluate("Object.keys(localStorage).length") == 0
            await page.get_by_role("button", name="Forget key").click()
            await expect(page.get_by_label("Key")).to_be_focused()
            assert await page.evaluate("Object.keys(sessionStorage).length") == 0
        await client.delete(f"{prefix}maintenance")
    await client.aclose()


async def some_jobs(acme: Api, bolt: Api, held: str, origin: Origin) -> None:
    """One of each kind; two are worked on and two wait."""
    await acme.finished(await acme.submit([origin.url(2_000_000 + n, "a") for n in range(5)]))
    await acme.finished(await acme.submit([origin.url(1_000_000, "b"), origin.status(404), origin.status(410)]))
    await bolt.finished(await bolt.submit([origin.status(404), "http://127.0.0.1:1/"]))
    for api in (acme, bolt):
        await api.submit([*(origin.url(300_000, f"c{n}") for n in range(7)), held, origin.status(404)])
    await acme.submit([origin.url(1000, "d")])
    waiting = [await bolt.submit([origin.url(1000, f"e{n}")]) for n in range(2)]
    assert (await bolt.call("POST", f"/v1/download/{waiting[0]}/cancel")).status == 200


async def goes_on_after_an_outage(page: Page, running: Any, gate: asyncio.Event) -> None:
    """While nothing answers the page says so and keeps what it shows; then it goes on by itself."""
    await page.route("**/v1/admin/overview", lambda route: route.abort())
    await expect(page.get_by_role("status")).to_contain_text("does not answer")
    await expect(running).to_have_count(3)
    await page.unroute("**/v1/admin/overview")
    gate.set()
    await expect(page.get_by_role("status")).to_have_text("Live")
    await expect(page.get_by_text("No job is being worked on.")).to_be_visible()
