"""`options.keepFiles`: each file of the archive is an object of its own, with a link of its own, for as long as it."""

from __future__ import annotations

from typing import Any

import pytest

from downloader.work.storage import Storage
from tests.api import Api
from tests.conftest import Start, merged
from tests.files import Origin
from tests.s3faults import Call, relaying
from tests.waiting import wait_until

MIB = 1024 * 1024
PART = {"part_bytes": 5 * MIB}
SMALL_JOBS = {"max_job_bytes": 1024**3}
FAULTY = {"Put", "UploadPart", "Get", "CreateUpload"}
KEEP: dict[str, Any] = {"options": {"keepFiles": True}}


async def fetched(api: Api, path: str) -> tuple[bytes, dict[str, str]]:
    """What the link leads to, as a browser gets it."""
    async with api.session.get(api.base + path) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.read(), dict(answer.headers)


async def stored(settings: dict[str, Any]) -> list[str]:
    """The keys of all objects and uploads of this test."""
    ours = merged(settings, {}).storage
    async with Storage.open(ours) as storage:
        objects = [item.key async for item in storage.objects(ours.prefix)]
        return objects + [item.key async for item in storage.uploads(ours.prefix)]


async def test_every_file_has_a_link_of_its_own(start: Start, origin: Origin) -> None:
    """Stored, deflated, empty, larger than a part, by page and by status: the very bytes, under their own names."""
    async with start(storage=PART, jobs=SMALL_JOBS) as api:
        large = 12 * MIB + 7
        files = [
            {"url": origin.url(1000, "a"), "name": "sub/é.bin"},
            {"url": origin.text(300_000), "name": "text.txt"},
            {"url": origin.url(0, "empty"), "name": "empty.bin"},
            {"url": origin.status(404), "name": "missing.bin"},
            {"url": origin.url(large, "large"), "name": "large.bin"},
            {"url": origin.text(large), "name": "large.txt"},
            *({"url": origin.url(5000 + n, f"s{n}"), "name": f"s{n}.bin"} for n in range(40)),
        ]
        status = await api.finished(await api.submit(files, **KEEP))
        assert (status["status"], status["filesFailed"]) == ("completed", 1)
        archive = await api.archive(status["jobId"])
        page = (await api.call("GET", f"/v1/download/{status['jobId']}/files?limit=1000")).body["files"]
        for file, same in zip(status["files"], page, strict=True):
            assert file == same
            if file["status"] == "failed":
                assert "downloadUrl" not in file
                continue
            assert file["downloadUrl"] == f"/v1/download/{status['jobId']}/files/{file['index']}"
            data, headers = await fetched(api, file["downloadUrl"])
            assert data == archive.read(file["name"])
            assert headers["Content-Type"] == (file["contentType"] or "application/octet-stream")
            assert file["name"].rpartition("/")[2].replace("é", "e") in headers["Content-Disposition"]


async def test_what_has_no_link_says_why(api: Api, origin: Origin) -> None:
    """Files that were not kept, not fetched, not there, or not yet."""
    plain = (await api.finished(await api.submit([origin.url(10, "a")])))["jobId"]
    kept = (await api.finished(await api.submit([origin.url(10, "a"), origin.status(404)], **KEEP)))["jobId"]
    running = await api.submit([origin.endless()], **KEEP)
    expected = {
        f"{plain}/files/0": (404, "file_not_kept"),
        f"{kept}/files/1": (404, "file_not_kept"),
        f"{kept}/files/2": (404, "not_found"),
        f"{kept}/files/-1": (404, "not_found"),
        f"{kept}/files/x": (404, "not_found"),
        f"{running}/files/0": (409, "job_not_finished"),
    }
    found = {}
    for path in expected:
        answer = await api.call("GET", f"/v1/download/{path}")
        found[path] = (answer.status, answer.body["code"])
    assert found == expected
    assert "downloadUrl" not in (await api.status(plain))["files"][0]
    await api.call("DELETE", f"/v1/download/{running}")


@pytest.mark.parametrize("end", ["deleted", pytest.param("expired", marks=pytest.mark.slow)])
async def test_they_go_with_their_archive(start: Start, settings: dict[str, Any], origin: Origin, end: str) -> None:
    """DELETE, or the archive's expiry, and the bucket is empty."""
    lives = {"link_ttl_s": 1, "archive_ttl_s": 2 if end == "expired" else 600}
    async with start(jobs=lives, worker={"sweep_s": 0.2}) as api:
        status = await api.finished(await api.submit([origin.url(10 + n, "a") for n in range(20)], **KEEP))
        assert len(await stored(settings)) == 21
        if end == "deleted":
            await api.call("DELETE", f"/v1/download/{status['jobId']}")

        async def all_gone() -> bool:
            return not await stored(settings)

        await wait_until(all_gone)
        if end == "expired":
            answer = await api.call("GET", f"/v1/download/{status['jobId']}/files/0")
            assert (answer.status, answer.body["code"]) == (410, "archive_expired")
            assert "downloadUrl" not in (await api.status(status["jobId"]))["files"][0]


@pytest.mark.slow
async def test_a_store_that_stumbles_costs_nothing(start: Start, settings: dict[str, Any], origin: Origin) -> None:
    """A few of the calls that keep files fail, each in another way; all files arrive, in one attempt."""
    faults: list[int | str | None] = ["reset", None, 503, "lost", None, 500]
    async with relaying(settings["storage"]["endpoint_url"]) as relay:
        relay.fault = lambda call: faults.pop() if faults and _late(relay.calls) and call.operation in FAULTY else None
        async with start(storage=PART | {"endpoint_url": relay.endpoint_url}, jobs=SMALL_JOBS) as api:
            files = [*(origin.url(1000 + n, "a") for n in range(20)), origin.url(12 * MIB, "large")]
            status = await api.finished(await api.submit(files, **KEEP))
            assert (status["status"], status["attempt"], faults) == ("completed", 1, [])
            archive = await api.archive(status["jobId"])
            for file in status["files"]:
                data, _ = await fetched(api, file["downloadUrl"])
                assert data == archive.read(file["name"])


async def test_a_job_that_is_cut_off_leaves_nothing(start: Start, settings: dict[str, Any], origin: Origin) -> None:
    """Cancelled while its files are being kept: the archive, the files and the upload are swept."""
    async with relaying(settings["storage"]["endpoint_url"]) as relay:
        relay.fault = lambda call: 503 if call.operation == "UploadPart" and _late(relay.calls) else None
        async with start(
            storage=PART | {"endpoint_url": relay.endpoint_url}, jobs=SMALL_JOBS, worker={"sweep_s": 0.2}
        ) as api:
            files = [origin.url(1000, "a"), origin.url(12 * MIB, "large")]
            job = await api.submit(files, **KEEP)

            async def keeping() -> bool:
                return _late(relay.calls) and relay.calls[-1].operation == "UploadPart"

            await wait_until(keeping)
            assert (await api.status(job))["progress"] < 100
            await api.call("POST", f"/v1/download/{job}/cancel")

            async def all_gone() -> bool:
                return not await stored(settings)

            await wait_until(all_gone)


def _late(calls: list[Call]) -> bool:
    """Whether the archive has been completed."""
    return any(call.operation == "Complete" for call in calls)
