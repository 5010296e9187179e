"""Callbacks: a job's end is told to who asked for it, signed, at least once, and nowhere it should not go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from redis.asyncio import Redis as RedisClient

from downloader.callbacks import Attempt, CallbackState
from downloader.config import WebhookSettings
from downloader.errors import ConfigError
from downloader.settings import load
from downloader.work.postman import Answered
from downloader.work.webhook import AT_ONCE, AT_ONCE_PER_RECEIVER, verdict
from tests.api import Api
from tests.conftest import Start
from tests.files import Origin
from tests.receivers import Answer, Receiver, receiving, secret_of
from tests.restarts import own_redis
from tests.test_cli import serving
from tests.waiting import wait_until

SECRET = secret_of("one")
QUICK = {"secret": SECRET, "first_pause_s": 0.0005, "timeout_s": 10}
CANARY = "hook-canary-6f1d"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver of callbacks."""
    async with receiving() as receiver:
        yield receiver


async def settled(api: Api, job_id: str) -> dict[str, Any]:
    """The job's callback once nothing more will be tried."""

    async def callback() -> dict[str, Any] | None:
        found = dict((await api.status(job_id))["callback"])
        return None if found["state"] == "pending" else found

    return dict(await wait_until(callback))


async def where_it_stands(settings: dict[str, Any], text: str) -> set[str]:
    """The keys whose values hold `text`."""
    prefix = f"{{{settings['redis']['prefix']}}}:"
    found = set()
    async with RedisClient.from_url(settings["redis"]["url"]) as client:
        async for key in client.scan_iter(f"{prefix}*"):
            kind: Any = await client.type(key)
            value = await _READ[kind.decode()](client, key)
            if text in repr(value):
                found.add(str(key.decode()).removeprefix(prefix))
    return found


_READ: dict[str, Any] = {
    "string": lambda client, key: client.get(key),
    "hash": lambda client, key: client.hgetall(key),
    "list": lambda client, key: client.lrange(key, 0, -1),
    "set": lambda client, key: client.smembers(key),
    "zset": lambda client, key: client.zrange(key, 0, -1),
    "stream": lambda client, key: client.xrange(key),
}


@pytest.mark.slow
async def test_a_callback_outlives_failures_and_a_kill(
    settings: dict[str, Any],
    tmp_path: Path,
    session: aiohttp.ClientSession,
    origin: Origin,
    receiver: Receiver,
) -> None:
    """The receiver fails five times; the service is killed within a try. It is delivered, once, and well signed.

    The try that was cut is made again; a redirect is not followed; and the URL's secrets stay in the request alone.
    """
    never = asyncio.Event()
    answers: dict[int, Answer] = {
        1: 500,
        2: web.Response(status=307, headers={"Location": f"{receiver.base}/elsewhere"}),
        3: never,
    }
    receiver.answer = lambda number: answers.get(number, 503 if number <= 6 else 204)
    logged = settings | {"webhook": QUICK, "log": {"level": "debug", "format": "json"}}
    url = receiver.base.replace("//", f"//user:{CANARY}@") + f"/hook?token={CANARY}"
    short = logged | {"webhook": QUICK | {"timeout_s": 1}}  # and so is the lease that it leaves behind
    async with serving(short, tmp_path) as (process, base):
        job_id = await Api(session, base).submit([origin.url(100, "a")], callbackUrl=url)
        await wait_until(lambda: receiver.hanging["now"])
        process.kill()
        logs = [*await process.communicate()]
    async with serving(logged, tmp_path) as (process, base):
        api = Api(session, base)
        callback = await settled(api, job_id)
        assert (callback["state"], callback["attempts"], callback["nextAttemptAt"]) == ("delivered", 6, None)
        tries = [(each["attempt"], each["status"], each["error"]) for each in callback["deliveries"]]
        assert tries == [(1, 500, None), (2, 307, None), (3, 503, None), (4, 503, None), (5, 503, None), (6, 204, None)]
        assert await where_it_stands(settings, CANARY) == {f"req:{job_id}"}
        status = await api.call("GET", f"/v1/download/status/{job_id}")
        assert CANARY not in status.raw.decode()
        assert (await api.call("DELETE", f"/v1/download/{job_id}")).status == 204
        assert not await where_it_stands(settings, CANARY)
        process.terminate()
        logs += await process.communicate()
    assert len(receiver.messages) == 7
    assert {message.path for message in receiver.messages} == {f"/hook?token={CANARY}"}
    assert len({message.body for message in receiver.messages}) == 1
    assert len({message.headers["webhook-id"] for message in receiver.messages}) == 1
    assert all(message.is_signed_with(SECRET) for message in receiver.messages)
    assert not receiver.messages[0].is_signed_with(secret_of("another"))
    assert all(message.headers["Authorization"].startswith("Basic ") for message in receiver.messages)
    said = b"".join(logs).decode()
    assert said.count("webhook.tried") >= 6
    assert CANARY not in said


async def test_every_end_is_told_and_may_be_told_again(start: Start, origin: Origin, receiver: Receiver) -> None:
    """A completed, a failed and a cancelled job each send one thin message; 410 ends that, `redeliver` sends again."""
    new = secret_of("new")
    hook = f"{receiver.base}/hook"
    async with start(
        webhook=QUICK | {"secret": f"{SECRET} {new}"}, server={"public_url": "https://files.example/"}
    ) as api:
        fine = await api.submit([origin.url(100, "a"), origin.status(404)], callbackUrl=hook)
        failed = await api.submit([origin.status(404)], callback_url=hook)
        slow = await api.submit([origin.endless()], callbackUrl=hook)
        before = (await api.status(slow))["callback"]
        assert before == {"state": "pending", "attempts": 0, "nextAttemptAt": None, "deliveries": []}
        active = await api.call("POST", f"/v1/download/{slow}/redeliver")
        assert (active.status, active.body["code"]) == (409, "job_not_finished")
        await api.call("POST", f"/v1/download/{slow}/cancel")
        ends = {fine: "completed", failed: "failed", slow: "cancelled"}
        for job_id, end in ends.items():
            assert (await settled(api, job_id))["state"] == "delivered"
            (message,) = receiver.about(job_id)
            assert len(message.body) < 2000
            assert message.is_signed_with(SECRET)
            assert message.is_signed_with(new)
            status, payload = await api.status(job_id), message.payload
            assert (payload["type"], payload["timestamp"]) == (f"job.{end}", status["completedAt"])
            names = ("jobId", "status", "filesCompleted", "filesFailed", "totalFiles", "error", "errorCode")
            assert payload["data"] == {name: status[name] for name in names} | {
                "statusUrl": f"https://files.example/v1/download/status/{job_id}"
            }
        retried = (await api.call("POST", f"/v1/download/{fine}/retry")).body["jobId"]
        assert (await settled(api, retried))["state"] == "delivered"
        assert receiver.about(retried)[0].headers["webhook-id"] != receiver.about(fine)[0].headers["webhook-id"]
        await _again_and_gone(api, receiver, fine)
        without = await api.submit([origin.url(100, "a")])
        assert (await api.finished(without))["callback"] is None
        refused = await api.call("POST", f"/v1/download/{without}/redeliver")
        assert (refused.status, refused.body["code"]) == (409, "no_callback")


async def _again_and_gone(api: Api, receiver: Receiver, job_id: str) -> None:
    """Delivered once more, the receiver says that it is gone for good: no more tries, unless somebody asks again."""
    receiver.answer = lambda _: 410
    again = await api.call("POST", f"/v1/download/{job_id}/redeliver")
    assert (again.status, again.body["callback"]["state"]) == (202, "pending")
    gone = await settled(api, job_id)
    assert (gone["state"], gone["attempts"], gone["deliveries"][-1]["status"]) == ("disabled", 2, 410)
    known = {"If-None-Match": again.headers["ETag"]}
    assert (await api.call("GET", f"/v1/download/status/{job_id}", headers=known)).status == 200
    receiver.answer = lambda _: 200
    await api.call("POST", f"/v1/download/{job_id}/redeliver")
    assert (await settled(api, job_id))["state"] == "delivered"
    assert len({message.headers["webhook-id"] for message in receiver.about(job_id)}) == 1
    assert len(receiver.about(job_id)) == 3


async def test_a_deleted_job_calls_nobody_and_a_lost_request_cannot(
    start: Start, settings: dict[str, Any], origin: Origin, receiver: Receiver
) -> None:
    """DELETE forgets the delivery; when the request is no longer kept the callback ends as failed and says why."""
    receiver.answer = lambda _: 500
    async with start(webhook=QUICK | {"first_pause_s": 0.1}, jobs={"retry_ttl_s": 1}) as api:
        kept, deleted = [
            await api.submit([origin.url(100, "a")], callbackUrl=f"{receiver.base}/{name}") for name in "kd"
        ]
        await wait_until(lambda: receiver.about(deleted))
        assert (await api.call("DELETE", f"/v1/download/{deleted}")).status == 204
        seen = len(receiver.about(deleted))
        callback = await settled(api, kept)
        assert (callback["state"], callback["deliveries"][-1]["error"]) == ("failed", "request_expired")
        answer = await api.call("POST", f"/v1/download/{kept}/redeliver")
        assert (answer.status, answer.body["code"]) == (410, "request_expired")
        assert len(receiver.about(deleted)) == seen
        assert (await api.call("POST", f"/v1/download/{deleted}/redeliver")).status == 404
        assert not {name for name in await where_it_stands(settings, "") if name.startswith("hooks")}


@pytest.mark.parametrize(
    "sources", [{"allow_networks": []}, {"deny_hosts": ["127.0.0.1", "localhost"]}], ids=["network", "host"]
)
async def test_a_callback_goes_only_where_sources_may_lie(
    start: Start, receiver: Receiver, sources: dict[str, Any]
) -> None:
    """A receiver on the inside is not reached, by its address or by its name, and the job says why."""
    async with start(webhook=QUICK | {"attempts": 2}, sources=sources) as api:
        for base in (receiver.base, receiver.base.replace("127.0.0.1", "localhost")):
            job_id = await api.submit([f"{receiver.base}/file"], callbackUrl=f"{base}/hook")
            callback = await settled(api, job_id)
            assert (callback["state"], callback["attempts"]) == ("failed", 2)
            assert {each["error"] for each in callback["deliveries"]} == {"blocked_address"}
    assert not receiver.messages


async def test_a_slow_receiver_holds_nobody_up(start: Start, receiver: Receiver) -> None:
    """More callbacks than are sent at once wait for a receiver that hangs: another's comes through meanwhile."""
    hanging = asyncio.Event()
    receiver.answer = lambda _: hanging
    async with receiving() as other, start(webhook=QUICK | {"timeout_s": 30}, worker={"concurrency": 0}) as api:
        for number in range(AT_ONCE + 2):
            job_id = await api.submit(["http://source.test/"], callbackUrl=f"{receiver.base}/{number}")
            await api.call("POST", f"/v1/download/{job_id}/cancel")
        await wait_until(lambda: receiver.hanging["now"] == AT_ONCE_PER_RECEIVER)
        job_id = await api.submit(["http://source.test/"], callbackUrl=f"{other.base}/hook")
        await api.call("POST", f"/v1/download/{job_id}/cancel")
        assert (await settled(api, job_id))["state"] == "delivered"
        assert len(receiver.messages) == AT_ONCE_PER_RECEIVER
        hanging.set()
        await wait_until(lambda: len({message.job_id for message in receiver.messages}) == AT_ONCE + 2)


async def test_an_outage_of_redis_loses_no_callback(start: Start, origin: Origin, receiver: Receiver) -> None:
    """Redis dies while a callback is under way: what came of it is written down afterwards, and nothing sent again."""
    taken = asyncio.Event()
    receiver.answer = lambda _: taken
    async with own_redis() as redis, start(redis={"url": redis.url}, webhook=QUICK) as api:
        job_id = await api.submit([origin.url(100, "a")], callbackUrl=f"{receiver.base}/hook")
        await wait_until(lambda: receiver.hanging["now"])
        await redis.kill()
        taken.set()
        await wait_until(lambda: not receiver.hanging["now"])
        await redis.start()

        async def delivered() -> bool:
            answer = await api.call("GET", f"/v1/download/status/{job_id}")
            return answer.status == 200 and answer.body["callback"]["state"] == "delivered"

        await wait_until(delivered)
        assert len(receiver.messages) == 1


async def test_a_callback_that_cannot_be_made_is_refused_at_once(start: Start, api: Api) -> None:
    """No secret to sign with, or a URL that cannot be posted to: 400 that points there, and does not repeat it."""
    unsigned = await api.initiate(["http://source.test/"], callbackUrl=f"https://receiver.test/?{CANARY}")
    assert (unsigned.status, unsigned.body["errors"][0]["pointer"]) == (400, "/callbackUrl")
    assert "webhook.secret" in unsigned.body["errors"][0]["detail"]
    async with start(webhook={"secret": SECRET}) as signing:
        for url in (
            f"s3://bucket/{CANARY}",
            f"ftp://h/{CANARY}",
            f"{CANARY}",
            f"https:///{CANARY}",
            f"http://h/\n{CANARY}",
        ):
            answer = await signing.initiate(["http://source.test/"], callback_url=url)
            assert (answer.status, answer.body["errors"][0]["pointer"]) == (400, "/callback_url")
            assert CANARY not in answer.raw.decode()


@pytest.mark.parametrize("secret", ["canary", "whsec_", "whsec_c2hvcnQtY2FuYXJ5", "whsec_canary!", f"{SECRET} canary"])
def test_a_bad_secret_ends_the_start(secret: str) -> None:
    """What is no secret is refused in one line that says how to make one, and does not show it; in a table too."""
    tables = f'[{{"name": "a", "secret": "{secret}"}}]'
    for flags in ({"webhook.secret": secret}, {"webhook.tenants": tables}):
        with pytest.raises(ConfigError, match="openssl rand -base64 32") as refused:
            load(overrides=flags, environment={}, files=False)
        assert "canary" not in refused.value.message
        assert "c2hvcnQ" not in refused.value.message
        assert "\n" not in refused.value.message


def test_a_tenant_may_have_a_secret_of_its_own() -> None:
    """Its secrets take the place of the common ones; a secret may be on its way out."""
    own = f'[{{"name": "a", "secret": "{secret_of("a")} {secret_of("b")}"}}]'
    webhook = load(overrides={"webhook.secret": SECRET, "webhook.tenants": own}, environment={}, files=False).webhook
    assert webhook.secrets("a") == (secret_of("a"), secret_of("b"))
    assert webhook.secrets("other") == (SECRET,)
    assert WebhookSettings().secrets("a") == ()


def test_the_tries_fit_into_the_life_of_the_request() -> None:
    """Eight tries within a day whatever the jitter; a receiver that asks for patience gets it, to a limit."""
    settings = WebhookSettings()
    refused = Answered(Attempt(500, None, 1))
    longest = [verdict(refused, number, settings, 1.0) for number in range(1, 8)]
    assert [round(one.pause_s / 1.2) for one in longest] == [5, 60, 300, 1800, 7200, 18_000, 36_000]
    assert sum(one.pause_s for one in longest) < 24 * 3600
    assert verdict(refused, 1, settings, 0.0).pause_s == 4
    assert verdict(refused, 8, settings, 0.5).state is CallbackState.FAILED
    assert verdict(Answered(Attempt(429, None, 1), 90), 1, settings, 0.5).pause_s == 90
    assert verdict(Answered(Attempt(503, None, 1), 3), 2, settings, 0.5).pause_s == 60
    assert verdict(Answered(Attempt(503, None, 1), 10**6), 1, settings, 0.5).pause_s == 36_000
    assert verdict(Answered(Attempt(None, "bad_url", 0)), 1, settings, 0.5).state is CallbackState.FAILED
