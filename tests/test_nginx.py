"""Behind nginx, with the settings of docker/nginx.conf and two replicas."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.api import Api
from tests.conftest import Start
from tests.files import Origin
from tests.servers import free_ports, missing
from tests.tenants import tenant
from tests.waiting import wait_until

CONF = Path(__file__).parent.parent / "docker" / "nginx.conf"
OPEN = {"access": {"open": True}}


def conf(folder: Path, port: int, replicas: list[Api]) -> str:
    """The committed settings, with our addresses and nothing written outside of `folder`."""
    servers = "\n".join(f"server {replica.base.removeprefix('http://')};" for replica in replicas)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = "\n".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    text = CONF.read_text(encoding="utf-8")
    for committed, ours in (
        ("server downloader:8080;", servers),
        ("listen 80;", f"listen 127.0.0.1:{port};"),
        ("http {", f"http {{ {folders}"),
        ("access_log /dev/stdout", f"access_log {folder}/access.log"),
    ):
        assert text.count(committed) == 1
        text = text.replace(committed, ours)
    # Started by root, nginx would work as another user, who may not enter the folder of a test.
    user = "user root;" if os.geteuid() == 0 else ""
    return f"{user}\ndaemon off;\npid {folder}/pid;\nerror_log stderr;\n{text}"


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@asynccontextmanager
async def nginx(folder: Path, session: aiohttp.ClientSession, replicas: list[Api]) -> AsyncIterator[Api]:
    """A client that calls through nginx."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        missing("nginx")
    (port,) = free_ports(1)
    path = folder / "nginx.conf"
    path.write_text(conf(folder, port, replicas), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(program, "-c", str(path), "-p", str(folder), "-e", "stderr")
    try:
        await wait_until(lambda: _listens(port))
        yield Api(session, f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        await process.wait()


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
    """A page follows the links of a server with a key; strangers behind the proxy get nothing; its log has no token."""
    closed = {"access": {"open": False}, "server": {"port": 0, "drain_s": 0, "trusted_proxies": ["127.0.0.1/32"]}}
    async with (
        start(**closed) as replica,
        nginx(tmp_path, session, [replica]) as page,
        tenant(settings, page.base, "acme") as server,
    ):
        assert (await page.initiate([origin.url(10, "a")])).status == 401
        started = await server.initiate([origin.url(1000, "a")])
        stream = await page.call("GET", started.body["subscribeUrl"], headers={"Accept": "text/event-stream"})
        assert b"event: complete" in stream.raw
        held = await page.call("GET", started.body["statusUrl"], headers={"Prefer": "wait=5"})
        assert (held.status, held.body["status"]) == (200, "completed")
        token = started.body["statusUrl"].partition("token=")[2]
        written = (tmp_path / "access.log").read_text(encoding="utf-8")
        assert "/v1/download/subscribe/" in written
        assert token not in written
