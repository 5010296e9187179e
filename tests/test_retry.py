"""Once more, please: what a job could not do becomes a new job."""

from __future__ import annotations

import pytest

from tests.api import Api
from tests.conftest import Start
from tests.files import Origin
from tests.waiting import wait_until


async def test_the_failed_files_of_a_job_become_a_new_one(api: Api, origin: Origin) -> None:
    """Two of four sources are down at first: the retry fetches these two, under their names, and nothing else."""
    names = ["a.bin", "b.bin", "c.bin", "d.bin"]
    files = [{"url": origin.flaky(100 + n, name), "name": name, "id": n} for n, name in enumerate(names)]
    origin.broken |= {"b.bin", "d.bin"}
    first = await api.submit(files, archiveName="mine.zip", options={"manifest": True})
    assert (await api.finished(first))["filesFailed"] == 2
    origin.broken.clear()
    seen = len(origin.requests)
    answer = await api.call("POST", f"/v1/download/{first}/retry")
    assert (answer.status, answer.body["totalFiles"], answer.body["status"]) == (202, 2, "queued")
    assert answer.headers["Location"] == answer.body["statusUrl"]
    status = await api.finished(answer.body["jobId"])
    assert (status["status"], status["filesCompleted"], status["archive"]["name"]) == ("completed", 2, "mine.zip")
    assert [(file["fileId"], file["name"]) for file in status["files"]] == [(1, "b.bin"), (3, "d.bin")]
    assert len(origin.requests) - seen == 2
    archive = await api.archive(answer.body["jobId"])
    assert archive.namelist() == ["b.bin", "d.bin", "manifest.json", "SHA256SUMS"]


async def test_a_failed_and_a_cancelled_job_are_done_again_as_a_whole(api: Api, origin: Origin) -> None:
    """All files of a job that failed or was cancelled are asked for again."""
    origin.broken |= {"a", "b"}
    failed = await api.submit([origin.flaky(10, "a"), origin.flaky(11, "b")])
    assert (await api.finished(failed))["errorCode"] == "all_files_failed"
    origin.broken.clear()
    cancelled = await api.submit([origin.slow(10, delay_s=5)])
    await api.call("POST", f"/v1/download/{cancelled}/cancel")
    again = await api.call("POST", f"/v1/download/{failed}/retry")
    assert (await api.finished(again.body["jobId"]))["filesCompleted"] == 2
    again = await api.call("POST", f"/v1/download/{cancelled}/retry")
    assert again.status == 202
    await api.call("DELETE", f"/v1/download/{again.body['jobId']}")


async def test_two_clicks_make_one_job(api: Api, origin: Origin) -> None:
    """The same idempotency key gives the same new job, and may not be used for another job's retry."""
    origin.broken |= {"a"}
    jobs = [await api.submit([origin.flaky(10, "a"), origin.url(n, "fine")]) for n in (1, 2)]
    for job in jobs:
        await api.finished(job)
    headers = {"Idempotency-Key": "click"}
    answers = [await api.call("POST", f"/v1/download/{jobs[0]}/retry", headers=headers) for _ in range(2)]
    assert answers[0].body["jobId"] == answers[1].body["jobId"]
    assert answers[1].headers["Idempotency-Replayed"] == "true"
    other = await api.call("POST", f"/v1/download/{jobs[1]}/retry", headers=headers)
    assert (other.status, other.body["code"]) == (422, "idempotency_mismatch")


@pytest.mark.slow
async def test_what_cannot_be_retried_says_why(start: Start, origin: Origin) -> None:
    """Active, without failures, unknown, or too long ago: each has its own answer."""
    async with start(jobs={"retry_ttl_s": 2}) as api:
        active = await api.submit([origin.slow(10, delay_s=20)])
        answer = await api.call("POST", f"/v1/download/{active}/retry")
        assert (answer.status, answer.body["code"]) == (409, "job_not_finished")
        await api.call("DELETE", f"/v1/download/{active}")
        answer = await api.call("POST", f"/v1/download/{active}/retry")
        assert (answer.status, answer.body["code"]) == (404, "job_not_found")
        whole = await api.submit([origin.url(10, "a")])
        await api.finished(whole)
        answer = await api.call("POST", f"/v1/download/{whole}/retry")
        assert (answer.status, answer.body["code"]) == (409, "nothing_to_retry")

        async def expired() -> bool:
            answer = await api.call("POST", f"/v1/download/{whole}/retry")
            return (answer.status, answer.body["code"]) == (410, "request_expired")

        await wait_until(expired)
