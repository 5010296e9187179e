"""Storing: what goes over the wire to a real store, and what is made of every way in which a store can fail."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import botocore.exceptions
import pytest
from botocore.exceptions import ClientError

from downloader.errors import StartError, StorageError, UnavailableError
from downloader.work.archive import ArchiveWriter, EntryHead, Method
from downloader.work.budget import ByteBudget
from downloader.work.partbody import PartBody
from downloader.work.storage import Storage
from downloader.work.storage_clients import s3_clients
from downloader.work.storage_errors import (
    BY_CLASS,
    FOREIGN,
    REFUSED,
    UNANSWERED,
    UNREACHED,
    CallError,
    PartError,
    failure_of,
    sentence,
    translated,
)
from downloader.work.traits import Traits
from tests.fakes3 import Call, FakeS3, Fault, fake_s3
from tests.ledger import MemoryLedger
from tests.readers import read_python
from tests.servers import S3, free_ports, resident_bytes, start_weed
from tests.waiting import wait_until
from tests.ziplint import lint

MIB = 1024 * 1024
KEY = "jobs/a1.zip"
PART = 5 * MIB
SOURCE = random.Random(3)
BLOCK = SOURCE.randbytes(MIB)


@pytest.fixture(scope="module")
def weed() -> Iterator[S3]:
    """One SeaweedFS for the module."""
    with start_weed() as s3:
        yield s3


@asynccontextmanager
async def opened(store: FakeS3 | S3, **more: Any) -> AsyncIterator[Storage]:
    async with Storage.open(store.settings(**more)) as storage:
        await storage.prepare()
        yield storage


def writer(
    storage: Storage, key: str = KEY, budget: ByteBudget | None = None, ledger: MemoryLedger | None = None
) -> ArchiveWriter:
    budget, ledger = budget or ByteBudget(64 * MIB), ledger or MemoryLedger()
    return ArchiveWriter(storage, key, part_bytes=PART, parts_in_flight=4, budget=budget, ledger=ledger)


async def add(archive: ArchiveWriter, index: int, blocks: int, block: bytes = BLOCK) -> None:
    """Add an entry of so many MiB."""
    await archive.begin(EntryHead(index, f"{index}.bin", datetime(2026, 11, 25, tzinfo=UTC)))
    await archive.write([block] * blocks)
    await archive.commit(zlib.crc32(block * blocks), len(block) * blocks)


async def whole(storage: Storage, key: str, size: int) -> bytes:
    return b"".join([piece async for piece in storage.read(key, 0, size)])


# ---------------------------------------------------------------- a real store


def test_an_archive_of_many_parts_comes_out_whole(weed: S3, tmp_path: Path) -> None:
    """Entries over several parts, rolled back after parts have flown, and stored again: what is read is right."""

    async def story() -> bytes:
        budget = ByteBudget(64 * MIB)
        async with opened(weed) as storage:
            archive = writer(storage, "w/many.zip", budget)
            await add(archive, 0, 7)
            await archive.begin(EntryHead(1, "lost.bin"))
            await archive.write([BLOCK] * 27)
            await archive.rollback()
            await add(archive, 2, 13, BLOCK[::-1])
            made = await archive.finish()
            assert budget.used_bytes == 0
            assert made.etag.endswith("-5")
            assert await storage.head("w/many.zip") is not None
            return await whole(storage, made.key, made.size)

    data = asyncio.run(story())
    assert [entry.name for entry in lint(data).entries] == ["0.bin", "2.bin"]
    path = tmp_path / "many.zip"
    path.write_bytes(data)
    assert [found.crc32 for found in read_python(path)] == [zlib.crc32(BLOCK * 7), zlib.crc32(BLOCK[::-1] * 13)]


def test_giving_up_leaves_neither_upload_nor_object(weed: S3) -> None:
    """Swept during the upload, and after the archive was finished: the bucket has nothing left of it (D01)."""

    async def story() -> None:
        async with opened(weed) as storage:
            ledger = MemoryLedger()
            archive = writer(storage, "w/given-up.zip", ledger=ledger)
            await archive.begin(EntryHead(0, "a"))
            await archive.write([BLOCK] * 12)
            await archive.close()
            ledger.stored["w/given-up.zip"] = ""  # as if it had died before it could say which upload
            await ledger.sweep(storage)
            archive = writer(storage, "w/given-up.zip", ledger=ledger)
            await add(archive, 0, 6)
            await archive.finish()
            await archive.close()
            await ledger.sweep(storage)
            await ledger.sweep(storage)
            assert await storage.head("w/given-up.zip") is None
            async with s3_clients(weed.settings()) as clients:
                uploads = await clients.api.list_multipart_uploads(Bucket="downloads", Prefix="w/given-up")
            assert uploads.get("Uploads", []) == []

    asyncio.run(story())


def test_the_store_is_found_to_check_checksums(weed: S3) -> None:
    """SeaweedFS takes CRC-32 and refuses a wrong one, so every part carries it; "none" sends none."""

    async def story() -> None:
        async with opened(weed) as storage:
            assert await storage.traits() == Traits(checks_crc32=True, etags_are_md5=True)
            upload_id = await storage.create_upload("w/x", "application/zip")
            assert (await storage.upload_part("w/x", upload_id, 1, PartBody([b"abc"]))).crc32 == "NSRBwg=="
            await storage.abort("w/x", upload_id)
            await storage.abort("w/x", upload_id)
        async with opened(weed, checksums="none") as storage:
            assert await storage.traits() == Traits(checks_crc32=False, etags_are_md5=True)

    asyncio.run(story())


def test_small_calls_do_what_they_say(weed: S3) -> None:
    """Put, head, ranged read and delete; what is not there is None or fine."""

    async def story() -> None:
        async with opened(weed, bucket="another-bucket") as storage:
            await storage.ping()
            etag = await storage.put("w/é (1).txt", PartBody([b"hello ", b"world"]), "text/plain", "attachment")
            info = await storage.head("w/é (1).txt")
            assert info is not None
            assert (info.size, info.etag) == (11, etag)
            assert [piece async for piece in storage.read("w/é (1).txt", 2, 8)] == [b"llo wo"]
            with pytest.raises(StorageError, match="range"):
                await whole(storage, "w/é (1).txt", 12)
            await storage.delete("w/é (1).txt")
            await storage.delete("w/é (1).txt")
            assert await storage.head("w/é (1).txt") is None

    asyncio.run(story())


def test_settings_that_cannot_work_end_the_start_with_one_line(weed: S3) -> None:
    """A wrong secret and a missing bucket name the remedy and no secret; a store that is away is only away."""

    async def story() -> None:
        for more, word in (
            ({"secret_access_key": "wrong-secret"}, "secret_access_key"),
            ({"bucket": "not-there", "create_bucket": False}, "create_bucket"),
            ({"endpoint_url": "no-scheme"}, "endpoint_url"),
        ):
            with pytest.raises(StartError) as caught:
                async with opened(weed, **more):
                    pass
            assert word in caught.value.message
            assert "wrong-secret" not in caught.value.message
            assert "\n" not in caught.value.message
        (port,) = free_ports(1)
        async with Storage.open(weed.settings(endpoint_url=f"http://user:pw@127.0.0.1:{port}")) as storage:
            with pytest.raises(UnavailableError) as away:
                await storage.ping()
            assert "pw" not in away.value.message

    asyncio.run(story())


# ---------------------------------------------------------------- on the wire


def test_parts_go_out_unchunked_unsigned_and_with_their_checksum() -> None:
    """Content-Length, no aws-chunked, UNSIGNED-PAYLOAD, CRC-32 as a header: what every store understands (D04)."""

    async def story() -> None:
        async with fake_s3() as store, opened(store) as storage:
            archive = writer(storage)
            await add(archive, 0, 12)
            await archive.finish()
            assert hashlib.sha256(store.objects[KEY]).digest()
            (begun,) = store.made("CreateUpload")
            assert begun.headers["x-amz-checksum-algorithm"] == "CRC32"
            parts = store.made("UploadPart")
            assert [int(call.headers["Content-Length"]) for call in parts][:2] == [PART, PART]
            for call in parts:
                assert "Transfer-Encoding" not in call.headers
                assert "Content-Encoding" not in call.headers
                assert "x-amz-trailer" not in call.headers
                assert call.headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
                assert len(call.headers["x-amz-checksum-crc32"]) == 8

    asyncio.run(story())


def test_a_store_that_refuses_checksums_gets_none() -> None:
    """A 501 for x-amz-checksum-* is found out once, when the store is tried; the archive is stored without (D04)."""

    def refuse(call: Call) -> int | None:
        return 501 if any(name.lower().startswith("x-amz-checksum") for name in call.headers) else None

    async def story() -> None:
        async with fake_s3(refuse) as store, opened(store) as storage:
            assert await storage.traits() == Traits(checks_crc32=False, etags_are_md5=True)
            archive = writer(storage)
            await add(archive, 0, 6)
            await archive.finish()
            lint(store.objects[KEY])

    asyncio.run(story())


# ---------------------------------------------------------------- faults


def _first(answers: list[int | str]) -> Fault:
    """Every part fails once, each in the next way."""

    def fault(call: Call) -> int | str | None:
        if call.operation != "UploadPart" or call.time > 1 or ".probe/" in call.key:
            return None
        return answers[call.number % len(answers)]

    return fault


@pytest.mark.parametrize("answers", [[500], [503], ["reset"], ["lost"], [500, 503, "reset", "lost", 502]])
def test_every_part_may_fail_once(answers: list[int | str]) -> None:
    """A 500, a SlowDown, a reset in mid-body and a lost answer are survived, and the object is right (D07)."""

    async def story() -> None:
        async with fake_s3(_first(answers)) as store, opened(store) as storage:
            archive = writer(storage)
            await add(archive, 0, 17)
            made = await archive.finish()
            assert made.size == len(store.objects[KEY])
            (entry,) = lint(store.objects[KEY]).entries
            assert zlib.crc32(store.objects[KEY][entry.end - entry.size : entry.end]) == entry.crc32
            assert {call.time for call in store.made("UploadPart")} == {1, 2}

    asyncio.run(story())


@pytest.mark.parametrize("how", [500, 503, "reset", "lost"])
def test_a_small_archive_survives_a_failed_put(how: int | str) -> None:
    """An archive of one part is a plain object; its body is rewound and sent again (D07)."""

    async def story() -> None:
        async with (
            fake_s3(lambda call: how if call.operation == "Put" and call.time == 1 else None) as store,
            opened(store) as storage,
        ):
            archive = writer(storage)
            await add(archive, 0, 2)
            await archive.finish()
            assert len(store.made("Put")) == 2
            assert [entry.size for entry in lint(store.objects[KEY]).entries] == [2 * MIB]

    asyncio.run(story())


def test_a_part_that_is_refused_fails_the_archive_and_is_swept() -> None:
    """A 403 is not tried again; the error has a stable code, and no upload is left (D01)."""

    async def story() -> None:
        async with (
            fake_s3(lambda call: 403 if call.number == 2 else None) as store,
            opened(store) as storage,
        ):
            ledger = MemoryLedger()
            archive = writer(storage, ledger=ledger)
            with pytest.raises(StorageError) as caught:
                await add(archive, 0, 30)
            assert (caught.value.code, caught.value.transient) == ("storage_failed", False)
            assert "secret detail" not in caught.value.message
            await archive.rollback()
            await archive.close()
            await ledger.sweep(storage)
            assert store.uploads == {}
            assert len([call for call in store.made("UploadPart") if call.number == 2]) == 1

    asyncio.run(story())


@pytest.mark.parametrize("how", ["lost", "late"])
def test_a_number_whose_answer_was_lost_is_burnt_by_a_rollback(how: str) -> None:
    """A PUT that may still land must not replace what comes after it: its number is skipped, and Complete has a gap."""
    ambiguous = {2}

    def fault(call: Call) -> str | None:
        return how if call.operation == "UploadPart" and call.number in ambiguous and call.time == 1 else None

    async def story() -> None:
        async with fake_s3(fault) as store, opened(store) as storage:
            archive = writer(storage)
            await archive.begin(EntryHead(0, "lost.bin"))
            await archive.write([BLOCK] * 16)
            if how == "late":
                asyncio.get_running_loop().call_later(0.2, store.release.set)
            await archive.rollback()
            await add(archive, 1, 16, BLOCK[::-1])
            made = await archive.finish()
            # Parts 1 and 3 were definitely answered and are used again.
            kept = [call.number for call in store.made("UploadPart")]
            assert 2 not in kept[-4:]
            assert {1, 3, 4} <= set(kept)
            assert made.etag.endswith("-4")
            assert [entry.name for entry in lint(store.objects[KEY]).entries] == ["1.bin"]

    asyncio.run(story())


@pytest.mark.slow
def test_a_part_that_never_answers_is_cut_off_by_a_rollback_and_burnt() -> None:
    """The rollback waits a while, then goes on without the part; what lands later changes nothing."""

    def fault(call: Call) -> str | None:
        return "late" if call.operation == "UploadPart" and (call.number, call.time) == (2, 1) else None

    async def story() -> None:
        async with fake_s3(fault) as store, opened(store) as storage:
            archive = writer(storage)
            await archive.begin(EntryHead(0, "lost.bin"))
            await archive.write([BLOCK] * 11)
            await archive.rollback()
            before = len(store.made("UploadPart"))
            await add(archive, 1, 11, BLOCK[::-1])
            store.release.set()
            made = await archive.finish()
            assert {call.number for call in store.made("UploadPart")[before:]} == {1, 3, 4}
            assert made.etag.endswith("-3")
            assert lint(store.objects[KEY]).entries[0].name == "1.bin"

    asyncio.run(story())


@pytest.mark.parametrize("how", ["error-body", "lost-error-body", "empty", "spaces", "lost", 500, 503, 504])
def test_complete_may_fail_once_in_any_way(how: int | str) -> None:
    """200 with an Error, nothing or white space, a lost answer, NoSuchUpload after success: all settle (D05)."""

    def fault(call: Call) -> int | str | None:
        return how if call.operation == "Complete" and call.time == 1 else None

    async def story() -> None:
        async with fake_s3(fault) as store, opened(store) as storage:
            archive = writer(storage)
            await add(archive, 0, 6)
            made = await archive.finish()
            assert made.etag == store.etags[KEY]
            lint(store.objects[KEY])

    asyncio.run(story())


@pytest.mark.parametrize("how", [pytest.param("error-body", marks=pytest.mark.slow), 403])
def test_complete_that_always_fails_fails_the_archive(how: int | str) -> None:
    """Nothing is called finished, and the sweep leaves neither upload nor object."""

    async def story() -> None:
        async with (
            fake_s3(lambda call: how if call.operation == "Complete" else None) as store,
            opened(store) as storage,
        ):
            ledger = MemoryLedger()
            archive = writer(storage, ledger=ledger)
            await add(archive, 0, 6)
            with pytest.raises(StorageError) as caught:
                await archive.finish()
            assert caught.value.code == ("storage_unavailable" if how == "error-body" else "storage_failed")
            await archive.close()
            await ledger.sweep(storage)
            assert (store.uploads, store.objects) == ({}, {})

    asyncio.run(story())


def test_an_upload_that_was_fenced_off_is_not_taken_for_completed() -> None:
    """NoSuchUpload counts as success only with the whole object there; an heir's shorter one is not ours."""

    async def story() -> None:
        async with fake_s3() as store, opened(store) as storage:
            archive = writer(storage)
            await add(archive, 0, 6)
            (upload_id,) = store.uploads
            parts = store.uploads.pop(upload_id)
            store.objects[KEY], store.etags[KEY] = parts.get(1, b""), "0" * 32 + "-1"
            with pytest.raises(StorageError) as caught:
                await archive.finish()
            assert caught.value.transient

    asyncio.run(story())


@pytest.mark.parametrize("operation", ["CreateUpload", "UploadPart", "Complete", "Head", "Get"])
def test_finish_may_be_cancelled_at_any_moment_and_cleaned_up(operation: str) -> None:
    """Cancelled while Create, parts, Complete or the check are under way: the sweep leaves nothing (D01)."""

    async def story() -> None:
        async with fake_s3() as store, opened(store) as storage:
            store.fault = lambda call: "late" if call.operation == operation and call.time == 1 else None
            budget, ledger = ByteBudget(64 * MIB), MemoryLedger()
            archive = writer(storage, budget=budget, ledger=ledger)

            async def pack() -> None:
                await add(archive, 0, 12)
                await archive.finish()

            packing = asyncio.create_task(pack())
            await wait_until(lambda: store.made(operation))
            packing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await packing
            store.release.set()
            await archive.close()
            await ledger.sweep(storage)
            assert (store.uploads, store.objects, budget.used_bytes) == ({}, {}, 0)

    asyncio.run(story())


def test_an_upload_begun_by_a_lost_request_is_ended() -> None:
    """The answer to Create is lost and the SDK asks again: the first upload, whose id nobody saw, is ended (D01)."""

    async def story() -> None:
        async with fake_s3() as store, opened(store) as storage:
            store.fault = lambda call: "lost" if call.operation == "CreateUpload" and call.time == 1 else None
            archive = writer(storage)
            await add(archive, 0, 6)
            await archive.finish()
            assert len(store.made("CreateUpload")) == 2
            assert store.uploads == {}

    asyncio.run(story())


# ---------------------------------------------------------------- the border


def _instance(kind: type[BaseException]) -> BaseException:
    """An error of this kind with whatever its constructor wants."""
    if kind is ClientError:
        answered: BaseException = _answer(500, "InternalError")
        return answered
    if issubclass(kind, botocore.exceptions.BotoCoreError):
        words: dict[str, Any] = dict.fromkeys(
            ("endpoint_url", "error", "proxy_url", "provider", "error_msg", "report", "msg", "name", "request"),
            "http://user:pw@host/?X-Amz-Signature=pw",
        )
        made: BaseException = kind(**words)
        return made
    other: BaseException = kind("pw")
    return other


def _answer(status: int, code: str) -> ClientError:
    response = {"Error": {"Code": code, "Message": "pw"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "UploadPart")


@pytest.mark.parametrize("kind", [*[row[0] for row in BY_CLASS], ClientError, botocore.exceptions.NoCredentialsError])
def test_every_foreign_error_becomes_one_of_ours_without_its_secrets(kind: type[BaseException]) -> None:
    """The table is whole: each class that can cross the border is caught there, and its text stays behind."""
    error = _instance(kind)
    assert isinstance(error, FOREIGN)
    with pytest.raises(PartError) as caught, translated("uploading part 1", PartError):
        raise error
    assert caught.value.__cause__ is error
    assert "pw" not in caught.value.message
    assert caught.value.code in ("storage_unavailable", "storage_failed")


@pytest.mark.parametrize(
    ("status", "code", "transient", "ambiguous"),
    [
        (403, "AccessDenied", False, False),
        (400, "BadDigest", True, False),
        (400, "RequestTimeout", True, False),
        (404, "NoSuchUpload", False, False),
        (429, "", True, False),
        (500, "InternalError", True, False),
        (501, "NotImplemented", False, False),
        (502, "", True, True),
        (503, "SlowDown", True, False),
        (504, "", True, True),
    ],
)
def test_answers_mean_what_the_table_says(status: int, code: str, transient: bool, ambiguous: bool) -> None:
    """A gateway's answer says nothing about the store behind it; the store's own is definite."""
    failure = failure_of(_answer(status, code))
    assert (failure.transient, failure.ambiguous) == (transient, ambiguous)


def test_a_reset_is_not_taken_for_a_refused_connection() -> None:
    """The SDK calls both EndpointConnectionError; only what never connected is unambiguous."""

    def wrapped(inner: Exception) -> BaseException:
        try:
            try:
                raise inner
            except aiohttp.ClientError as error:
                raise botocore.exceptions.EndpointConnectionError(endpoint_url="x", error=error) from error
        except botocore.exceptions.EndpointConnectionError as error:
            outer: BaseException = error
        return outer

    refused = aiohttp.ClientConnectorError(None, ConnectionRefusedError())  # type: ignore[arg-type]
    assert failure_of(wrapped(refused)) is UNREACHED
    assert failure_of(wrapped(aiohttp.ClientOSError(104, "reset"))) is UNANSWERED
    assert failure_of(ValueError()) is REFUSED


def test_the_stores_code_is_shown_only_when_it_is_a_word() -> None:
    """A hostile or broken store cannot write into our messages."""
    assert sentence(_answer(500, "Internal<script>"), "x") == "x: the store answered 500"
    assert sentence(_answer(500, "InternalError"), "x") == "x: the store answered 500 InternalError"
    assert issubclass(PartError, CallError)


@pytest.mark.slow
def test_storing_keeps_memory_flat(weed: S3) -> None:
    """A quarter of a GiB through 5 MiB parts takes a few parts' worth of memory, not the archive's."""

    async def story() -> None:
        async with opened(weed) as storage:
            archive = writer(storage, "w/large.zip")
            before = resident_bytes(os.getpid())
            await archive.begin(EntryHead(0, "large.bin", None, Method.STORED, 256 * MIB))
            crc32 = 0
            for _ in range(256):
                block = bytes(MIB)
                crc32 = zlib.crc32(block, crc32)
                await archive.write([block])
            await archive.commit(crc32, 256 * MIB)
            await archive.finish()
            assert resident_bytes(os.getpid()) - before < 100 * MIB

    asyncio.run(story())
