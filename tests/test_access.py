"""Keys, tenants and read tokens: who may see and do what."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDict
from redis.asyncio import Redis as RedisClient

from downloader.web.parts import Pace
from downloader.web.route import Budget, Need, Route
from downloader.web.routes import ROUTES
from tests.api import Answer, Api
from tests.conftest import Start
from tests.files import Origin
from tests.gated import gated_source
from tests.tenants import caller, keyring, make_key, tenant
from tests.test_cli import serving
from tests.waiting import wait_until
from tests.web_front import fronted

INITIATE = "/v1/download/initiate"
CLOSED = {"open": False}
STREAM = {"Accept": "text/event-stream"}
LINKS = ("subscribeUrl", "statusUrl")
JOB_ROUTES = [route for route in ROUTES if "job_id" in route.path]


def path_of(route: Route, job_id: str) -> str:
    """The route's path for a job."""
    named = re.sub(r"\{job_id:?.*?\}(?=/|$)", job_id, route.path)
    return re.sub(r"\{index\}", "0", named)


def hidden(route: Route, answer: Answer) -> bool:
    """Whether the answer is that of a job which does not exist."""
    if route.budget is Budget.STREAM:
        return answer.status == 200 and b"job_not_found" in answer.raw and b"completed" not in answer.raw
    return answer.status == 204 if route.method == "DELETE" else answer.status == 404


async def test_no_route_shows_a_job_to_another_tenant(start: Start, settings: dict[str, Any], origin: Origin) -> None:
    """Each route of the table with a job in it answers a stranger as if there was none, and changes nothing."""
    async with (
        start(access=CLOSED) as anyone,
        tenant(settings, anyone.base, "acme") as acme,
        tenant(settings, anyone.base, "bolt") as bolt,
        gated_source() as gated,
    ):
        done = await acme.submit([origin.url(1000, "a")], options={"keepFiles": True})
        assert (await acme.finished(done))["status"] == "completed"
        active = await acme.submit([gated.held(1000)])
        assert len(JOB_ROUTES) >= 8
        for job_id in (done, active):
            for route in JOB_ROUTES:
                answer = await bolt.call(route.method, path_of(route, job_id), headers=STREAM)
                unknown = await bolt.call(
                    route.method, path_of(route, "00000000-0000-4000-8000-000000000000"), headers=STREAM
                )
                assert hidden(route, answer), (route.path, answer)
                assert answer.status == unknown.status, route.path
        assert (await bolt.call("GET", "/v1/download/jobs")).body == {"jobs": [], "next": None}
        listed = (await acme.call("GET", "/v1/download/jobs")).body["jobs"]
        assert [job["jobId"] for job in listed] == [active, done]
        assert (await acme.status(done))["status"] == "completed"
        assert (await acme.status(active))["status"] in {"queued", "processing"}
        assert (await acme.call("DELETE", f"/v1/download/{active}")).status == 204


async def test_without_a_key_there_is_a_challenge(start: Start, settings: dict[str, Any]) -> None:
    """Every route that needs a key answers 401 with its challenge; what needs none is there for all."""
    unknown = "00000000-0000-4000-8000-000000000000"
    async with start(access=CLOSED) as api, caller(api.base, Authorization="Bearer dl_nope") as wrong:
        for route in ROUTES:
            answer = await api.call(route.method, path_of(route, unknown), headers=STREAM)
            if route.need in (Need.NOTHING, Need.MACHINE):
                assert answer.status != 401, route.path
                continue
            assert (answer.status, answer.body["code"]) == (401, "key_required"), route.path
            assert answer.headers["WWW-Authenticate"] == 'Bearer realm="downloader"'
            answer = await wrong.call(route.method, path_of(route, unknown), headers=STREAM)
            assert (answer.status, answer.body["code"]) == (401, "key_invalid"), route.path


async def test_a_wrong_key_is_no_key_even_where_the_service_is_open(api: Api) -> None:
    """Who shows a key means it: a mistyped one must not end in the open tenant's jobs. Other schemes are no keys."""
    wrong = await api.call("GET", "/v1/download/jobs", headers={"Authorization": "Bearer dl_" + "a" * 56})
    assert (wrong.status, wrong.body["code"]) == (401, "key_invalid")
    for meant in ("Bearer", "bearer ", "", "dl_" + "a" * 56, "Bearer a b"):
        answer = await api.call("GET", "/v1/download/jobs", headers={"Authorization": meant})
        assert (answer.status, answer.body["code"]) == (401, "key_invalid"), meant
    two = CIMultiDict([("Authorization", "Basic dXNlcjpwYXNz"), ("Authorization", "Basic dXNlcjpwYXNz")])
    assert (await api.call("GET", "/v1/download/jobs", headers=two)).status == 401
    other = await api.call("GET", "/v1/download/jobs", headers={"Authorization": "Basic dXNlcjpwYXNz"})
    assert other.status == 200


async def test_keys_end_by_revocation_and_by_time(start: Start, settings: dict[str, Any]) -> None:
    """Several keys of one tenant see the same jobs; a revoked or expired one sees nothing; only digests are kept."""
    async with start(access=CLOSED) as anyone, keyring(settings) as keys:
        first, text = await make_key(settings, "acme")
        async with (
            caller(anyone.base, Authorization=f"bearer  {text}") as one,
            tenant(settings, anyone.base, "acme") as two,
        ):
            job_id = await one.submit([f"{anyone.base}/nothing"])
            assert (await two.status(job_id))["jobId"] == job_id
            assert await keys.revoke(first.key_id)

            async def is_refused() -> bool:
                return (await one.call("GET", f"/v1/download/status/{job_id}")).status == 401

            await wait_until(is_refused)
            await two.finished(job_id)
        _, brief = await make_key(settings, "acme", life_s=0.001)
        async with caller(anyone.base, Authorization=f"Bearer {brief}") as late:

            async def has_expired() -> bool:
                return (await late.call("GET", "/v1/download/jobs")).status == 401

            await wait_until(has_expired)
        client = RedisClient.from_url(settings["redis"]["url"])
        kept = repr(await client.hgetall(f"{{{settings['redis']['prefix']}}}:keys"))
        await client.aclose()
        assert "acme" in kept
        assert text.split("_", 2)[2] not in kept
        assert brief.split("_", 2)[2] not in kept


async def test_links_carry_a_token_that_reads_one_job(start: Start, settings: dict[str, Any], origin: Origin) -> None:
    """A browser without headers follows the links it was given.

    Their token reads its job, changes nothing and opens no other; a repeat of the call gives the same links.
    """
    async with start(access=CLOSED) as browser, tenant(settings, browser.base, "acme") as server:
        headers = {"Idempotency-Key": "once"}
        files = [origin.url(1000, "a")]
        answer = await server.initiate(files, headers=headers, options={"keepFiles": True})
        again = await server.initiate(files, headers=headers, options={"keepFiles": True})
        assert (answer.body["statusUrl"], answer.body["subscribeUrl"]) == (
            again.body["statusUrl"],
            again.body["subscribeUrl"],
        )
        assert answer.headers["Location"] == answer.body["statusUrl"]
        job_id, query = answer.body["jobId"], answer.body["statusUrl"].partition("?")[2]
        assert re.fullmatch(r"token=[A-Za-z0-9_-]{43}", query)
        stream = await browser.call("GET", answer.body["subscribeUrl"], headers=STREAM)
        assert b"event: complete" in stream.raw
        status = await browser.call("GET", answer.body["statusUrl"])
        assert (status.status, status.body["status"]) == (200, "completed")
        (listed,) = (await server.call("GET", "/v1/download/jobs")).body["jobs"]
        for job in (status.body, listed):
            assert {name: job[name] for name in LINKS} == {name: answer.body[name] for name in LINKS}
        kept = status.body["files"][0]["downloadUrl"]
        assert (await browser.call("GET", kept)).status == 302
        other = (await server.initiate(files)).body["jobId"]
        for route in JOB_ROUTES:
            own = await browser.call(route.method, f"{path_of(route, job_id)}?{query}", headers=STREAM)
            foreign = await browser.call(route.method, f"{path_of(route, other)}?{query}", headers=STREAM)
            if route.need is Need.READ:
                assert own.status in {200, 302}, route.path
                assert (foreign.status, foreign.body["code"]) == (401, "token_invalid"), route.path
            else:
                assert (own.status, foreign.status) == (401, 401), route.path
        assert (await browser.call("GET", f"/v1/download/jobs?{query}")).status == 401
        await server.finished(other)
        assert (await server.call("DELETE", f"/v1/download/{job_id}")).status == 204
        gone = await browser.call("GET", answer.body["statusUrl"])
        assert (gone.status, gone.body["code"]) == (404, "job_not_found")


async def test_open_services_give_plain_links(api: Api, origin: Origin) -> None:
    """Where nobody needs a key no link has a token."""
    answer = await api.initiate([origin.url(1000, "a")])
    assert "?" not in answer.body["statusUrl"] + answer.body["subscribeUrl"] + answer.headers["Location"]
    await api.finished(answer.body["jobId"])


@pytest.mark.slow
async def test_a_revoked_key_ends_its_streams(start: Start, settings: dict[str, Any]) -> None:
    """Who listens with a key that is revoked meanwhile is cut off at a heartbeat; a token's stream goes on."""
    client = RedisClient.from_url(settings["redis"]["url"])
    places = f"{{{settings['redis']['prefix']}}}:streams:acme"
    async with _brisk(settings) as front, keyring(settings) as keys:
        key, text = await make_key(settings, "acme")
        async with caller(front.base, Authorization=f"Bearer {text}") as acme:
            answer = await acme.initiate([f"{front.base}/never"])
            job_id, token = answer.body["jobId"], answer.body["statusUrl"].partition("?")[2]
            by_key = asyncio.create_task(acme.events(job_id))
            path = f"/v1/download/subscribe/{job_id}?{token}"
            by_token = asyncio.create_task(front.call("GET", path, headers=STREAM))

            async def are_open() -> bool:
                return bool(await client.zcard(places) == 2)

            await wait_until(are_open)
            await keys.revoke(key.key_id)
            assert [frame.event for frame in await by_key] == ["progress"]
            assert not by_token.done()
            async with tenant(settings, front.base, "acme") as other:
                await other.call("POST", f"/v1/download/{job_id}/cancel")
            assert b"event: error" in (await by_token).raw
    await client.aclose()


async def test_who_leaves_at_once_leaves_nothing_behind(
    session: aiohttp.ClientSession, settings: dict[str, Any], origin: Origin, tmp_path: Path
) -> None:
    """Callers that hang up right after they asked: no stream's place stays taken, and each deed has its audit line."""
    client = RedisClient.from_url(settings["redis"]["url"])
    prefix = f"{{{settings['redis']['prefix']}}}"
    async with _audited(settings, tmp_path) as (base, file):
        api = Api(session, base)
        job_id = await api.submit([origin.url(1000, "a")])
        await api.finished(job_id)
        for number in range(40):
            await hang_up_after(base, f"GET /v1/download/subscribe/{job_id}", number % 4 / 1000)
            body = json.dumps({"files": [{"url": origin.url(10, str(number))}]})
            await hang_up_after(base, "POST /v1/download/initiate", number % 4 / 1000, body)

        async def all_is_told() -> bool:
            jobs = await client.zcard(f"{prefix}:jobs:public")
            lines = [json.loads(line) for line in file.read_text().splitlines()]
            told = {line["job_id"] for line in lines if line["event"] == "audit.initiate" and line["job_id"]}
            return jobs == len(told) and not await client.zcard(f"{prefix}:streams:public")

        await wait_until(all_is_told)
        assert await client.zcard(f"{prefix}:jobs:public") > 1
        assert {json.loads(line)["client"] for line in file.read_text().splitlines()} == {"127.0.0.1"}
        for job in (await api.call("GET", "/v1/download/jobs?limit=200")).body["jobs"]:
            await api.finished(job["jobId"])
    await client.aclose()


@asynccontextmanager
async def _audited(settings: dict[str, Any], folder: Path, **more: dict[str, Any]) -> AsyncIterator[tuple[str, Path]]:
    """A service in a process of its own, since logging belongs to the process; yields its URL and its audit log."""
    file = folder / "audit.jsonl"
    log = {"log": {"level": "error", "audit_file": str(file)}}
    async with serving(settings | log | more, folder) as (process, base):
        yield base, file
        process.terminate()
        await process.communicate()


@asynccontextmanager
async def _brisk(settings: dict[str, Any]) -> AsyncIterator[Api]:
    """A web side whose heart beats fast, for keys only."""
    pace = Pace(heartbeat_s=0.1)
    async with fronted(settings["redis"]["url"], pace=pace, redis=settings["redis"], access=CLOSED) as front:
        yield front.api


async def hang_up_after(base: str, call: str, pause_s: float, body: str = "") -> None:
    """Send a call and reset the connection a moment later."""
    host, port = base.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"{call} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    writer.write(f"{head}\r\n{body}".encode())
    await writer.drain()
    await asyncio.sleep(pause_s)  # the moment is what is tried
    writer.transport.abort()


async def test_figures_are_for_this_machine(start: Start) -> None:
    """Even where everybody may call, /metrics is not for those who come through a proxy."""
    async with start(access={"open": True}) as api:
        assert (await api.call("GET", "/metrics")).status == 200
        answer = await api.call("GET", "/metrics", headers={"X-Forwarded-For": "1.2.3.4"})
        assert (answer.status, "telemetry.metrics_port" in answer.body["detail"]) == (401, True)


async def test_the_audit_log_says_who_did_what(
    session: aiohttp.ClientSession, settings: dict[str, Any], origin: Origin, tmp_path: Path
) -> None:
    """One line for each deed and each refusal, in a file of its own, with tenant and key but without secrets."""
    async with (
        _audited(settings, tmp_path, access={"open": "false"}) as (base, file),
        tenant(settings, base, "acme") as acme,
    ):
        await Api(session, base).call("GET", "/v1/download/jobs")
        job_id = await acme.submit([origin.url(1000, "a") + "?sig=hunter2"])
        await acme.finished(job_id)
        await acme.call("GET", f"/v1/download/{job_id}")
        await acme.call("DELETE", f"/v1/download/{job_id}")
    text = file.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["event"] for line in lines] == ["audit.denied", "audit.initiate", "audit.download", "audit.delete"]
    assert {line.get("job_id") for line in lines[1:]} == {job_id}
    assert {(line["tenant"], line["client"]) for line in lines[1:]} == {("acme", "127.0.0.1")}
    assert "hunter2" not in text
    assert not re.search(r"dl_[a-z0-9]{12}_[A-Za-z0-9_-]{43}", text)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "-a", "a" * 65])
async def test_a_tenants_name_is_plain(name: str, settings: dict[str, Any]) -> None:
    """What could be mistaken for something else in a key, a path or a log is no name."""
    from downloader.errors import StartError
    from downloader.operate import new_key
    from tests.conftest import merged

    with pytest.raises(StartError, match="is no tenant"):
        await new_key(merged(settings, {}), print, print, name, "", None)
