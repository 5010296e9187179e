"""Canaries: unique secrets in every place where a caller or an operator may put one, and where they turn up."""

from __future__ import annotations

import asyncio
import io
import json
import secrets
import zipfile
from asyncio.subprocess import Process
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from redis.asyncio import Redis as RedisClient

from tests.api import Answer, Api
from tests.collector import collecting
from tests.conftest import no_leaks
from tests.files import Origin
from tests.receivers import receiving, secret_of
from tests.sources import answering
from tests.tenants import caller, make_key
from tests.test_cli import serving
from tests.waiting import wait_until


class Canaries:
    """Makes secrets by the place they are put into, and tells which of them a text betrays."""

    def __init__(self) -> None:
        self._made: dict[str, str] = {}

    def new(self, place: str) -> str:
        """A fresh one, plain enough to pass through any encoding as it is."""
        return self._made.setdefault(place, f"cnry{secrets.token_hex(12)}")

    def add(self, place: str, secret: str) -> str:
        """Watch a secret that was made elsewhere."""
        return self._made.setdefault(place, secret)

    def seen_in(self, text: bytes) -> set[str]:
        """The places of those that stand in it, in whichever case."""
        lower = text.lower()
        return {place for place, secret in self._made.items() if secret.lower().encode() in lower}


async def _remembered(settings: dict[str, Any]) -> dict[str, bytes]:
    """Everything that Redis holds of the service: by each key's name, its name and all that is in it."""
    client = RedisClient.from_url(settings["redis"]["url"])
    prefix = f"{{{settings['redis']['prefix']}}}:"
    found: dict[str, bytes] = defaultdict(bytes)
    try:
        async for key in client.scan_iter(f"{prefix}*"):
            name = key.decode().removeprefix(prefix)
            found[name] = key + b"\n" + repr(await _value(client, key)).encode()
    finally:
        await client.aclose()
    return found


async def _value(client: Any, key: bytes) -> Any:
    match await client.type(key):
        case b"string":
            return await client.get(key)
        case b"hash":
            return await client.hgetall(key)
        case b"list":
            return await client.lrange(key, 0, -1)
        case b"set":
            return await client.smembers(key)
        case b"zset":
            return await client.zrange(key, 0, -1, withscores=True)
        case _:
            return await client.xrange(key)


@asynccontextmanager
async def _steering(canaries: Canaries, origin: Origin) -> AsyncIterator[str]:
    """A source that sends callers on to an address with a secret in it, and sets one as a cookie."""

    async def onward(request: web.Request) -> web.Response:
        where = {
            "good": origin.url(700, "steered"),
            "missing": origin.status(404),
            "inside": "http://10.255.255.1/x",
        }[request.match_info["where"]]
        answer = web.Response(status=302, headers={"Location": f"{where}?t={canaries.new('redirect')}"})
        answer.set_cookie("session", canaries.new("cookie"))
        return answer

    app = web.Application()
    app.router.add_get("/{where}", onward)
    async with answering(app) as base:
        yield base


def _files(canaries: Canaries, origin: Origin, steer: str) -> list[dict[str, Any]]:
    """Files that come and files that fail in many ways, each with secrets wherever one fits."""
    host = origin.base.removeprefix("http://")

    def secret(url: str, place: str) -> dict[str, Any]:
        with_user = url.replace("http://", f"http://user:{canaries.new(f'userinfo {place}')}@")
        query = f"?X-Amz-Signature={canaries.new(f'query {place}')}#{canaries.new(f'fragment {place}')}"
        headers = {
            "Authorization": f"Bearer {canaries.new(f'header {place}')}",
            "Cookie": f"a={canaries.new(f'cookie {place}')}",
            "X-Custom": canaries.new(f"custom {place}"),
        }
        return {"url": with_user + query, "headers": headers}

    urls = {
        "good": origin.url(900, "good"),
        "missing": origin.status(404),
        "broken": origin.cut(5000, 100),
        "unreachable": "http://127.0.0.1:1/x",
        "no host": f"http://{host.partition(':')[0]}.invalid/x",
        "blocked": "http://169.254.169.254/latest",
        "steered": f"{steer}/good",
        "steered to nothing": f"{steer}/missing",
        "steered inside": f"{steer}/inside",
    }
    return [secret(url, place) for place, url in urls.items()]


async def _refusals(api: Api, canaries: Canaries) -> list[Answer]:
    """Calls that are refused, with a secret in what is wrong about them."""
    wrong = {
        "scheme": {"files": [{"url": f"ftp://u:{canaries.new('bad scheme')}@host/x?{canaries.new('bad query')}"}]},
        "port": {"files": [{"url": f"http://u:{canaries.new('bad port')}@host:99999/x"}]},
        "header": {"files": [{"url": "http://host/", "headers": {"Host": canaries.new("bad header")}}]},
        "checksum": {"files": [{"url": "http://host/", "checksum": canaries.new("bad checksum")}]},
        "callback": {"files": [{"url": "http://host/"}], "callbackUrl": f"ftp://h/?{canaries.new('bad callback')}"},
        "bucket": {"files": [{"url": f"s3://nobodys/key?{canaries.new('bad key')}"}]},
    }
    answers = [await api.call("POST", "/v1/download/initiate", json=body) for body in wrong.values()]
    assert {answer.status for answer in answers} == {400}
    strange = (
        {"Authorization": f"Bearer dl_{'a' * 12}_{canaries.new('wrong key')}"},
        {"Authorization": f"Basic {canaries.new('basic')}", "Cookie": canaries.new("own cookie")},
        {"Idempotency-Key": f"{canaries.new('bad idempotency')} with blanks"},
    )
    answers += [
        await api.call("POST", "/v1/download/initiate", json=wrong["scheme"], headers=headers) for headers in strange
    ]
    path = f"/v1/download/status/{canaries.new('token path')[:8]}?token={canaries.new('wrong token')}"
    answers.append(await api.call("GET", path, headers={"Authorization": ""}))
    return answers


async def _shown(api: Api, job_id: str) -> list[bytes]:
    """All that callers may see of a job."""
    resumed = f"/v1/download/subscribe/{job_id}?lastEventId=1-1"
    calls = [
        await api.call("GET", f"/v1/download/status/{job_id}"),
        await api.call("GET", f"/v1/download/{job_id}/files"),
        await api.call("GET", "/v1/download/jobs"),
        await api.call("GET", resumed, headers={"Accept": "text/event-stream"}),
        await api.call("GET", "/health"),
        await api.call("GET", "/metrics"),
    ]
    return [answer.raw + repr(dict(answer.headers)).encode() for answer in calls]


async def test_no_secret_turns_up_anywhere(settings: dict[str, Any], origin: Origin, tmp_path: Path) -> None:
    """Secrets in URLs, userinfo, headers, cookies, redirects, keys, callbacks and wrong calls.

    After a run with every kind of failure they stand in no log line at debug level, no answer, event, figure, trace,
    problem, archive, and in Redis only in the request, which goes with its time or with the job.
    """
    canaries = Canaries()
    _, key = await make_key(settings, "acme")
    canaries.add("api key", key.split("_", 2)[2])
    webhook = canaries.add("webhook secret", secret_of("canary"))
    callback = f"?k={canaries.new('callback')}"
    seen: dict[str, bytes] = {}
    async with (
        collecting() as collector,
        receiving() as receiver,
        _steering(canaries, origin) as steer,
        caller("", Authorization=f"Bearer {key}") as api,
    ):
        more = {
            "access": {"open": "false"},
            "jobs": {"retry_ttl_s": 600},
            "webhook": {"secret": webhook},
            "telemetry": {"otlp_endpoint": collector.url},
            "log": {"level": "debug", "format": "json", "audit_file": str(tmp_path / "audit.log")},
        }
        async with serving(settings | more, tmp_path) as (process, api.base):
            logged = asyncio.create_task(cast("asyncio.StreamReader", process.stderr).read())
            wish: dict[str, Any] = {
                "callbackUrl": f"{receiver.base}/hook{callback}",
                "options": {"manifest": True, "keepFiles": True},
            }
            headers = {"Idempotency-Key": canaries.new("idempotency")}
            files = _files(canaries, origin, steer)
            done = (await api.initiate(files, headers=headers, **wish)).body["jobId"]
            seen["events"] = b"".join([raw async for raw in _raw_events(api, done)])
            assert (await api.status(done))["filesFailed"] == 7
            failed = await api.submit(files[1:3], **wish)
            await api.finished(failed)
            again = (await api.call("POST", f"/v1/download/{done}/retry")).body["jobId"]
            await api.finished(again)
            for job_id in (done, failed, again):
                for number, shown in enumerate(await _shown(api, job_id)):
                    seen[f"answer {number} of {job_id}"] = shown
            seen["problems"] = b"".join(answer.raw for answer in await _refusals(api, canaries))
            seen["archive"] = _texts_of(await api.archive_bytes(done))
            await wait_until(lambda: len(receiver.messages) == 3)
            seen["callbacks"] = b"".join(message.body for message in receiver.messages)
            for name, value in (await _remembered(settings)).items():
                if not name.startswith("req:"):
                    seen[f"redis {name}"] = value
            await _forgotten(api, settings, canaries, [done, failed, again])
            process.terminate()
            await process.wait()
            seen["log"] = await logged
        seen["traces"] = b"".join(collector.bodies)
        seen["audit"] = (tmp_path / "audit.log").read_bytes()
    assert {place: found for place, text in seen.items() if (found := canaries.seen_in(text))} == {}
    assert len(seen["log"].splitlines()) > 20  # what is empty betrays nothing
    assert min(len(text) for text in seen.values()) > 10
    assert collector.named("fetch")
    await no_leaks(settings)


async def _raw_events(api: Api, job_id: str) -> AsyncIterator[bytes]:
    """The raw lines of a job's stream until its end."""
    lines: list[bytes] = []
    assert (await api.events(job_id)) or lines
    async for _ in api.stream(job_id, last_event_id="1-1", seen=lines):
        pass
    for line in lines:
        yield line


async def _forgotten(api: Api, settings: dict[str, Any], canaries: Canaries, job_ids: list[str]) -> None:
    """The requests hold the secrets until they are deleted, and nobody does afterwards."""
    before = await _remembered(settings)
    held = set[str]().union(*(canaries.seen_in(value) for name, value in before.items() if name.startswith("req:")))
    assert {"query good", "userinfo missing", "header broken", "callback"} <= held
    for job_id in job_ids:
        assert (await api.call("DELETE", f"/v1/download/{job_id}")).status == 204
    after = await _remembered(settings)
    assert {name: found for name, value in after.items() if (found := canaries.seen_in(value))} == {}


def _texts_of(archive: bytes) -> bytes:
    """The names and the texts of our own in an archive."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        names = opened.namelist()
        ours = [name for name in ("manifest.json", "SHA256SUMS", "MISSING-FILES.txt") if name in names]
        assert len(ours) == 3
        return json.dumps(names).encode() + b"".join(opened.read(name) for name in ours)


@pytest.mark.slow
async def test_requests_go_when_their_time_is_over(settings: dict[str, Any], origin: Origin, tmp_path: Path) -> None:
    """What a job was asked for, with its secrets, leaves Redis `jobs.retry_ttl_s` after the job's end."""
    canaries = Canaries()
    async with serving(settings | {"jobs": {"retry_ttl_s": 1}}, tmp_path) as (process, base), caller(base) as api:
        job_id = await api.submit([f"{origin.url(100, 'a')}?sig={canaries.new('query')}"])
        await api.finished(job_id)

        async def is_gone() -> bool:
            return not any(canaries.seen_in(value) for value in (await _remembered(settings)).values())

        await wait_until(is_gone)
        assert (await api.call("POST", f"/v1/download/{job_id}/retry")).status in {409, 410}
        await _ended(process)


async def _ended(process: Process) -> None:
    process.terminate()
    await process.communicate()
