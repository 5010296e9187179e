"""Behind nginx, with the settings of docker/nginx.conf and real replicas."""

from __future__ import annotations

import asyncio
import io
import shlex
import shutil
import signal
import ssl
import subprocess
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.api import Api, Frame
from tests.conftest import Start
from tests.files import Origin
from tests.fleet import Steady, fleet
from tests.nginx import CONF, Ports, nginx, replaced
from tests.servers import S3, missing
from tests.tenants import tenant
from tests.waiting import wait_until

OPEN = {"access": {"open": True}}
CLOSED: dict[str, Any] = {
    "access": {"open": False},
    "server": {"port": 0, "drain_s": 0, "trusted_proxies": ["127.0.0.1/32"]},
}
# Dead workers are found soon, and nobody is refused for calling often.
HASTY: dict[str, Any] = {
    "access": {"open": True},
    "server": {"drain_s": 1},
    "worker": {"lease_s": 3, "renew_s": 1, "reap_s": 0.5, "concurrency": 2},
    "limits": {"address_calls_per_minute": 0, "address_initiate_per_minute": 0},
}


async def test_events_pass_at_once(
    start: Start, session: aiohttp.ClientSession, origin: Origin, tmp_path: Path
) -> None:
    """Events come through one by one while the job runs: neither nginx nor two replicas hold any of them back."""
    async with AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(start(**OPEN)) for _ in range(2)]
        api = await stack.enter_async_context(nginx(tmp_path, session, replicas))
        job_id = await api.submit([origin.url(1000, "a"), origin.endless()])
        heard: list[str] = []
        async with asyncio.timeout(20):
            async for frame in api.stream(job_id):
                assert isinstance(frame.data, dict | list)
                if isinstance(frame.data, dict) and frame.data.get("filesCompleted") == 1 and not heard:
                    heard.append("half")
                    assert (await api.call("POST", f"/v1/download/{job_id}/cancel")).status == 200
        assert heard == ["half"]
        assert (await api.status(job_id))["status"] == "cancelled"


@pytest.mark.slow
async def test_a_replica_may_go(start: Start, session: aiohttp.ClientSession, origin: Origin, tmp_path: Path) -> None:
    """When one of two replicas stops, every call is still answered and the archive arrives."""
    async with AsyncExitStack() as stack, start(**OPEN) as stays:
        goes = await stack.enter_async_context(start(**OPEN))
        async with nginx(tmp_path, session, [goes, stays]) as api:
            await stack.aclose()
            for _ in range(6):
                assert (await api.call("GET", "/readyz")).status == 200
            job_id = await api.submit([origin.url(1000, "a", name="a.bin")])
            assert (await api.finished(job_id))["status"] == "completed"
            assert (await api.archive(job_id)).namelist() == ["a.bin"]


async def test_a_body_that_is_too_large_is_refused_by_the_service(
    start: Start, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """The service's own limit is the first that is reached, so the refusal is a problem that says what to do."""
    async with start(**OPEN) as replica, nginx(tmp_path, session, [replica]) as api:
        body = io.BytesIO(b" " * 17_000_000)
        answer = await api.call(
            "POST", "/v1/download/initiate", data=body, headers={"Content-Type": "application/json"}
        )
        assert (answer.status, answer.headers["Content-Type"]) == (413, "application/problem+json")


async def test_tokens_pass_and_are_not_written_down(
    start: Start, settings: dict[str, Any], session: aiohttp.ClientSession, origin: Origin, tmp_path: Path
) -> None:
    """A page follows the links of a server with a key, and strangers behind the proxy get nothing.

    No token is in its logs, not even when calls fail because no replica is there.
    """
    async with (
        AsyncExitStack() as replica,
        nginx(tmp_path, session, [await replica.enter_async_context(start(**CLOSED))]) as page,
        tenant(settings, page.base, "acme") as server,
    ):
        assert (await page.initiate([origin.url(10, "a")])).status == 401
        started = await server.initiate([origin.url(1000, "a")])
        stream = await page.call("GET", started.body["subscribeUrl"], headers={"Accept": "text/event-stream"})
        assert b"event: complete" in stream.raw
        held = await page.call("GET", started.body["statusUrl"], headers={"Prefer": "wait=5"})
        assert (held.status, held.body["status"]) == (200, "completed")
        await replica.aclose()
        assert (await page.call("GET", started.body["statusUrl"])).status == 502
        token = started.body["statusUrl"].partition("token=")[2]
        written = (tmp_path / "access.log").read_text(encoding="utf-8")
        assert "/v1/download/subscribe/" in written
        assert token not in written + (tmp_path / "error.log").read_text(encoding="utf-8")


async def test_nobody_names_his_own_address(start: Start, session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """What a caller writes into X-Forwarded-For does not pass, though he comes from a network that is trusted."""
    async with (
        start(**CLOSED, limits={"address_calls_per_minute": 4}) as replica,
        nginx(tmp_path, session, [replica]) as api,
    ):
        calls = [
            await api.call("GET", "/v1/download/jobs", headers={"X-Forwarded-For": f"198.51.100.{number}"})
            for number in range(6)
        ]
        assert [answer.status for answer in calls] == [401] * 4 + [429] * 2


async def test_a_stranger_is_refused_before_his_body(
    start: Start, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Who has no key is told so at once and leaves nothing on the proxy's disk, however much he says he will send."""
    async with start(**CLOSED) as replica, nginx(tmp_path, session, [replica]) as api:
        where = urlsplit(api.base)
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        head = "POST /v1/download/initiate HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: 30000000\r\n\r\n".encode() + b" " * 1_000_000)
        async with asyncio.timeout(10):
            assert (await reader.readline()).split()[1] == b"401"
        writer.close()
        assert not [path for path in (tmp_path / "client_body").rglob("*") if path.is_file()]


async def test_links_lead_through_nginx_and_nothing_else_does(
    start: Start, session: aiohttp.ClientSession, origin: Origin, s3: S3, tmp_path: Path
) -> None:
    """Browsers get archives from the store by signed links, whole or in part; whatever else they try is refused."""
    ports = Ports()
    public = f"http://127.0.0.1:{ports.store}"
    async with (
        start(**OPEN, storage={"public_endpoint_url": public}) as replica,
        nginx(tmp_path, session, [replica], store=s3.endpoint_url, ports=ports) as api,
    ):
        job_id = await api.submit([origin.url(3_000_000, "a", name="a.bin")])
        link = (await api.finished(job_id))["downloadUrl"]
        assert link.startswith(f"{public}/")
        whole = await api.archive_bytes(job_id)
        assert len(whole) > 3_000_000
        async with session.get(link, headers={"Range": "bytes=1000-1999"}) as part:
            assert (part.status, await part.read()) == (206, whole[1000:2000])
            assert part.headers["Content-Disposition"].startswith("attachment")
        bare, signature = link.partition("?")[0], "X-Amz-Signature=" + "0" * 64
        here: dict[str, str] = {}
        for asked, method, url, headers in (
            ("nginx", "GET", bare, here),
            ("nginx", "GET", f"{public}/", here),
            ("nginx", "PUT", link, here),
            ("nginx", "DELETE", link, here),
            ("nginx", "POST", f"{public}/?delete&{signature}", here),
            ("store", "GET", f"{bare}?{signature}", here),
            ("store", "GET", link.replace("X-Amz-Expires=", "X-Amz-Expires=1"), here),
            ("store", "GET", link, {"Host": "elsewhere.example.com"}),
        ):
            async with session.request(method, url, headers=headers) as refused:
                assert refused.status == 403, (method, url)
                assert ("<Error>" in await refused.text()) == (asked == "store"), (method, url)
        written = (tmp_path / "access.log").read_text(encoding="utf-8")
        assert urlsplit(link).path in written
        assert "X-Amz" not in written


async def test_tls_is_a_folder_with_four_files(
    start: Start, session: aiohttp.ClientSession, s3: S3, tmp_path: Path
) -> None:
    """With the files of docker/tls, names and a certificate the same settings serve TLS, and plain calls are led there.

    Links to archives have a name of their own on the same port.
    """
    ports = Ports()
    trusted = _tls(tmp_path / "tls", ports)
    async with (
        start(**OPEN) as replica,
        nginx(tmp_path, session, [replica], store=s3.endpoint_url, ports=ports) as api,
    ):
        plain = await api.call("GET", "/livez", headers={"Host": "downloads.example.com"})
        assert (plain.status, plain.headers["Location"]) == (308, "https://downloads.example.com/livez")
        for name, path, status in (("downloads", "/livez", 200), ("files", "/livez", 403)):
            host = f"{name}.example.com"
            call = session.get(
                f"https://127.0.0.1:{ports.tls}{path}", ssl=trusted, server_hostname=host, headers={"Host": host}
            )
            async with call as answer:
                assert answer.status == status


def _tls(folder: Path, ports: Ports) -> ssl.SSLContext:
    """Lay the folder out as docker/compose.tls.yaml wants it; gives what trusts its certificate."""
    if shutil.which("openssl") is None:
        missing("openssl")
    folder.mkdir()
    for name in ("api.conf", "store.conf"):
        # `http2 on` came with nginx 1.25.
        changes = {"listen 443 ssl;": f"listen 127.0.0.1:{ports.tls} ssl;", "http2 on;": ""}
        text = replaced((CONF.parent / "tls" / name).read_text(encoding="utf-8"), changes)
        (folder / name).write_text(text, encoding="utf-8")
    names = "subjectAltName=DNS:downloads.example.com,DNS:files.example.com"
    subprocess.run(
        shlex.split("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test")
        + shlex.split(f"-addext {names} -keyout privkey.pem -out fullchain.pem"),
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return ssl.create_default_context(cafile=folder / "fullchain.pem")


def _orderly(heard: Iterable[Frame]) -> None:
    """A job's events over all its streams: none twice, the files never fewer within an attempt, and it ends well."""
    frames = list(heard)
    ids = [frame.id for frame in frames if frame.id]
    assert len(set(ids)) == len(ids)
    seen: dict[int, int] = {}
    for frame in frames:
        if isinstance(frame.data, dict) and "filesCompleted" in frame.data:
            attempt, done = int(frame.data.get("attempt", 0)), int(frame.data["filesCompleted"])
            assert done >= seen.get(attempt, 0)
            seen[attempt] = done
    assert frames[-1].event == "complete"


@pytest.mark.slow
async def test_a_replica_is_killed_under_load(
    settings: dict[str, Any], session: aiohttp.ClientSession, origin: Origin, tmp_path: Path
) -> None:
    """One of three replicas is killed: no call fails that may be repeated, no job is lost, streams go on elsewhere."""
    async with (
        fleet(settings | HASTY, tmp_path) as replicas,
        nginx(tmp_path, session, [replica.address for replica in replicas]) as api,
    ):
        client, over = Steady(api), asyncio.Event()
        jobs = [await client.submit(_slow(origin, job, 20)) for job in range(6)]
        async with asyncio.TaskGroup() as group:
            streams = [group.create_task(client.follow(job)) for job in jobs]
            watches = [group.create_task(client.watch(job, over)) for job in jobs[:3]]
            await _all_hear(client, jobs)
            assert await replicas[0].end(signal.SIGKILL) == -signal.SIGKILL
            late = [await client.submit(_slow(origin, job, 2)) for job in range(6, 12)]
            await asyncio.wait(streams)
            over.set()
        await _all_well(api, client, streams, watches, jobs + late, 20, 2)


@pytest.mark.slow
async def test_all_replicas_are_restarted_one_after_another(
    settings: dict[str, Any], session: aiohttp.ClientSession, origin: Origin, tmp_path: Path
) -> None:
    """A rolling restart while jobs and streams run: all end well, nobody has to start anew, and no call is lost."""
    async with (
        fleet(settings | HASTY, tmp_path) as replicas,
        nginx(tmp_path, session, [replica.address for replica in replicas]) as api,
    ):
        client, over = Steady(api), asyncio.Event()
        jobs = [await client.submit(_slow(origin, job, 40)) for job in range(6)]
        late: list[str] = []
        async with asyncio.TaskGroup() as group:
            streams = [group.create_task(client.follow(job)) for job in jobs]
            watches = [group.create_task(client.watch(job, over)) for job in jobs[:3]]
            await _all_hear(client, jobs)
            for replica in replicas:
                assert await replica.end() == 0
                late.append(await client.submit(_slow(origin, 6 + len(late), 2)))
                await replica.start()
                late.append(await client.submit(_slow(origin, 6 + len(late), 2)))
            await asyncio.wait(streams)
            over.set()
        await _all_well(api, client, streams, watches, jobs + late, 40, 2)
        assert {(await api.status(job))["attempt"] for job in jobs} == {1}


async def _all_hear(client: Steady, jobs: list[str]) -> None:
    await wait_until(lambda: all(client.heard.get(job) for job in jobs))


def _slow(origin: Origin, job: int, files: int) -> list[str]:
    return [origin.slow(1000 * (job + 1) + n, delay_s=0.5) for n in range(files)]


async def _all_well(
    api: Api,
    client: Steady,
    streams: list[asyncio.Task[list[Frame]]],
    watches: list[asyncio.Task[int]],
    jobs: list[str],
    *sizes: int,
) -> None:
    """Every job is whole, was made once and told in order; calls went on all the time."""
    for stream in streams:
        _orderly(stream.result())
    assert client.resumed, "no stream was cut: nothing was shown"
    assert min(watch.result() for watch in watches) > 20
    statuses = [await api.finished(job) for job in jobs]
    assert {(status["status"], status["filesFailed"]) for status in statuses} == {("completed", 0)}
    assert {status["filesCompleted"] for status in statuses} == set(sizes)
    listed = (await api.call("GET", "/v1/download/jobs?limit=100")).body["jobs"]
    assert sorted(one["jobId"] for one in listed) == sorted(jobs)
