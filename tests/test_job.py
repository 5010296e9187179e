"""The main job, through the front door: post a list, follow the stream, download one correct archive."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.api import Api
from tests.conftest import Start
from tests.files import Origin
from tests.gated import gated_source
from tests.readers import READERS, Found

UNKNOWN = "6f1a2b3c-0000-4000-8000-000000000000"


async def test_the_main_job(api: Api, origin: Origin) -> None:
    """A list of URLs becomes one archive whose every file has the source's bytes, followed from 0 to 100."""
    files = {f"file {n}.bin": 1000 * n + n for n in range(12)}
    listed = [{"id": n, "url": origin.url(size, f"x{n}"), "name": name} for n, (name, size) in enumerate(files.items())]
    answer = await api.initiate(listed, archiveName="Order 7")
    assert answer.status == 202
    body = answer.body
    assert (body["status"], body["totalFiles"], body["totalFileIds"]) == ("queued", 12, 12)
    assert body["statusUrl"] == answer.headers["Location"] == f"/v1/download/status/{body['jobId']}"
    assert body["subscribeUrl"] == f"/v1/download/subscribe/{body['jobId']}"

    events = await api.events(body["jobId"])
    states = [frame.data for frame in events if frame.event != "files" and isinstance(frame.data, dict)]
    assert [state["progress"] for state in states] == sorted(state["progress"] for state in states)
    assert events[-1].event == "complete"
    assert states[-1]["progress"] == 100
    assert all(state["progress"] < 100 for state in states[:-1])

    status = await api.status(body["jobId"])
    assert (status["status"], status["filesCompleted"], status["filesFailed"]) == ("completed", 12, 0)
    assert status["archive"]["name"] == "Order 7.zip"
    archive = await api.archive(body["jobId"])
    assert archive.namelist() == list(files)
    for file in status["files"]:
        data = archive.read(file["name"])
        assert data == origin.data(len(data), f"x{file['fileId']}")
        assert file["sha256"] == hashlib.sha256(data).hexdigest()


async def test_the_older_form_of_a_request(api: Api, origin: Origin) -> None:
    """`file_ids` and `source_urls`, position by position, do the same; names come from the URLs."""
    body = {
        "file_ids": [70000, "b-2"],
        "source_urls": [origin.url(10, "a", name="one.pdf"), origin.url(20, "b", name="two.pdf")],
        "options": {"compress": False},
    }
    answer = await api.call("POST", "/v1/download/initiate", json=body)
    assert answer.status == 202
    status = await api.finished(answer.body["jobId"])
    assert [(file["fileId"], file["name"], file["status"]) for file in status["files"]] == [
        (70000, "one.pdf", "done"),
        ("b-2", "two.pdf", "done"),
    ]


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
async def test_other_peoples_readers_accept_the_archive(
    reader: Callable[[Path], list[Found]], api: Api, origin: Origin, tmp_path: Path
) -> None:
    """Stored and deflated, empty and large, known and unknown length: every reader takes it without a complaint."""
    job_id = await api.submit(
        [
            {"url": origin.url(0, "empty"), "name": "empty.txt"},
            {"url": origin.text(300_000), "name": "ünï/texts/日本.txt"},
            {"url": origin.url(12_000_000, "big"), "name": "big.jpg"},
            {"url": origin.chunked(700_000), "name": "chunked.bin"},
            {"url": origin.url(5, "same"), "name": "same.txt"},
            {"url": origin.url(6, "same"), "name": "SAME.txt"},
            {"url": origin.status(404), "name": "gone.pdf"},
        ],
        options={"manifest": True},
    )
    status = await api.finished(job_id)
    assert (status["filesCompleted"], status["filesFailed"]) == (6, 1)
    path = tmp_path / "archive.zip"
    path.write_bytes(await api.archive_bytes(job_id))
    names = {entry.name for entry in await asyncio.to_thread(reader, path)}
    assert {"MISSING-FILES.txt", "manifest.json", "SHA256SUMS", "SAME (2).txt", "ünï/texts/日本.txt"} <= names
    assert len(names) == 9


async def test_one_missing_file_is_left_out_and_named(api: Api, origin: Origin) -> None:
    """With the default `skip` the others arrive, the status says which one failed and why, and so does the archive."""
    job_id = await api.submit([origin.url(10, "a", name="a.txt"), origin.status(404) + "/b.txt?secret=s3cr3t"])
    status = await api.finished(job_id)
    assert (status["status"], status["filesFailed"]) == ("completed", 1)
    failed = status["files"][1]
    assert (failed["status"], failed["error"]["code"]) == ("failed", "http_status:404")
    archive = await api.archive(job_id)
    assert archive.namelist() == ["a.txt", "MISSING-FILES.txt"]
    report = archive.read("MISSING-FILES.txt").decode()
    assert "http_status:404" in report
    assert "s3cr3t" not in report + str(status)


async def test_on_error_fail_ends_the_job_at_the_first_missing_file(api: Api, origin: Origin) -> None:
    """With `onError: fail` there is no archive, and the job says which file it was."""
    job_id = await api.submit([origin.url(10, "a"), origin.status(410) + "/lost.txt"], options={"onError": "fail"})
    status = await api.finished(job_id)
    assert (status["status"], status["errorCode"], status["downloadUrl"]) == ("failed", "file_failed", None)
    assert "lost.txt" in status["error"]
    assert (await api.call("GET", f"/v1/download/{job_id}")).status == 409


async def test_a_job_without_any_file_fails(api: Api, origin: Origin) -> None:
    """When every source fails no empty archive is offered."""
    job_id = await api.submit([origin.status(404), origin.status(403)])
    status = await api.finished(job_id)
    assert (status["status"], status["errorCode"]) == ("failed", "all_files_failed")
    assert status["filesFailed"] == status["totalFiles"] == 2


@pytest.mark.slow
async def test_a_source_that_dies_late_leaves_no_trace(api: Api, origin: Origin, small_service: Api) -> None:
    """A file followed into the archive over many parts and then cut for good: the others arrive, it left not a byte."""
    job_id = await small_service.submit(
        [
            {"url": origin.url(9_000_000, "a"), "name": "a.bin"},
            {"url": origin.cut(60_000_000, 45_000_000), "name": "cut.bin"},
            {"url": origin.url(7_000_000, "b"), "name": "b.bin"},
        ]
    )
    status = await small_service.finished(job_id)
    assert [file["status"] for file in status["files"]] == ["done", "failed", "done"]
    assert status["files"][1]["error"]["code"] == "truncated"
    archive = await small_service.archive(job_id)
    assert archive.namelist() == ["a.bin", "b.bin", "MISSING-FILES.txt"]
    assert status["archive"]["size"] < 16_100_000
    assert archive.read("b.bin") == origin.data(7_000_000, "b")


@pytest.mark.slow
async def test_many_large_files_at_once_without_disk(origin: Origin, small_service: Api) -> None:
    """Twelve files larger than the memory for them, no disk: each waits its turn, none is lost, none mixed up."""
    sizes = [5_000_000 + 700_001 * n for n in range(12)]
    job_id = await small_service.submit([origin.url(size, f"s{n}") for n, size in enumerate(sizes)])
    status = await small_service.finished(job_id)
    assert status["filesCompleted"] == 12
    digests = [hashlib.sha256(origin.data(size, f"s{n}")).hexdigest() for n, size in enumerate(sizes)]
    assert [file["sha256"] for file in status["files"]] == digests
    await small_service.archive(job_id)


async def test_the_same_request_made_reproducible_gives_the_same_bytes(api: Api, origin: Origin) -> None:
    """With `reproducible` two runs give the same archive although the files arrive in another order each time."""
    files = [origin.slow(2000 + n, delay_s=0.3 if n % 2 else 0.0) for n in range(8)]
    options = {"reproducible": True, "compress": False}
    first = await api.submit(files, options=options)
    second = await api.submit(files[:], options=options)
    await asyncio.gather(api.finished(first), api.finished(second))
    assert await api.archive_bytes(first) == await api.archive_bytes(second)


async def test_links_are_made_when_read_and_open_without_credentials(api: Api, origin: Origin) -> None:
    """The link of status and stream, and the redirect of the service, lead to the same bytes and name."""
    job_id = await api.submit([origin.url(100, "a")], archiveName="Rechnung – März")
    last = (await api.events(job_id))[-1].data
    status = await api.status(job_id)
    assert isinstance(last, dict)
    assert last["downloadUrl"] == status["downloadUrl"]
    redirect = await api.call("GET", f"/v1/download/{job_id}")
    assert (redirect.status, redirect.headers["Location"]) == (302, status["downloadUrl"])
    async with api.session.get(status["downloadUrl"]) as response:
        disposition = response.headers["Content-Disposition"]
        assert disposition.isascii()
        assert "filename*=UTF-8''Rechnung%20%E2%80%93%20M%C3%A4rz.zip" in disposition
        assert len(await response.read()) == status["archive"]["size"]


async def test_cancel_stops_the_work(api: Api, origin: Origin) -> None:
    """A cancelled job ends at once for everybody, its source is let go, and its slot takes the next job."""
    job_id = await api.submit([origin.endless()])
    await origin.wait_for_connection()
    answer = await api.call("POST", f"/v1/download/{job_id}/cancel")
    assert (answer.status, answer.body["status"]) == (200, "cancelled")
    await origin.wait_for_disconnection()
    assert (await api.events(job_id))[-1].event == "error"
    again = await api.call("POST", f"/v1/download/{job_id}/cancel")
    assert again.body["status"] == "cancelled"


async def test_events_tell_the_bytes_of_files_that_arrive(api: Api) -> None:
    """While a large file is half here, events name it with its bytes; a small one that is done is not among them."""
    async with gated_source() as origin, asyncio.timeout(20):
        job_id = await api.submit([origin.url(100, "small"), origin.held(1_000_000)])
        told = []
        async for frame in api.stream(job_id):
            assert isinstance(frame.data, dict)
            if frame.event != "progress":
                continue
            told.append(frame.data.get("fetching"))
            if frame.data["filesCompleted"] == 1 and told[-1] == [{"index": 1, "bytesFetched": 500_000}]:
                origin.gate.set()
        assert [{"index": 1, "bytesFetched": 500_000}] in told
        assert told[0] is None  # the first is from the record, or the claim: nothing has arrived
        assert (await api.status(job_id))["status"] == "completed"


async def test_delete_forgets_the_job(api: Api, origin: Origin) -> None:
    """A deleted job is unknown to every route, and deleting again is fine."""
    job_id = await api.submit([origin.url(10, "a")])
    await api.finished(job_id)
    for _ in range(2):
        assert (await api.call("DELETE", f"/v1/download/{job_id}")).status == 204
    for path in (f"/v1/download/status/{job_id}", f"/v1/download/{job_id}", f"/v1/download/{job_id}/files"):
        assert (await api.call("GET", path)).status == 404


async def test_the_same_key_gives_the_same_job(api: Api, origin: Origin) -> None:
    """Twenty identical calls at once with one Idempotency-Key make one job; another body under that key is refused."""
    body = [origin.url(10, "a")]
    key = {"Idempotency-Key": "click-1"}
    answers = await asyncio.gather(*(api.initiate(body, headers=key) for _ in range(20)))
    assert {answer.status for answer in answers} == {202}
    assert len({answer.body["jobId"] for answer in answers}) == 1
    assert sum("Idempotency-Replayed" in answer.headers for answer in answers) == 19
    other = await api.initiate([origin.url(11, "b")], headers=key)
    assert (other.status, other.body["code"]) == (422, "idempotency_mismatch")
    await api.finished(answers[0].body["jobId"])


async def test_pages_of_files(api: Api, origin: Origin) -> None:
    """Beyond 200 files the status leaves them out and the pages have them all, in request order."""
    job_id = await api.submit([origin.url(n % 7, f"{n}") for n in range(450)])
    status = await api.finished(job_id)
    assert "files" not in status or status["files"] is None
    assert (status["filesCompleted"], status["archive"]["entries"]) == (450, 450)
    indexes: list[int] = []
    query = "limit=199"
    while query:
        page = (await api.call("GET", f"/v1/download/{job_id}/files?{query}")).body
        indexes += [file["index"] for file in page["files"]]
        query = f"limit=199&after={page['next']}" if page["next"] is not None else ""
    assert indexes == list(range(450))


async def test_sha256_is_made_where_it_is_asked_for(start: Start, origin: Origin) -> None:
    """Without `worker.sha256` files have none, but those of a manifest do, and an expected digest is still compared."""
    async with start(worker={"sha256": False}) as api:
        plain, wrong = origin.url(100, "a"), {"url": origin.url(100, "b"), "checksum": f"sha256:{'0' * 64}"}
        job = await api.finished(await api.submit([plain, wrong]))
        assert [file["sha256"] for file in job["files"]] == [None, None]
        assert [(file["error"] or {}).get("code") for file in job["files"]] == [None, "checksum_mismatch"]
        job = await api.finished(await api.submit([plain], options={"manifest": True}))
        with await api.archive(job["jobId"]) as archive:
            digest = hashlib.sha256(archive.read(job["files"][0]["name"])).hexdigest()
            assert digest in archive.read("SHA256SUMS").decode()
        assert job["files"][0]["sha256"] == digest
