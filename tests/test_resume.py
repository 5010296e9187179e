"""An heir goes on where a dead attempt stopped: what is kept, what is fetched again, and what a zombie cannot spoil."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from downloader.work.storage import Storage
from tests.conftest import Start, merged
from tests.fakes3 import fake_s3
from tests.files import Origin, content
from tests.test_cli import serving
from tests.waiting import wait_until

MIB = 1024 * 1024
PART = {"storage": {"part_bytes": 5 * MIB}, "jobs": {"max_job_bytes": 1024**3}}
QUICK = {"lease_s": 1, "renew_s": 0.3, "reap_s": 0.2, "sweep_s": 0.5}


def with_(settings: dict[str, Any], **changes: dict[str, Any]) -> dict[str, Any]:
    """Settings of a test with small parts and short leases, and `changes`."""
    sections: dict[str, dict[str, Any]] = {"worker": QUICK, **PART}
    for name, part in changes.items():
        sections[name] = sections.get(name, {}) | part
    return {name: settings.get(name, {}) | sections.get(name, {}) for name in {**settings, **sections}}


async def leftovers(settings: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Keys of objects and of unfinished uploads below the test's prefix."""
    storage_settings = merged(settings, {}).storage
    async with Storage.open(storage_settings) as storage:
        objects = [item.key async for item in storage.objects(storage_settings.prefix)]
        uploads = [item.key async for item in storage.uploads(storage_settings.prefix)]
    return objects, uploads


async def only_the_archive_is_left(settings: dict[str, Any]) -> None:
    """Wait until the bucket has one object of this test and no upload."""

    async def clean() -> bool:
        objects, uploads = await leftovers(settings)
        return len(objects) == 1 and not uploads

    await wait_until(clean)


def files(origin: Origin, count: int, size: int) -> list[dict[str, Any]]:
    """Sources of `size` bytes each; every seventh has a name that only its position settles."""
    return [
        {"url": origin.url(size, f"f{n}"), "name": "same.bin" if n % 7 == 0 else f"{n}.bin", "id": n}
        for n in range(count)
    ]


async def right(archive: Any, status: dict[str, Any], size: int) -> None:
    """Every file of the job is in the archive once, byte for byte."""
    names = {file["fileId"]: file["name"] for file in status["files"]}
    assert sorted(archive.namelist()) == sorted(names.values())
    assert len(set(names.values())) == len(names)
    for number, name in names.items():
        assert archive.read(name) == content(size, f"f{number}")


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
async def test_what_is_confirmed_is_not_fetched_again(
    start: Start, settings: dict[str, Any], tmp_path: Path, origin: Origin, how: signal.Signals
) -> None:
    """A worker ends at four fifths of a hundred files: the next attempt fetches only what was not yet stored."""
    size, count = MIB, 100
    async with start(**with_(settings, worker={"concurrency": 0})) as front:
        async with serving(with_(settings, worker={"parts_in_flight": 1}), tmp_path) as (process, _):
            job_id = await front.submit(files(origin, count, size), options={"manifest": True})

            async def mostly_packed() -> bool:
                return bool((await front.status(job_id))["filesCompleted"] >= count * 8 // 10)

            await wait_until(mostly_packed)
            process.send_signal(how)
            await process.wait()
            before = len(origin.requests)
        async with start(**with_(settings)):
            status = await front.finished(job_id)
            assert (status["status"], status["filesCompleted"]) == ("completed", count)
            assert status["attempt"] == (2 if how is signal.SIGKILL else 1)
            assert status["bytesFetched"] == status["bytesTotal"] == size * count
            archive = await front.archive(job_id)
            after = len(origin.requests) - before
            print(f"{before} of {count} files asked for before, {after} after")
            assert after < count * 0.4
            assert archive.namelist()[-2:] == ["manifest.json", "SHA256SUMS"]
            names = {file["fileId"]: file["name"] for file in status["files"]}
            for number, name in names.items():
                assert archive.read(name) == content(size, f"f{number}")
            await only_the_archive_is_left(settings)


@pytest.mark.slow
async def test_a_zombie_spoils_nothing(start: Start, settings: dict[str, Any], tmp_path: Path, origin: Origin) -> None:
    """A worker that is paused beyond its lease and then goes on neither stores nor deletes anything of its heir's."""
    size, count = MIB, 40
    async with (
        start(**with_(settings, worker={"concurrency": 0})) as front,
        serving(with_(settings), tmp_path) as (zombie, _),
    ):
        job_id = await front.submit(files(origin, count, size))
        await wait_until(lambda: len(origin.requests) >= count * 7 // 10)
        os.kill(zombie.pid, signal.SIGSTOP)
        origin.delay_s = 0.2  # so that the heir is at work when the zombie comes back

        async def taken_over() -> bool:
            status = await front.status(job_id)
            return bool(status["attempt"] == 2 and status["status"] == "processing")

        async with start(**with_(settings)):
            await wait_until(taken_over)
            os.kill(zombie.pid, signal.SIGCONT)
            status = await front.finished(job_id)
            assert (status["status"], status["attempt"]) == ("completed", 2)
            await right(await front.archive(job_id), status, size)
            await only_the_archive_is_left(settings)
            await right(await front.archive(job_id), status, size)


@pytest.mark.slow
async def test_an_upload_that_is_gone_means_a_clean_start(
    start: Start, settings: dict[str, Any], tmp_path: Path, origin: Origin
) -> None:
    """Somebody else ended the dead attempt's upload: the heir begins from nothing and the archive is right."""
    size, count = MIB, 40  # killed well before its end, when there is no upload any more
    async with start(**with_(settings, worker={"concurrency": 0})) as front:
        async with serving(with_(settings), tmp_path) as (process, _):
            job_id = await front.submit(files(origin, count, size))

            async def has_stored_parts() -> bool:
                return bool((await front.status(job_id))["filesCompleted"] >= count * 4 // 10)

            await wait_until(has_stored_parts)
            process.kill()
            await process.wait()
        storage_settings = merged(settings, {}).storage
        async with Storage.open(storage_settings) as storage:
            found = [item async for item in storage.uploads(storage_settings.prefix)]
            assert len(found) == 1
            await storage.abort(found[0].key, found[0].upload_id)
        async with start(**with_(settings)):
            status = await front.finished(job_id)
            assert (status["status"], status["attempt"]) == ("completed", 2)
            await right(await front.archive(job_id), status, size)
            await only_the_archive_is_left(settings)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [None, 501, 403, "reset"])
async def test_a_store_that_copies_no_parts_means_a_clean_start(
    start: Start, settings: dict[str, Any], tmp_path: Path, origin: Origin, fault: int | str | None
) -> None:
    """Copying is refused: the heir begins from nothing. An answer that is lost is asked for again."""
    size, count = MIB, 30
    async with fake_s3() as store:
        store.fault = lambda call: (
            fault if call.operation == "CopyPart" and (call.time == 1 or fault != "reset") else None
        )
        fake = with_(settings | {"storage": store.settings().model_dump()})
        async with start(**{**fake, "worker": QUICK | {"concurrency": 0}}) as front:
            async with serving(fake, tmp_path) as (process, _):
                job_id = await front.submit(files(origin, count, size))
                await wait_until(lambda: any(len(parts) >= 4 for parts in store.uploads.values()))
                process.kill()
                await process.wait()
            seen = len(origin.requests)
            async with start(**fake):
                status = await front.finished(job_id)
                assert (status["status"], status["attempt"]) == ("completed", 2)
                await right(await front.archive(job_id), status, size)
                refetched = len(origin.requests) - seen
                assert store.made("CopyPart")
                assert (refetched == count) == (fault in (501, 403))
                await wait_until(lambda: len(store.objects) == 1 and not store.uploads)


@pytest.mark.slow
async def test_an_heir_that_dies_too_is_followed_by_another(
    start: Start, settings: dict[str, Any], tmp_path: Path, origin: Origin
) -> None:
    """Two workers die one after the other: the third, alone with the job, goes on from the better checkpoint."""
    size, count = MIB, 60
    paced = settings | {"limits": settings.get("limits", {}) | {"bytes_per_s": 30 * MIB}}  # the store keeps up with it
    async with start(**with_(settings, worker={"concurrency": 0})) as front:
        job_id = await front.submit(files(origin, count, size))
        for share in (0.5, 0.8):
            async with serving(with_(paced), tmp_path) as (process, _):
                seen = len(origin.requests)
                missing = count if share == 0.5 else count // 2
                await wait_until(lambda seen=seen, missing=missing: len(origin.requests) - seen >= missing // 2)
                process.kill()
                await process.wait()
        async with start(**with_(settings)):
            status = await front.finished(job_id)
            assert (status["status"], status["attempt"]) == ("completed", 3)
            await right(await front.archive(job_id), status, size)
            await only_the_archive_is_left(settings)
            assert len(origin.requests) < count * 2
