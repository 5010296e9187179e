"""The list of jobs, and calls that are held until a job ends."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.api import Api
from tests.conftest import Start
from tests.files import Origin
from tests.gated import gated_source
from tests.tenants import tenant
from tests.waiting import wait_until

JOBS = "/v1/download/jobs"


async def pages(api: Api, path: str) -> list[list[str]]:
    """The ids of all pages, found by their Link headers."""
    found = []
    while True:
        answer = await api.call("GET", path)
        assert answer.status == 200, answer
        found.append([job["jobId"] for job in answer.body["jobs"]])
        link = answer.headers.get("Link")
        if link is None:
            assert answer.body["next"] is None
            return found
        assert answer.body["next"] in link
        path = link.partition("<")[2].partition(">")[0]


def flat(found: list[list[str]]) -> list[str]:
    """The ids of all pages in one list."""
    return [job_id for page in found for job_id in page]


async def test_jobs_are_listed_newest_first_and_page_by_page(api: Api, origin: Origin) -> None:
    """Every job stands once, though jobs come and go between the pages; the filter takes several states."""
    ids = [await api.submit([origin.url(100, str(number))]) for number in range(7)]
    bad = await api.submit([origin.status(404)])
    for job_id in (*ids, bad):
        await api.finished(job_id)
    assert flat(await pages(api, f"{JOBS}?limit=3")) == [bad, *reversed(ids)]
    assert await pages(api, f"{JOBS}?limit=3&status=failed") == [[bad]]
    assert flat(await pages(api, f"{JOBS}?limit=2&status=failed,completed")) == [bad, *reversed(ids)]
    assert await pages(api, f"{JOBS}?status=queued&status=processing") == [[]]
    first = await api.call("GET", f"{JOBS}?limit=4")
    cursor = first.body["next"]
    assert cursor.endswith(ids[4])
    await api.call("DELETE", f"/v1/download/{ids[4]}")  # the job that the cursor names
    await api.finished(await api.submit([origin.url(100, "new")]))
    assert flat(await pages(api, f"{JOBS}?limit=4&after={cursor}")) == list(reversed(ids[:4]))
    listed = first.body["jobs"][1]
    assert "files" not in listed
    assert listed | {"files": None} == await api.status(listed["jobId"]) | {"files": None}


async def test_a_wrong_list_call_names_its_parameter(api: Api) -> None:
    """Limit, state and cursor are checked, and the remedy is said."""
    for query, pointer in (
        ("limit=0", "/limit"),
        ("limit=201", "/limit"),
        ("status=done", "/status"),
        ("after=x", "/after"),
    ):
        answer = await api.call("GET", f"{JOBS}?{query}")
        assert (answer.status, answer.body["errors"][0]["pointer"]) == (400, pointer)


async def test_a_call_is_held_until_the_job_ends(start: Start, settings: dict[str, Any], origin: Origin) -> None:
    """`Prefer: wait` on initiate gives the finished job at once; where time runs out there is the usual answer.

    A held status call ends with the job, on any replica.
    """
    async with (
        start(access={"open": False}) as first,
        start(access={"open": False}) as second,
        tenant(settings, first.base, "acme") as acme,
        gated_source() as gated,
    ):
        async with asyncio.timeout(30):  # the job's end is told, and not only found when the time is over
            answer = await acme.initiate([origin.url(1000, "a")], headers={"Prefer": "respond-async, wait=59"})
        assert (answer.status, answer.body["status"]) == (200, "completed")
        assert answer.headers["Preference-Applied"] == "wait=59"
        assert answer.body["files"][0]["status"] == "done"
        brief = await acme.initiate([gated.held(1000)], headers={"Prefer": "wait=0"})
        assert (brief.status, brief.body["status"]) == (202, "queued")
        job_id = brief.body["jobId"]
        acme.base = second.base
        held = asyncio.create_task(acme.call("GET", f"/v1/download/status/{job_id}", headers={"Prefer": "wait=60"}))

        async def runs() -> bool:
            return bool((await acme.status(job_id))["status"] == "processing")

        await wait_until(runs)
        assert not held.done()
        gated.gate.set()
        async with asyncio.timeout(30):
            ended = await held
        assert (ended.status, ended.body["status"], ended.headers["Preference-Applied"]) == (
            200,
            "completed",
            "wait=60",
        )
        once = await acme.call("GET", f"/v1/download/status/{job_id}", headers={"Prefer": "wait=60"})
        assert once.body["status"] == "completed"


async def test_held_calls_end_with_the_service(start: Start) -> None:
    """A replica that stops answers those it holds instead of cutting them off."""
    async with gated_source() as gated:
        async with start() as api:
            job_id = await api.submit([gated.held(1000)])
            held = asyncio.create_task(api.call("GET", f"/v1/download/status/{job_id}", headers={"Prefer": "wait=60"}))
            await wait_until(lambda: gated.requests)
        async with asyncio.timeout(30):
            answer = await held
        assert answer.status == 200
        assert answer.body["status"] in {"processing", "queued"}
        async with start() as last:  # where the job goes on
            gated.gate.set()
            assert (await last.finished(job_id))["status"] == "completed"
