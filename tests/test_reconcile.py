"""`downloader reconcile`: what lies in the bucket and what is remembered are the same, or it says so."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis as RedisClient

from downloader.work.partbody import PartBody
from downloader.work.storage import Storage
from tests.conftest import Start, merged
from tests.files import Origin
from tests.test_cli import as_flag, run
from tests.waiting import wait_until

JOB = "00000000-0000-4000-8000-000000000000"


async def reconciled(settings: dict[str, Any], cwd: Path, *more: str) -> tuple[int, list[str]]:
    """Run the command; its status and lines."""
    flags = [f"--set={name}.{key}={as_flag(value)}" for name, part in settings.items() for key, value in part.items()]
    done = await run("reconcile", *flags, "--older-than", "0", *more, cwd=cwd)
    assert done.err == ""
    return done.status, done.out.splitlines()


async def test_a_service_at_work_has_nothing_to_reconcile(
    start: Start, settings: dict[str, Any], tmp_path: Path, origin: Origin
) -> None:
    """Beside finished and running jobs, even with no grace at all, nothing is taken for an orphan."""
    async with start() as api:
        done = await api.submit([origin.url(1000, "a")])
        await api.finished(done)
        running = await api.submit([origin.endless()])
        await origin.wait_for_connection()
        assert await reconciled(settings, tmp_path, "--fix") == (0, ["0 findings, 0 mended"])
        await api.archive(done)
        await api.call("POST", f"/v1/download/{running}/cancel")
        await api.finished(running)


@pytest.mark.slow
async def test_what_nobody_knows_of_is_found_and_removed(
    start: Start, settings: dict[str, Any], tmp_path: Path, origin: Origin
) -> None:
    """An object and an upload without a job are named, then removed; a stranger's object stays; a loss is told."""
    storage_settings = merged(settings, {}).storage
    prefix = storage_settings.prefix
    async with start() as api, Storage.open(storage_settings) as storage:
        job_id = await api.submit([origin.url(1000, "a")])
        await api.finished(job_id)
        (archive,) = [item.key async for item in storage.objects(prefix)]
        orphan = f"{prefix}{JOB}/1-{secrets.token_hex(8)}.zip"
        half = f"{prefix}{JOB}/2-{secrets.token_hex(8)}.zip"
        stranger = f"{prefix}somebody-elses.zip"
        for key in (orphan, stranger):
            await storage.put(key, PartBody([b"x"]))
        await storage.create_upload(half, "application/zip")
        await storage.delete(archive)
        status, lines = await reconciled(settings, tmp_path)
        assert status == 1
        assert sorted(line.split(": ")[0] for line in lines[:-1]) == [
            "missing archive",
            "orphan object",
            "orphan upload",
        ]
        status, lines = await reconciled(settings, tmp_path, "--fix")
        assert (status, lines[-1]) == (1, "3 findings, 2 mended")
        await api.call("DELETE", f"/v1/download/{job_id}")
        assert await reconciled(settings, tmp_path) == (0, ["0 findings, 0 mended"])
        assert [item.key async for item in storage.objects(prefix)] == [stranger]
        await storage.delete(stranger)


@pytest.mark.slow
async def test_a_job_that_fell_out_of_every_queue_is_put_back(
    start: Start, settings: dict[str, Any], tmp_path: Path, origin: Origin
) -> None:
    """Somebody emptied the queue by hand: the job is found, put back, and done."""
    client = RedisClient.from_url(settings["redis"]["url"])
    prefix = f"{{{settings['redis']['prefix']}}}:"
    async with start(worker={"concurrency": 0}) as front:
        job_id = await front.submit([origin.url(1000, "a")])
        async for key in client.scan_iter(f"{prefix}ready:*"):
            await client.delete(key)
        await client.delete(f"{prefix}ring")
        assert (await reconciled(settings, tmp_path))[0] == 1
        status, lines = await reconciled(settings, tmp_path, "--fix")
        assert (status, lines[0].split(": ")[:2]) == (0, ["lost job", job_id])
        async with start():

            async def completed() -> bool:
                return bool((await front.status(job_id))["status"] == "completed")

            await wait_until(completed)
    await client.aclose()
