"""Encryption at rest and tags: what the operator wants of every stored object."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

import pytest

from downloader.errors import ConfigError
from downloader.settings import load
from downloader.work.archive import ArchiveWriter
from downloader.work.budget import ByteBudget
from downloader.work.partbody import PartBody
from downloader.work.storage import Storage
from downloader.work.storage_clients import s3_clients
from downloader.work.zipformat import EntryHead
from tests.conftest import Start
from tests.fakes3 import FakeS3, fake_s3
from tests.files import Origin, content
from tests.ledger import MemoryLedger
from tests.servers import S3

MIB = 1024 * 1024
TAGS = ["cost centre=R+D: x=1", "owner=me"]
ASKED = ("x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id", "x-amz-tagging")
GIVEN = ("aws:kms", "key-1", "cost%20centre=R%2BD%3A%20x%3D1&owner=me")


def asked(store: FakeS3, *operations: str) -> set[tuple[str | None, ...]]:
    """What the calls of these operations had in the headers of encryption and tags, probing included."""
    calls = [call for call in store.calls if call.operation in operations]
    return {tuple(call.headers.get(name) for name in ASKED) for call in calls}


def test_every_object_begins_with_the_wish_and_a_kms_etag_is_not_taken_for_an_md5() -> None:
    """One put, many parts and copied parts: the wish goes with the beginning alone, and what is stored is verified."""

    async def story() -> None:
        wishes = {"sse": "aws:kms", "sse_kms_key_id": "key-1", "tags": TAGS}
        async with fake_s3() as store, Storage.open(store.settings(**wishes)) as storage:
            # The store may encrypt otherwise than asked, so its ETags say nothing even if it was found to give MD5s.
            await storage.prepare()
            store.kms = True
            for key, blocks in (("one.zip", 1), ("many.zip", 12)):
                budget = ByteBudget(64 * MIB)
                ledger = MemoryLedger()
                archive = ArchiveWriter(
                    storage, key, part_bytes=5 * MIB, parts_in_flight=2, budget=budget, ledger=ledger
                )
                block = content(MIB, "block")
                await archive.begin(EntryHead(0, "0.bin"))
                await archive.write([block] * blocks)
                await archive.commit(zlib.crc32(block * blocks), MIB * blocks)
                made = await archive.finish()
                assert made.size == len(store.objects[key])
            upload_id = await storage.create_upload("copy.zip", "application/zip")
            body = PartBody([store.objects["many.zip"][: 5 * MIB]])
            part = await storage.upload_part("copy.zip", upload_id, 1, body)
            copied = await storage.copy_part("many.zip", 0, part, "copy.zip", upload_id, 1)
            assert storage.expected_etag([copied]) is None
            assert asked(store, "CreateUpload", "Put") == {GIVEN}
            assert asked(store, "UploadPart", "CopyPart", "Complete", "Head", "Get") == {(None, None, None)}

    asyncio.run(story())


def test_without_a_wish_nothing_is_said() -> None:
    """The bucket's own defaults count."""

    async def story() -> None:
        async with fake_s3() as store, Storage.open(store.settings()) as storage:
            await storage.prepare()
            await storage.put("a", PartBody([b"a"]))
            assert asked(store, "CreateUpload", "Put") == {(None, None, None)}

    asyncio.run(story())


async def test_archives_and_kept_files_are_tagged_and_encrypted_in_a_real_store(
    start: Start, settings: dict[str, Any], s3: S3, origin: Origin
) -> None:
    """So is the archive of one part, the one of several, and each kept file, small or large; and all can be read."""
    storage = {"tags": TAGS, "sse": "AES256", "part_bytes": 5 * MIB}
    async with start(storage=storage, jobs={"max_job_bytes": 1024**3}) as api, s3_clients(s3.settings()) as clients:
        for sizes in ([100], [6 * MIB, 200]):
            urls = [origin.url(size, f"s{size}") for size in sizes]
            status = await api.finished(await api.submit(urls, options={"keepFiles": True}))
            assert status["status"] == "completed"
            prefix = f"{settings['storage']['prefix']}{status['jobId']}/"
            listed = await clients.api.list_objects_v2(Bucket="downloads", Prefix=prefix)
            keys = [item["Key"] for item in listed["Contents"]]
            assert len(keys) == 1 + len(sizes)
            for key in keys:
                tagging = await clients.api.get_object_tagging(Bucket="downloads", Key=key)
                pairs = [f"{tag['Key']}={tag['Value']}" for tag in tagging["TagSet"]]
                assert sorted(pairs) == TAGS
                head = await clients.api.head_object(Bucket="downloads", Key=key)
                assert head["ServerSideEncryption"] == "AES256"
            await api.archive(status["jobId"])


BAD_WISHES = {
    "storage.tags": {"DOWNLOADER_STORAGE__TAGS": "owner"},
    "each name once": {"DOWNLOADER_STORAGE__TAGS": "a=1,a=2"},
    "at most 10": {"DOWNLOADER_STORAGE__TAGS": ",".join(f"t{number}=1" for number in range(11))},
    "is no tag": {"DOWNLOADER_STORAGE__TAGS": "aws:x=1"},
    "sse_kms_key_id needs": {"DOWNLOADER_STORAGE__SSE": "AES256", "DOWNLOADER_STORAGE__SSE_KMS_KEY_ID": "k"},
    "storage.sse": {"DOWNLOADER_STORAGE__SSE": "aes"},
}


@pytest.mark.parametrize("says", BAD_WISHES)
def test_wishes_that_no_store_grants_are_refused(says: str) -> None:
    """A wrong tag or a key without its use ends the start with one line."""
    with pytest.raises(ConfigError, match=says):
        load(environment=BAD_WISHES[says], files=False)
