"""An existing browser client goes on working.

Its habits, each of which is played here:

 1. it submits `file_keys` (or `file_ids`) beside `source_urls`, numbers and strings mixed
 2. its `Content-Type` is `application/json; charset=utf-8`
 3. it sends `X-Idempotency-Key`, and its users click twice
 4. it puts `subscribeUrl` and `statusUrl` behind a base URL, which may end with a slash
 5. it reads `jobId, status, progress, filesCompleted, totalFiles, downloadUrl` without asking whether they are there
 6. it takes `progress` for an integer from 0 to 100 that never falls
 7. it polls with a cache buster (`?_=...`) and with other parameters of its own
 8. it goes on polling after the end, and the answer stays the same
 9. it shows `error` as it is: null or a string, in a job and in every refusal, with `message` beside it
10. it listens to `progress`, `complete` and `error` and to nothing else, and finds the same fields there
11. `complete` brings `downloadUrl`
12. a failed job comes as an `error` event that says why
13. it asks for the stream of a job that is gone, and wants 200 and an `error` event, not an error of HTTP
14. its EventSource reconnects by `Last-Event-ID`, or a new one by `?lastEventId=`, and misses and repeats nothing
15. it opens `downloadUrl` several times and in ranges, and asks by HEAD whether the download is there
16. it runs on another origin, without credentials, with preflights
17. several tabs watch the same job by polls and streams
18. it sends an empty `Accept`, `Connection: close`, or speaks HTTP/1.0 through an old proxy
19. it deletes what it no longer wants, twice if need be, and polls a job that is gone
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from downloader.events import event_order
from tests.api import TERMINAL, Answer, Api, Frame, frames
from tests.conftest import Start
from tests.files import Origin
from tests.waiting import wait_until

HEARD = {"progress", "complete", "error"}
READ = ("jobId", "status", "progress", "filesCompleted", "totalFiles")
ORIGIN = {"Origin": "https://app.example"}


class Browser:
    """The client: it reads what it always read, and falls over where something is not as it was."""

    def __init__(self, api: Api, *, slash: str = "") -> None:
        self.api = Api(api.session, api.base + slash)
        self.progress = 0

    async def submit(self, urls: list[str], key: str) -> dict[str, Any]:
        """The old form of a job."""
        body = {"file_keys": [70_000 + n if n % 2 else f"k{n}" for n in range(len(urls))], "source_urls": urls}
        headers = {"Content-Type": "application/json; charset=utf-8", "X-Idempotency-Key": key, **ORIGIN}
        data = json.dumps(body)
        async with self.api.session.post(f"{self.api.base}/v1/download/initiate", data=data, headers=headers) as answer:
            assert answer.status == 202, await answer.text()
            return dict(await answer.json())

    async def poll(self, status_url: str, mark: int = 0) -> dict[str, Any]:
        """One poll, as it is read: a field that is not there is an error."""
        url = f"{self.api.base}{status_url}?_={mark}&tab=main"
        async with self.api.session.get(url, headers=ORIGIN) as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"].partition(";")[0] == "application/json"
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            status = dict(await answer.json())
        self.check(status)
        assert "downloadUrl" in status
        return status

    def check(self, status: dict[str, Any]) -> None:
        """What every snapshot has, polled or pushed."""
        assert [type(status[name]) for name in READ] == [str, str, int, int, int]
        assert self.progress <= status["progress"] <= 100
        assert (status["progress"] == 100) == (status["status"] == "completed")
        assert 0 <= status["filesCompleted"] <= status["totalFiles"]
        assert isinstance(status.get("error"), str | None)
        self.progress = status["progress"]

    async def poll_to_the_end(self, status_url: str) -> dict[str, Any]:
        """Poll as it does every 2 s, only faster."""
        async with asyncio.timeout(30):
            for mark in range(10_000):
                status = await self.poll(status_url, mark)
                if status["status"] in TERMINAL:
                    return status
                await asyncio.sleep(0.02)  # its rhythm is the story
        raise AssertionError

    async def listen(self, subscribe_url: str, **parameters: str) -> list[Frame]:
        """What its EventSource tells it."""
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-cache", **ORIGIN}
        url = self.api.base + subscribe_url
        async with self.api.session.get(url, headers=headers, params=parameters) as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"].startswith("text/event-stream")
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            heard = [frame async for frame in frames(answer.content) if frame.event in HEARD]
        for frame in heard:
            assert isinstance(frame.data, dict)
            self.check(frame.data)
        return heard


def refusal(answer: Answer, status: int) -> None:
    """What the client makes of a refusal: it shows `error`, and `message` below it."""
    assert answer.status == status, answer
    assert isinstance(answer.body["error"], str)
    assert isinstance(answer.body["message"], str)


async def test_a_download_as_it_always_was(start: Start, origin: Origin) -> None:
    """Habits 1 to 11, 14, 15 and 17: click twice, watch in three tabs, download, look again."""
    async with start(server={"cors_origins": ["*"]}) as api:
        urls = [origin.url(50_000, f"f{n}") for n in range(5)] + [origin.slow(1000, 0.4)]
        browser, key = Browser(api), str(uuid4())
        first, second = await asyncio.gather(browser.submit(urls, key), browser.submit(urls, key))
        assert first == second
        assert (first["status"], first["totalFiles"]) == ("queued", 6)
        for url in (first["subscribeUrl"], first["statusUrl"]):
            assert url.startswith("/v1/download/")

        tabs = [Browser(api), Browser(api, slash="/"), Browser(api)]
        polled, polled_too, heard = await asyncio.gather(
            tabs[0].poll_to_the_end(first["statusUrl"]),
            tabs[1].poll_to_the_end(first["statusUrl"]),
            tabs[2].listen(first["subscribeUrl"]),
        )
        assert polled["status"] == "completed"
        assert polled == polled_too == await browser.poll(first["statusUrl"])
        assert [file["fileId"] for file in polled["files"]] == ["k0", 70_001, "k2", 70_003, "k4", 70_005]
        last = heard[-1]
        assert isinstance(last.data, dict)
        assert (last.event, last.data["filesCompleted"]) == ("complete", 6)
        assert {frame.event for frame in heard[:-1]} <= {"progress"}
        await _downloads(api, last.data["downloadUrl"], first["jobId"])
        await _reconnects(api, first["subscribeUrl"], heard)


async def _downloads(api: Api, link: str, job_id: str) -> None:
    """The link again and again; by ranges; and whether it is there."""
    bodies = []
    for headers in ({}, {}, {"Range": "bytes=0-3"}):
        async with api.session.get(link, headers=headers) as answer:
            assert answer.status == (206 if headers else 200)
            assert "attachment" in answer.headers["Content-Disposition"]
            bodies.append(await answer.read())
    assert bodies[0] == bodies[1]
    assert bodies[2] == b"PK\x03\x04" == bodies[0][:4]
    asked = await api.call("HEAD", f"/v1/download/{job_id}")
    assert (asked.status, asked.raw) == (302, b"")
    assert await api.archive_bytes(job_id) == bodies[0]


async def _reconnects(api: Api, subscribe_url: str, heard: list[Frame]) -> None:
    """From an id on comes what is missing; after the last there is nothing to say."""
    if len(heard) > 1:
        again = await Browser(api).listen(subscribe_url, lastEventId=heard[-2].id)
        ids = [event_order(frame.id) or () for frame in (heard[-2], *again)]
        assert ids == sorted(set(ids))
        assert again[-1] == heard[-1]
    for options in ({"params": {"lastEventId": heard[-1].id}}, {"headers": {"Last-Event-ID": heard[-1].id}}):
        answer = await api.call("GET", subscribe_url, **options)
        assert (answer.status, answer.raw) == (204, b"")


async def test_a_download_that_fails_as_it_always_did(start: Start, origin: Origin) -> None:
    """Habits 5, 6, 9, 10, 12 and 19: every state has all fields, the failure has its words, what is gone is gone."""
    async with start(server={"cors_origins": ["*"]}, worker={"concurrency": 1}) as api:
        endless = await Browser(api).submit([origin.endless()], "endless")
        await origin.wait_for_connection()
        failing = await Browser(api).submit([origin.status(404)], "failing")
        watched = asyncio.create_task(Browser(api).listen(failing["subscribeUrl"]))
        seen = {status["status"]: set(status) for status in [await Browser(api).poll(failing["statusUrl"])]}
        processing = await wait_until(lambda: _processing(api, endless["statusUrl"]))
        assert processing["downloadUrl"] is processing["error"] is None
        cancelled = await api.call("POST", f"/v1/download/{endless['jobId']}/cancel")
        failed = await Browser(api).poll_to_the_end(failing["statusUrl"])
        seen |= {status["status"]: set(status) for status in (processing, cancelled.body, failed)}
        assert set(seen) == {"queued", "processing", "cancelled", "failed"}
        assert len(set(map(frozenset, seen.values()))) == 1  # the same fields in all states
        assert (failed["downloadUrl"], type(failed["error"])) == (None, str)
        *_, last = await watched
        assert isinstance(last.data, dict)
        assert (last.event, last.data["status"], last.data["error"]) == ("error", "failed", failed["error"])
        refusal(await api.call("GET", f"/v1/download/{failing['jobId']}"), 409)
        for _ in range(2):
            assert (await api.call("DELETE", f"/v1/download/{failing['jobId']}")).status == 204
        refusal(await api.call("GET", failing["statusUrl"]), 404)


async def _processing(api: Api, status_url: str) -> dict[str, Any] | None:
    status = await Browser(api).poll(status_url)
    return status if status["status"] == "processing" else None


async def test_questions_in_an_old_manner(start: Start, origin: Origin) -> None:
    """Habits 9, 13, 16 and 18: a job that is gone, a page elsewhere, an old proxy."""
    async with start(server={"cors_origins": ["*"]}) as api, start(access={"open": True}) as behind_a_proxy:
        for gone in (str(uuid4()), "no-id-at-all"):
            (told,) = [frame async for frame in api.stream(gone)]
            assert isinstance(told.data, dict)
            assert (told.event, told.data["jobId"], type(told.data["error"])) == ("error", gone, str)
            assert [frame async for frame in api.stream(gone, last_event_id=told.id)] == []
            refusal(await api.call("GET", f"/v1/download/status/{gone}?_=1"), 404)
        refusal(await api.call("POST", "/v1/download/initiate", json={"file_keys": [1], "source_urls": []}), 400)
        refusal(await api.call("POST", "/v1/download/initiate", data=b"{", headers={"Content-Type": "text/json"}), 415)
        asks = {
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type,x-idempotency-key",
        }
        allowed = await api.call("OPTIONS", "/v1/download/initiate", headers=ORIGIN | asks)
        assert (allowed.status, allowed.headers["Access-Control-Allow-Origin"]) == (204, "*")
        assert "Access-Control-Allow-Credentials" not in allowed.headers
        assert {"content-type", "x-idempotency-key"} <= set(
            allowed.headers["Access-Control-Allow-Headers"].lower().replace(" ", "").split(",")
        )
        job_id = await api.submit([origin.url(10, "a")])
        for place, version, fields in ((api, "1.1", "Accept:\r\nConnection: close\r\n"), (behind_a_proxy, "1.0", "")):
            raw = await _spoken(
                place, f"GET /v1/download/status/{job_id} HTTP/{version}\r\nHost: localhost\r\n{fields}\r\n"
            )
            head, _, body = raw.partition(b"\r\n\r\n")
            assert head.split()[1] == b"200"
            assert json.loads(body)["jobId"] == job_id
        await api.finished(job_id)


async def _spoken(api: Api, request: str) -> bytes:
    """All that comes for these bytes, until the service ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(api.base).port)
    try:
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        writer.write(request.encode())
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


async def test_two_slashes_lead_to_one(api: Api) -> None:
    """Habit 4: base URL and path may both bring a slash; what comes of it never leads to another host."""
    for path in ("//v1/download/status/x?a=b", "///livez", "//other.example/livez", "//\\other.example"):
        raw = await _spoken(api, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        lines = raw.partition(b"\r\n\r\n")[0].decode().split("\r\n")
        assert lines[0].split()[1] == "308"
        (location,) = [line.partition(": ")[2] for line in lines if line.startswith("Location: ")]
        assert location.removeprefix("/") == path.lstrip("/\\")
