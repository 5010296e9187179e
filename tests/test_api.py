"""The HTTP interface through the front door, on a real Valkey: every call, every refusal, every rule of the streams."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiohttp import web

from downloader.errors import StartError
from downloader.events import FilesEvent, StateEvent
from downloader.jobs import Figures, FileResult, FileStatus
from downloader.state.client import connect, opened
from downloader.state.feed import WOKEN_AT_ONCE, Signal
from downloader.state.records import PAGE_FILES
from downloader.state.store import HISTORY_EVENTS
from downloader.web.app import build, drain
from downloader.web.outlet import Outlet, StalledError
from downloader.web.parts import Pace
from downloader.web.serve import serve
from tests.api import Answer, Api, Frame
from tests.servers import Redis, start_valkey
from tests.waiting import wait_until
from tests.web_front import Front, fronted

NOBODYS = "0b0f7f0e-7c1d-4a7c-9a3e-2f6d5c4b3a21"  # an id that no job has

INITIATE = "/v1/download/initiate"
FILE = {"url": "https://user:hunter2@example.com/a.pdf?sig=hunter2"}
BODY = {"file_ids": [70000, "b"], "source_urls": ["https://example.com/1", "https://example.com/2"]}


@pytest.fixture(scope="module")
def valkey() -> Iterator[Redis]:
    with start_valkey() as server:
        yield server


@pytest.fixture
async def front(valkey: Redis) -> AsyncIterator[Front]:
    async with fronted(valkey.url, redis={"url": valkey.url, "prefix": f"t{uuid4().hex[:8]}"}) as served:
        yield served


@pytest.fixture
def api(front: Front) -> Api:
    return front.api


def problem(answer: Answer, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is a whole problem, and give its body."""
    assert answer.status == status, answer
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    body = dict(answer.body)
    assert (body["status"], body["code"]) == (status, code)
    assert body["requestId"] == answer.headers["X-Request-Id"]
    assert body["error"] == body["title"]
    assert body["message"] == body["detail"]
    return body


class TestInitiate:
    async def test_a_job_is_taken_in(self, api: Api) -> None:
        """202 with exactly the promised fields and headers."""
        answer = await api.call("POST", INITIATE, json=BODY)
        assert answer.status == 202
        assert list(answer.body) == "jobId status totalFiles totalFileIds subscribeUrl statusUrl createdAt".split()
        job_id = answer.body["jobId"]
        assert UUID(job_id).version == 4
        assert (answer.body["status"], answer.body["totalFiles"], answer.body["totalFileIds"]) == ("queued", 2, 2)
        assert answer.headers["Location"] == answer.body["statusUrl"] == f"/v1/download/status/{job_id}"
        assert (answer.headers["Retry-After"], answer.headers["Cache-Control"]) == ("1", "no-store")

    async def test_what_was_asked_for_reaches_the_worker(self, front: Front) -> None:
        """URL, trace and request id arrive unchanged."""
        trace = f"00-{'a' * 32}-{'b' * 16}-01"
        await front.api.initiate([FILE], headers={"traceparent": trace, "X-Request-Id": "mine"})
        claim = await front.claimed()
        assert claim.request.sources[0].url == FILE["url"]
        assert (claim.traceparent, claim.request_id) == (trace, "mine")

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({"files": []}, "/files"),
            ({"files": [FILE] * 10_001}, "/files"),
            ({"file_ids": [1, 2], "source_urls": ["http://a/"]}, "/source_urls"),
            ({"files": [{"url": "nonsense"}]}, "/files/0/url"),
            ({"files": [FILE], "colour": "red"}, "/colour"),
            ({"files": "many"}, "/files"),
            ({"file_ids": [1]}, "/source_urls"),
            ({"files": [FILE], "options": {"keepFiles": "yes"}}, "/options/keepFiles"),
            ([], ""),
        ],
    )
    async def test_bad_bodies_are_refused_by_name(self, api: Api, body: Any, pointer: str) -> None:
        """400 with a pointer to each fault, whatever the size of the body."""
        body = problem(await api.call("POST", INITIATE, json=body), 400, "invalid_request")
        assert body["errors"][0]["pointer"] == pointer

    async def test_no_more_than_twenty_faults_are_listed(self, api: Api) -> None:
        """The rest is counted."""
        body = problem(await api.initiate([{"url": "x"}] * 100), 400, "invalid_request")
        assert (len(body["errors"]), body["errorCount"]) == (20, 100)

    @pytest.mark.parametrize("raw", [b"", b"{nonsense", b"[" * 200_000, b'{"files": NaN}', b"\xff\xfe{}"])
    async def test_what_is_not_json_is_refused(self, api: Api, raw: bytes) -> None:
        """400, also for what would exhaust a parser; the service goes on."""
        answer = await api.call("POST", INITIATE, data=raw, headers={"Content-Type": "application/json"})
        problem(answer, 400, "invalid_json")
        assert (await api.call("GET", "/livez")).status == 200

    @pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
    async def test_other_content_types_are_refused(self, api: Api, content_type: str) -> None:
        """What a page of any origin can send without asking must not make a job."""
        raw = json.dumps({"files": [FILE]}).encode()
        answer = await api.call("POST", INITIATE, data=raw, headers={"Content-Type": content_type})
        problem(answer, 415, "unsupported_media_type")

    async def test_a_body_over_the_limit_is_refused(self, valkey: Redis) -> None:
        """413 naming the limit; the service goes on."""
        async with fronted(valkey.url, server={"max_body_bytes": 10_000}) as front:
            body = problem(await front.api.initiate([FILE] * 1000), 413, "body_too_large")
            assert "10000" in body["detail"]
            assert (await front.api.initiate([FILE])).status == 202

    async def test_a_broken_encoding_is_refused(self, api: Api) -> None:
        """A body that says gzip and is none."""
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        problem(await api.call("POST", INITIATE, data=b"nonsense", headers=headers), 400, "invalid_body")

    async def test_large_bodies_work(self, api: Api) -> None:
        """The most files there may be, parsed beside the loop."""
        answer = await api.initiate([{"url": f"https://example.com/{number}"} for number in range(10_000)])
        assert (answer.status, answer.body["totalFiles"]) == (202, 10_000)

    async def test_neither_answers_nor_faults_show_secrets(self, api: Api) -> None:
        """Userinfo and query of a URL stay inside."""
        job_id = await api.submit([FILE])
        assert "hunter2" not in json.dumps(await api.status(job_id))
        refused = await api.initiate([{"url": "ftp://user:hunter2@h/?sig=hunter2"}])
        assert b"hunter2" not in refused.raw

    async def test_a_full_queue_is_said_with_a_time(self, valkey: Redis) -> None:
        """429 and Retry-After; the same for too many a minute."""
        redis = {"url": valkey.url, "prefix": "full"}
        async with fronted(valkey.url, redis=redis, limits={"queued_jobs": 1}) as front:
            await front.api.submit([FILE])
            answer = await front.api.initiate([FILE])
            problem(answer, 429, "queue_full")
            assert int(answer.headers["Retry-After"]) > 0


class TestIdempotency:
    async def test_a_repeat_gives_the_same_answer(self, front: Front) -> None:
        """Same key, same meaning: the same body again, marked, whatever became of the job."""
        first = await front.api.initiate([FILE], headers={"Idempotency-Key": "k1"})
        await front.complete(await front.claimed())
        again = await front.api.initiate([dict(reversed(FILE.items()))], headers={"X-Idempotency-Key": '"k1"'})
        assert (first.status, again.status) == (202, 202)
        assert again.raw == first.raw
        assert again.headers["Idempotency-Replayed"] == "true"
        assert "Idempotency-Replayed" not in first.headers

    async def test_two_clicks_at_once_make_one_job(self, api: Api) -> None:
        """Ten equal calls at the same time."""
        calls = [api.initiate([FILE], headers={"Idempotency-Key": "k2"}) for _ in range(10)]
        answers = await asyncio.gather(*calls)
        assert len({answer.raw for answer in answers}) == 1
        assert sum("Idempotency-Replayed" in answer.headers for answer in answers) == 9

    async def test_another_body_under_the_same_key_is_refused(self, api: Api) -> None:
        """422."""
        await api.initiate([FILE], headers={"Idempotency-Key": "k3"})
        answer = await api.initiate([FILE, FILE], headers={"Idempotency-Key": "k3"})
        problem(answer, 422, "idempotency_mismatch")

    async def test_a_bad_key_is_refused(self, api: Api) -> None:
        """400 naming the header."""
        answer = await api.initiate([FILE], headers={"Idempotency-Key": "a b"})
        assert "Idempotency-Key" in problem(answer, 400, "idempotency_key_invalid")["detail"]


class TestStatus:
    async def test_a_waiting_job(self, api: Api) -> None:
        """All members, the place in the queue, and when to ask again."""
        await api.submit([FILE])
        job_id = await api.submit([FILE])
        answer = await api.call("GET", f"/v1/download/status/{job_id}")
        assert answer.headers["Retry-After"] == "1"
        assert answer.headers["Cache-Control"] == "no-store"
        body = answer.body
        assert (body["status"], body["progress"], body["queuePosition"], body["downloadUrl"]) == ("queued", 0, 2, None)
        assert [file["originalUrl"] for file in body["files"]] == ["https://example.com/a.pdf"]

    async def test_a_finished_job_has_its_link(self, front: Front) -> None:
        """Link and archive, but not where it lies; nothing more to wait for."""
        job_id = await front.api.submit([FILE, FILE])
        await front.complete(await front.claimed())
        answer = await front.api.call("GET", f"/v1/download/status/{job_id}")
        assert "Retry-After" not in answer.headers
        assert (answer.body["status"], answer.body["progress"]) == ("completed", 100)
        assert answer.body["downloadUrl"].startswith("https://s3.example/archives/")
        assert answer.body["archive"] == {"name": "download.zip", "size": 1234, "entries": 2, "etag": "etag"}

    async def test_an_unchanged_job_is_not_sent_again(self, front: Front) -> None:
        """304 while nothing changed, 200 after a change."""
        job_id = await front.api.submit([FILE])
        path = f"/v1/download/status/{job_id}"
        first = await front.api.call("GET", path)
        known = {"If-None-Match": f"W/{first.headers['ETag']}"}
        same = await front.api.call("GET", path, headers=known)
        assert (same.status, same.raw, same.headers["ETag"]) == (304, b"", first.headers["ETag"])
        claim = await front.claimed()
        changed = await front.api.call("GET", path, headers=known)
        assert (changed.status, changed.body["status"]) == (200, "processing")
        await front.report(claim, 1, 40)
        known = {"If-None-Match": changed.headers["ETag"]}
        assert (await front.api.call("GET", path, headers=known)).body["progress"] == 40

    async def test_many_files_are_paged(self, api: Api) -> None:
        """Beyond 200 they are left out of the status and read in pages."""
        job_id = await api.submit([{**FILE, "id": number} for number in range(450)])
        assert "files" not in await api.status(job_id)
        seen, after = [], ""
        while True:
            page = (await api.call("GET", f"/v1/download/{job_id}/files?limit=199{after}")).body
            seen += [file["fileId"] for file in page["files"]]
            if page["next"] is None:
                break
            after = f"&after={page['next']}"
        assert seen == list(range(450))

    async def test_files_can_be_left_out(self, api: Api) -> None:
        """`?files=false`; anything else but yes and no is refused."""
        job_id = await api.submit([FILE])
        assert "files" not in (await api.call("GET", f"/v1/download/status/{job_id}?files=false")).body
        problem(await api.call("GET", f"/v1/download/status/{job_id}?files=maybe"), 400, "invalid_request")

    @pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "after=-1", "after=", "limit=%D9%A1"])
    async def test_bad_paging_is_refused(self, api: Api, query: str) -> None:
        """400 naming the parameter."""
        job_id = await api.submit([FILE])
        body = problem(await api.call("GET", f"/v1/download/{job_id}/files?{query}"), 400, "invalid_request")
        assert body["errors"][0]["pointer"] == f"/{query.partition('=')[0]}"

    @pytest.mark.parametrize("job_id", [NOBODYS, "not-a-uuid", "x" * 500, "%00", "..%2f..", "{}"])
    async def test_unknown_and_broken_ids_are_the_same(self, api: Api, job_id: str) -> None:
        """One 404 on every call about a job; deleting nothing succeeds."""
        for method, path in [
            ("GET", f"/v1/download/status/{job_id}"),
            ("GET", f"/v1/download/subscribe/{job_id}"),
            ("GET", f"/v1/download/{job_id}"),
            ("GET", f"/v1/download/{job_id}/files"),
            ("POST", f"/v1/download/{job_id}/cancel"),
        ]:
            problem(await api.call(method, path), 404, "job_not_found")
        assert (await api.call("DELETE", f"/v1/download/{job_id}")).status == 204


class TestEnd:
    async def test_the_archive_is_behind_a_redirect(self, front: Front) -> None:
        """409 until it is finished, then 302 to a link signed now."""
        job_id = await front.api.submit([FILE])
        problem(await front.api.call("GET", f"/v1/download/{job_id}"), 409, "job_not_finished")
        await front.complete(await front.claimed())
        answer = await front.api.call("GET", f"/v1/download/{job_id}")
        assert (answer.status, answer.headers["Cache-Control"]) == (302, "no-store")
        assert answer.headers["Location"].startswith("https://s3.example/")

    async def test_a_failed_job_says_why(self, front: Front) -> None:
        """409 with the job's own code."""
        job_id = await front.api.submit([FILE])
        await front.fail(await front.claimed())
        body = problem(await front.api.call("GET", f"/v1/download/{job_id}"), 409, "job_failed")
        assert "all_failed" in body["detail"]

    @pytest.mark.slow
    async def test_an_archive_that_expired_is_gone(self, valkey: Redis) -> None:
        """410, and no link in the status."""
        async with fronted(valkey.url, redis={"url": valkey.url, "prefix": "old"}, jobs={"archive_ttl_s": 10}) as front:
            job_id = await front.api.submit([FILE])
            await front.complete(await front.claimed())

            async def gone() -> bool:
                return (await front.api.call("GET", f"/v1/download/{job_id}")).status == 410

            await wait_until(gone, every_s=0.5)
            problem(await front.api.call("GET", f"/v1/download/{job_id}"), 410, "archive_expired")
            status = await front.api.status(job_id)
            assert (status["status"], status["downloadUrl"]) == ("completed", None)

    async def test_cancelling_is_idempotent(self, front: Front) -> None:
        """The job comes back cancelled, twice; a finished one is left as it is."""
        job_id = await front.api.submit([FILE])
        for _ in range(2):
            answer = await front.api.call("POST", f"/v1/download/{job_id}/cancel")
            assert (answer.status, answer.body["status"], answer.body["errorCode"]) == (200, "cancelled", "cancelled")
        problem(await front.api.call("GET", f"/v1/download/{job_id}"), 409, "job_cancelled")
        other = await front.api.submit([FILE])
        await front.complete(await front.claimed())
        assert (await front.api.call("POST", f"/v1/download/{other}/cancel")).body["status"] == "completed"

    async def test_deleting_is_idempotent(self, api: Api) -> None:
        """204 twice, and the job is unknown from then on."""
        job_id = await api.submit([FILE])
        for _ in range(2):
            answer = await api.call("DELETE", f"/v1/download/{job_id}")
            assert (answer.status, answer.raw) == (204, b"")
        problem(await api.call("GET", f"/v1/download/status/{job_id}"), 404, "job_not_found")


class TestAround:
    async def test_wrong_paths_and_methods_are_problems(self, api: Api) -> None:
        """404 and 405 in the same form as everything else."""
        problem(await api.call("GET", "/nothing/here"), 404, "not_found")
        answer = await api.call("GET", INITIATE)
        problem(answer, 405, "method_not_allowed")
        assert answer.headers["Allow"] == "POST"

    async def test_the_unknown_is_not_shown(self, front: Front) -> None:
        """A bug of ours answers `internal`, without its text."""

        async def broken() -> None:
            raise ZeroDivisionError("hunter2")

        parts = front.parts
        faulty = replace(parts, checks={"x": broken})
        async with serve(build(faulty), "127.0.0.1", 0) as port:
            answer = await Api(front.api.session, f"http://127.0.0.1:{port}").call("GET", "/health")
        assert "hunter2" not in json.dumps(problem(answer, 500, "internal"))

    async def test_request_ids_are_echoed_or_made(self, api: Api) -> None:
        """A sane one comes back, another is replaced."""
        assert (await api.call("GET", "/livez", headers={"X-Request-Id": "abc"})).headers["X-Request-Id"] == "abc"
        assert (await api.call("GET", "/livez", headers={"X-Request-Id": "a b"})).headers["X-Request-Id"] != "a b"

    async def test_a_foreign_host_is_refused(self, api: Api) -> None:
        """DNS rebinding, or a proxy that makes the world local; health is for everybody."""
        for headers in ({"Host": "evil.example"}, {"X-Forwarded-For": "1.2.3.4"}):
            answer = await api.call("POST", INITIATE, json={"files": [FILE]}, headers=headers)
            assert "access.open" in problem(answer, 401, "key_required")["detail"]
            assert (await api.call("GET", "/livez", headers=headers)).status == 200

    async def test_origins_are_let_in_by_configuration(self, valkey: Redis) -> None:
        """CORS: a preflight and the headers a page may read; nothing for other origins."""
        async with fronted(valkey.url, server={"cors_origins": ["https://app.example"]}) as front:
            ask = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
            answer = await front.api.call("OPTIONS", INITIATE, headers=ask)
            assert answer.status == 204
            assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
            assert "Idempotency-Key" in answer.headers["Access-Control-Allow-Headers"]
            refused = await front.api.call("OPTIONS", INITIATE, headers=ask | {"Origin": "https://evil.example"})
            assert "Access-Control-Allow-Origin" not in refused.headers
            shown = await front.api.call("GET", "/livez", headers={"Origin": "https://app.example"})
            assert "X-Request-Id" in shown.headers["Access-Control-Expose-Headers"]

    async def test_the_front_page_stands_alone(self, api: Api) -> None:
        """HTML without any outside request, with this very host in its examples; JSON for programs."""
        page = await api.call("GET", "/", headers={"Accept": "text/html"})
        assert api.base in page.raw.decode()
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        document = await api.call("GET", "/", headers={"Accept": "application/json"})
        assert (document.body["name"], document.body["links"]["initiate"]) == ("downloader", INITIATE)

    async def test_readiness_follows_the_service(self, front: Front) -> None:
        """503 while starting and draining; health knows each neighbour."""
        assert (await front.api.call("GET", "/readyz")).status == 200
        health = await front.api.call("GET", "/health")
        assert (health.status, health.body) == (200, {"status": "healthy", "checks": {"redis": "ok"}})
        front.parts.state.ready = False
        assert (await front.api.call("GET", "/readyz")).body == {"status": "starting"}
        drain(front.parts)
        assert (await front.api.call("GET", "/readyz")).status == 503

    async def test_a_taken_port_is_one_clear_line(self, front: Front) -> None:
        """StartError that names the remedy."""
        with pytest.raises(StartError, match=r"taken.*server\.port"):
            async with serve(build(front.parts), "127.0.0.1", front.port):
                pass

    @pytest.mark.slow
    async def test_redis_away_is_an_outage_not_an_end(self, front: Front, valkey: Redis) -> None:
        """503 with a time to wait, `busy` on streams, unhealthy but ready; then all is well again."""
        job_id = await front.api.submit([FILE])
        os.kill(valkey.pid, signal.SIGSTOP)
        try:
            status, busy, health, ready = await asyncio.gather(
                front.api.call("GET", f"/v1/download/status/{job_id}"),
                front.api.events(job_id),
                front.api.call("GET", "/health"),
                front.api.call("GET", "/readyz"),
            )
        finally:
            os.kill(valkey.pid, signal.SIGCONT)
        problem(status, 503, "unavailable")
        assert int(status.headers["Retry-After"]) > 0
        assert [frame.event for frame in busy] == ["busy"]
        assert (health.status, ready.status) == (503, 200)
        assert (await front.api.status(job_id))["status"] == "queued"


async def started(
    front: Front, job_id: str, **options: Any
) -> tuple[asyncio.Task[list[Frame]], list[Frame], list[bytes]]:
    """Follow a job in the background: the task, the frames so far, the raw lines so far."""
    frames: list[Frame] = []
    seen: list[bytes] = []

    async def follow() -> list[Frame]:
        async for frame in front.api.stream(job_id, seen=seen, **options):
            frames.append(frame)  # noqa: PERF401  (the test looks at the list while it grows)
        return frames

    task = asyncio.create_task(follow())
    await wait_until(lambda: front.parts.feed.subscribers > 0 and seen)
    return task, frames, seen


def awaited(task: asyncio.Task[Any]) -> list[str]:
    """The names of the coroutines that a task consists of, each waiting for the next."""
    names: list[str] = []
    coroutine: Any = task.get_coro()
    while hasattr(coroutine, "cr_await"):
        names.append(coroutine.__qualname__)
        coroutine = coroutine.cr_await
    return names


async def test_another_attempt_tells_of_its_files_anew(front: Front) -> None:
    """What the first attempt told of them is gone, what was asked for stays: of every page of files."""
    asked = [{"url": f"https://h.example/{number}", "id": f"f{number}"} for number in range(PAGE_FILES + 3)]
    job_id = await front.api.submit(asked)
    claim = await front.claimed()
    told = [
        FileResult(number, f"f{number}", f"https://h.example/{number}", "told", FileStatus.FETCHING)
        for number in (0, PAGE_FILES)
    ]
    await front.queue.report(claim, 1, Figures(), told, b"")
    page = f"/v1/download/{job_id}/files?limit=1000"
    files = (await front.api.call("GET", page)).body["files"]
    assert [file["index"] for file in files if file["status"] == "fetching"] == [0, PAGE_FILES]
    await front.queue.release(claim)
    files = (await front.api.call("GET", page)).body["files"]
    assert {(file["status"], file["name"]) for file in files} == {("pending", None)}
    assert [file["fileId"] for file in files] == [one["id"] for one in asked]


class TestStream:
    async def test_a_job_is_followed_from_its_start_to_its_end(self, front: Front) -> None:
        """First `retry:`, then the snapshot at once, then what happens; the terminal event ends the stream."""
        job_id = await front.api.submit([FILE, FILE])
        task, frames, seen = await started(front, job_id)
        await wait_until(lambda: frames)
        claim = await front.claimed()
        await wait_until(lambda: frames[-1].data["status"] == "processing")  # type: ignore[call-overload]
        await front.report(claim, 1, 50, b'[{"fileId":1}]')
        await wait_until(lambda: frames[-1].data["progress"] == 50)  # type: ignore[call-overload]
        await front.complete(claim)
        await asyncio.wait_for(task, 5)
        assert 1000 <= int(seen[0].removeprefix(b"retry: ")) <= 5000
        assert [frame.event for frame in frames] == ["progress", "progress", "files", "progress", "complete"]
        states = [frame.data for frame in frames if frame.event != "files" and isinstance(frame.data, dict)]
        assert [(state["status"], state["progress"]) for state in states] == [
            ("queued", 0),
            ("processing", 0),
            ("processing", 50),
            ("completed", 100),
        ]
        assert states[-1]["downloadUrl"].startswith("https://s3.example/")
        assert len({frame.id for frame in frames}) == len(frames)

    async def test_the_headers_keep_proxies_from_holding_back(self, front: Front) -> None:
        """Type, no buffering, no caching, no rewriting; and the CORS and security headers as everywhere."""
        job_id = await front.api.submit([FILE])
        async with front.api.session.get(f"{front.api.base}/v1/download/subscribe/{job_id}") as response:
            assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
            assert response.headers["Cache-Control"] == "no-store, no-transform"
            assert response.headers["X-Accel-Buffering"] == "no"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert "Content-Encoding" not in response.headers

    async def test_a_reconnect_gets_what_it_missed_and_nothing_else(self, front: Front) -> None:
        """From every id of the past: the rest of the same story, by header and by parameter; read in several pieces."""
        job_id = await front.api.submit([FILE, FILE])
        claim = await front.claimed()
        for sequence in range(1, 2 + HISTORY_EVENTS):
            await front.report(claim, sequence, sequence, b"[]")
        await front.complete(claim)
        history = await front.parts.store.history("public", job_id, None)
        assert history.record is not None
        first = (await front.parts.store.history("public", job_id, "0-0")).events
        assert first is None
        everything = await all_events(front, job_id)
        for position, event_id in enumerate(everything[:-1]):
            missed = [frame.id for frame in await front.api.events(job_id, last_event_id=event_id)]
            assert missed == everything[position + 1 :]
        for name in ("lastEventId", "last_event_id"):
            answer = await front.api.call("GET", f"/v1/download/subscribe/{job_id}?{name}={everything[2]}")
            assert answer.raw.count(b"\nid: ") == len(everything) - 3

    async def test_who_has_seen_the_end_is_sent_away(self, front: Front) -> None:
        """204 stops an EventSource for good: for the terminal id and for a later one."""
        job_id = await front.api.submit([FILE])
        await front.fail(await front.claimed())
        (last,) = await front.api.events(job_id)
        assert (last.event, last.data["error"]) == ("error", "No file could be had.")  # type: ignore[call-overload]
        for event_id in (last.id, "99999999999999-0"):
            answer = await subscribe(front.api, job_id, event_id)
            assert (answer.status, answer.raw) == (204, b"")

    @pytest.mark.parametrize("event_id", ["1-1", "99999999999999-0", "nonsense", "99999999999999999999-0"])
    async def test_an_id_from_nowhere_gets_reset_and_the_snapshot(self, front: Front, event_id: str) -> None:
        """Trimmed, future, malformed: the client is told that its picture may have gaps, and gets a whole one."""
        job_id = await front.api.submit([FILE])
        task, frames, _ = await started(front, job_id, last_event_id=event_id)
        await wait_until(lambda: len(frames) == 2)
        assert [frame.event for frame in frames] == ["reset", "progress"]
        await front.complete(await front.claimed())
        assert (await asyncio.wait_for(task, 5))[-1].event == "complete"

    @pytest.mark.parametrize("job_id", [NOBODYS, "not-a-uuid"])
    async def test_a_job_that_is_not_there(self, api: Api, job_id: str) -> None:
        """One error frame with an id for an EventSource, 204 when it comes back, 404 for others."""
        (frame,) = await api.events(job_id)
        assert (frame.event, frame.data["errorCode"]) == ("error", "job_not_found")  # type: ignore[call-overload]
        assert (await subscribe(api, job_id, frame.id)).status == 204
        problem(await api.call("GET", f"/v1/download/subscribe/{job_id}"), 404, "job_not_found")

    async def test_too_many_streams_are_told_to_wait(self, valkey: Redis) -> None:
        """200 with `busy` and a long pause; the place of a client that left is free again at once."""
        async with fronted(valkey.url, limits={"streams": 1}) as front:
            job_id = await front.api.submit([FILE])
            task, *_ = await started(front, job_id)
            answer = await subscribe(front.api, job_id)
            assert (answer.status, answer.raw.split(b"\n")[0]) == (200, b"retry: 30000")
            assert b"event: busy" in answer.raw
            task.cancel()
            await wait_until(lambda: front.parts.feed.subscribers == 0, within_s=2)
            await front.api.call("POST", f"/v1/download/{job_id}/cancel")
            assert [frame.event for frame in await front.api.events(job_id)] == ["error"]

    async def test_progress_comes_at_most_four_times_a_second(self, front: Front) -> None:
        """Of a hundred reports in a second few are sent, the newest state is always among them, the end at once."""
        job_id = await front.api.submit([FILE])
        task, frames, _ = await started(front, job_id)
        claim = await front.claimed()
        begun = time.monotonic()
        for sequence in range(1, 100):
            await front.report(claim, sequence, sequence)
            await asyncio.sleep(0.01)
        took_s = time.monotonic() - begun
        await wait_until(lambda: frames[-1].data["progress"] == 99, within_s=2)  # type: ignore[call-overload]
        assert len(frames) <= took_s * 4 + 4
        settled = time.monotonic()
        await front.complete(claim)
        await asyncio.wait_for(task, 5)
        assert time.monotonic() - settled < 1

    async def test_a_report_is_one_write(self, front: Front) -> None:
        """Its files and its figures come together; the figures do not wait for the next turn."""
        job_id = await front.api.submit([FILE])
        claim = await front.claimed()
        task, frames, _ = await started(front, job_id)
        with front.parts.feed.subscribe(job_id) as live:
            await front.report(claim, 1, 50, b"[]")
            assert [type(item) for item in await live.take()] == [FilesEvent, StateEvent]
        await wait_until(lambda: [frame.event for frame in frames] == ["progress", "files", "progress"])
        task.cancel()

    async def test_an_idle_stream_is_little(self, front: Front) -> None:
        """Of what a call goes through on its way in, an open stream keeps what has to see its end, and no timer."""
        job_id = await front.api.submit([FILE])
        task, frames, _ = await started(front, job_id)
        await wait_until(lambda: frames)
        (waiting,) = [names for names in map(awaited, asyncio.all_tasks()) if "Stream.follow" in names]
        assert waiting[waiting.index("access_log") :] == [
            *("access_log", "problems", "audited", "access", "subscribe", "_follow", "Stream.follow"),
            "Subscription.take",
        ]
        task.cancel()

    async def test_many_listeners_leave_the_loop_to_others(self, front: Front) -> None:
        """A signal to all, as an event of a job, wakes some at a time; each once, and all in the end."""
        with ExitStack() as stack:
            all_of_them = [stack.enter_context(front.parts.feed.subscribe(NOBODYS)) for _ in range(5 * WOKEN_AT_ONCE)]
            heard = [asyncio.create_task(one.take()) for one in all_of_them]
            await asyncio.sleep(0)
            giving = asyncio.create_task(front.parts.feed.signal_in_turns(Signal.HEARTBEAT))
            steps = [0]
            while not giving.done():
                await asyncio.sleep(0)
                steps.append(sum(one.done() for one in heard))
            assert max(after - before for before, after in pairwise(steps)) <= WOKEN_AT_ONCE
            assert await asyncio.gather(*heard) == [[Signal.HEARTBEAT]] * len(heard)
        assert front.parts.feed.subscribers == 0

    async def test_a_client_of_http_1_0_gets_no_chunks(self, valkey: Redis) -> None:
        """Some proxies speak no other; the stream is the same, and the connection ends with it."""
        redis = {"url": valkey.url, "prefix": "one-zero"}
        async with fronted(valkey.url, redis=redis, access={"open": True}) as front:
            job_id = await front.api.submit([FILE])
            reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
            writer.write(f"GET /v1/download/subscribe/{job_id} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            assert b"chunked" not in (await reader.readuntil(b"\r\n\r\n")).lower()
            assert (await reader.readuntil(b"\n\n")).startswith(b"retry: ")
            await front.complete(await front.claimed())
            rest = await asyncio.wait_for(reader.read(), 5)
            assert rest.startswith(b"event: progress\n")
            assert rest.endswith(b"\n\n")
            writer.close()

    async def test_signals_reach_the_wire(self, front: Front) -> None:
        """A heartbeat is a comment; who lagged reads on without gap or repeat; closing ends with a time to wait."""
        job_id = await front.api.submit([FILE])
        task, frames, seen = await started(front, job_id)
        front.parts.feed.signal_all(Signal.HEARTBEAT)
        await wait_until(lambda: any(line.startswith(b":") for line in seen))
        front.parts.feed.signal_all(Signal.LAGGED)
        await front.claimed()
        await wait_until(lambda: len(frames) == 2)
        begun = time.monotonic()
        drain(front.parts)
        await asyncio.wait_for(task, 1)
        assert time.monotonic() - begun < 1
        assert [frame.data["status"] for frame in frames] == ["queued", "processing"]  # type: ignore[call-overload]
        assert seen[-2].startswith(b"retry: ")
        assert [frame.event for frame in await front.api.events(job_id)] == ["progress"]

    async def test_serving_ends_within_a_second_or_two(self, valkey: Redis) -> None:
        """Fifty open streams do not hold the service up."""
        async with fronted(valkey.url) as front:
            job_id = await front.api.submit([FILE])
            tasks = [asyncio.create_task(front.api.events(job_id)) for _ in range(50)]
            await wait_until(lambda: front.parts.feed.subscribers == 50)
            begun = time.monotonic()
        assert time.monotonic() - begun < 1.5
        assert all(frames[-1].event == "progress" for frames in await asyncio.gather(*tasks))

    async def test_an_idle_stream_is_kept_warm_and_rotated(self, valkey: Redis) -> None:
        """Comments while nothing happens; then an end with a time to wait, and the next stream goes on from there."""
        redis = {"url": valkey.url, "prefix": "idle"}
        async with fronted(valkey.url, pace=Pace(heartbeat_s=0.1, rotate_s=1), redis=redis) as front:
            job_id = await front.api.submit([FILE])
            task, frames, seen = await started(front, job_id)
            await asyncio.wait_for(task, 3)
            assert sum(line.startswith(b":") for line in seen) >= 3
            assert seen[-2].startswith(b"retry: ")
            task, more, _ = await started(front, job_id, last_event_id=frames[-1].id)
            await front.complete(await front.claimed())
            await asyncio.wait_for(task, 5)
            assert more[-1].event == "complete"

    async def test_a_client_that_stalls_is_cut(self, valkey: Redis) -> None:
        """Who takes nothing loses the connection and the service's memory of it; the job goes on."""
        redis = {"url": valkey.url, "prefix": "stall"}
        async with fronted(valkey.url, pace=Pace(stall_s=0.5), redis=redis) as front:
            await self._stall(front)

    async def _stall(self, front: Front) -> None:
        job_id = await front.api.submit([FILE])
        claim = await front.claimed()
        with socket.socket() as stalled:
            stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stalled.connect(("127.0.0.1", front.port))
            stalled.sendall(f"GET /v1/download/subscribe/{job_id} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            await wait_until(lambda: front.parts.feed.subscribers == 1)
            sequence = 0

            async def cut() -> bool:
                nonlocal sequence
                sequence += 1
                await front.report(claim, sequence, 1, json.dumps(["x" * 50_000]).encode())
                return front.parts.feed.subscribers == 0

            await wait_until(cut, within_s=30, every_s=0.05)
            assert not (await asyncio.to_thread(read_to_end, stalled)).endswith(b"\r\n0\r\n\r\n")
        assert (await front.api.status(job_id))["status"] == "processing"

    async def test_a_stall_is_noticed_by_heartbeats_alone(self) -> None:
        """Nothing is sent but a comment now and then, so no write ever waits; the client is cut all the same."""
        verdict: asyncio.Future[float] = asyncio.get_running_loop().create_future()

        async def trickle(request: web.Request) -> web.StreamResponse:
            outlet = Outlet(request, 0.5)
            await outlet.start()
            while request.transport and request.transport.get_write_buffer_size() == 0:
                await outlet.write(b":" * 1024)
            begun = time.monotonic()
            with suppress(StalledError):
                while time.monotonic() - begun < 5:
                    await outlet.write(b":\n\n")
                    await asyncio.sleep(0.05)
            verdict.set_result(time.monotonic() - begun)
            return outlet.response

        app = web.Application()
        app.router.add_get("/", trickle)
        async with serve(app, "127.0.0.1", 0) as port:
            with socket.socket() as stalled:
                stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                stalled.connect(("127.0.0.1", port))
                stalled.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert 0.4 < await verdict < 2

    async def test_a_stream_to_a_deleted_job_ends(self, front: Front) -> None:
        """The end that deleting brings is seen by who watches."""
        job_id = await front.api.submit([FILE])
        task, frames, _ = await started(front, job_id)
        await front.api.call("DELETE", f"/v1/download/{job_id}")
        await asyncio.wait_for(task, 5)
        assert frames[-1].data["status"] == "cancelled"  # type: ignore[call-overload]


def read_to_end(connection: socket.socket) -> bytes:
    """Everything that is left until the other side closes or cuts."""
    connection.settimeout(10)
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except ConnectionResetError:
        pass
    return received


async def subscribe(api: Api, job_id: str, event_id: str | None = None) -> Answer:
    """Ask for the events once, as an EventSource does."""
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": event_id} if event_id else {})
    return await api.call("GET", f"/v1/download/subscribe/{job_id}", headers=headers)


async def all_events(front: Front, job_id: str) -> list[str]:
    """The ids of all events of a job, from its own stream."""
    prefix = front.parts.settings.redis.prefix
    async with opened(connect(front.parts.settings.redis.url)) as client:
        entries: Any = await client.xrange(f"{{{prefix}}}:ev:{job_id}")
    return [key.decode() for key, _ in entries]
