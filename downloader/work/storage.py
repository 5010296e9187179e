"""The bucket: the few calls to S3 that the service makes, on long-lived clients, with every foreign error translated.

Nothing is used beyond what AWS, MinIO, SeaweedFS, Ceph and R2 share. Parts and Complete are retried by us
(`upload.py`, `Storage.complete`), everything else by the SDK.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import structlog
from botocore.exceptions import ClientError

from downloader.errors import StartError, StorageError, UnavailableError
from downloader.observing import SILENT, Observer
from downloader.work.partbody import PartBody
from downloader.work.storage_clients import Clients, s3_clients, start_failure
from downloader.work.storage_errors import (
    BROKEN,
    FOREIGN,
    REFUSED,
    CallError,
    PartError,
    sentence,
    status_of,
    store_code,
    translated,
)
from downloader.work.together import together
from downloader.work.traits import Traits, base64_crc32, composite_etag, probe
from downloader.work.wishes import wishes

if TYPE_CHECKING:
    from downloader.config import StorageSettings

log = structlog.get_logger(__name__)

_READ_BYTES = 256 * 1024
_DELETES_AT_ONCE = 8
_BUSY_DELAYS_S = (0.5, 2.0)
_COMPLETE_DELAYS_S = (0.2, 0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object as HEAD shows it: size in bytes, ETag without quotes."""

    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class PartReceipt:
    """A part that the store has: its number, ETag without quotes, size, and the CRC-32 sent with it (base64) if any.

    An encrypted part has an ETag that is no MD5, whatever it looks like.
    """

    number: int
    etag: str
    size: int
    crc32: str | None = None
    encrypted: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """What lies in the bucket: an object with its size in bytes, or an unfinished upload with its id."""

    key: str
    since: datetime
    size: int = 0
    upload_id: str = ""


class Storage:
    """The bucket of the archives. Keys are whole keys, `storage.prefix` included. All calls raise StorageError."""

    def __init__(self, settings: StorageSettings, clients: Clients, observer: Observer = SILENT) -> None:
        self._settings = settings
        self._observer = observer
        self._asked = wishes(settings)
        self._bucket = settings.bucket
        self._api = clients.api
        self._parts = clients.parts
        self._patient = clients.patient
        self._traits: Traits | None = None
        self._probing = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: StorageSettings, observer: Observer = SILENT) -> AsyncIterator[Storage]:
        """Make the clients; talks to no store, so it works while S3 is away. StartError when the settings are wrong."""
        async with s3_clients(settings) as clients:
            yield cls(settings, clients, observer)

    async def prepare(self) -> None:
        """See to it that the bucket is there and learn the store's traits.

        UnavailableError when S3 is away; StartError when the settings cannot work.
        """
        try:
            await self._ensure_bucket()
            await self.traits()
        except FOREIGN as error:
            raise start_failure(error, self._bucket) from error
        except CallError as error:
            if error.transient:
                raise UnavailableError("storage", error.message) from error
            also = " and storage.sse_kms_key_id" if self._settings.sse == "aws:kms" else ""
            raise StartError(f"storage: {error.message}; check the rights of the access key{also}") from error

    async def ping(self) -> None:
        """Ask for the bucket; UnavailableError when that fails."""
        try:
            await self._parts.head_bucket(Bucket=self._bucket)
        except FOREIGN as error:
            raise UnavailableError("storage", sentence(error, "looking for the bucket")) from error

    async def create_upload(self, key: str, content_type: str, disposition: str | None = None) -> str:
        """Begin a multipart upload and give its id; others begun for this key by lost requests are ended."""
        extra = self._asked | await self._checksum_algorithm()
        with translated("beginning the upload"):
            answer = await self._api.create_multipart_upload(
                Bucket=self._bucket, Key=key, ContentType=content_type, **_disposition(disposition), **extra
            )
        upload_id = answer.get("UploadId", "")
        if not upload_id:
            raise StorageError("storage_failed", "beginning the upload: the store gave no id")
        if answer["ResponseMetadata"]["RetryAttempts"]:
            await self._end_strays(key, upload_id)
        return upload_id

    async def upload_part(self, key: str, upload_id: str, number: int, body: PartBody) -> PartReceipt:
        """Send one part, once; PartError says what a failure means."""
        checksum = await self._checksum(body)
        began = time.monotonic()
        attributes = {"downloader.part.number": number, "downloader.part.bytes": len(body)}
        with (
            self._observer.tracer.span("upload part", attributes),
            translated(f"uploading part {number}", PartError),
        ):
            answer = await self._parts.upload_part(
                Bucket=self._bucket,
                Key=key,
                UploadId=upload_id,
                PartNumber=number,
                Body=body,
                **checksum,
            )
        if not answer.get("ETag"):
            raise PartError(BROKEN, f"uploading part {number}: the store gave no ETag")
        self._observer.meter.stored(len(body), time.monotonic() - began)
        encrypted = self._is_encrypted(answer)
        return PartReceipt(number, _bare(answer["ETag"]), len(body), checksum.get("ChecksumCRC32"), encrypted)

    async def copy_part(
        self, source: str, start: int, part: PartReceipt, key: str, upload_id: str, number: int
    ) -> PartReceipt:
        """Make a part of what lies in another object from `start` on, which was uploaded as `part`.

        CallError when the store does not copy parts, or when the copy is not what it was made of.
        """
        with translated(f"copying part {number}"):
            answer = await self._api.upload_part_copy(
                Bucket=self._bucket,
                Key=key,
                UploadId=upload_id,
                PartNumber=number,
                CopySource={"Bucket": self._bucket, "Key": source},
                CopySourceRange=f"bytes={start}-{start + part.size - 1}",
            )
        result = answer.get("CopyPartResult", {})
        etag, crc32 = _bare(result.get("ETag", "")), result.get("ChecksumCRC32", part.crc32)
        if not etag or crc32 != part.crc32:
            raise CallError(REFUSED, f"copying part {number}: the store made something else of it")
        return PartReceipt(number, etag, part.size, part.crc32, part.encrypted or self._is_encrypted(answer))

    async def complete(self, key: str, upload_id: str, receipts: Sequence[PartReceipt]) -> str:
        """Join the parts to the object and give its ETag.

        A 200 that carries an error or nothing is asked again; an upload that is gone counts as joined when the
        object is there with the right size (and ETag, where that can be told beforehand).
        """
        with self._observer.tracer.span("complete upload", {"downloader.upload.parts": len(receipts)}):
            return await self._complete(key, upload_id, receipts)

    async def _complete(self, key: str, upload_id: str, receipts: Sequence[PartReceipt]) -> str:
        for delay_s in (*_COMPLETE_DELAYS_S, None):
            try:
                etag = await self._complete_once(key, upload_id, receipts)
            except CallError as error:
                etag = await self._settled(key, receipts) if error.gone else None
                if etag is None and (delay_s is None or not error.transient):
                    raise
                if etag is None:
                    log.warning("upload.complete.retry", code=error.code, reason=error.message)
            if etag:
                return etag
            if delay_s is not None:
                await asyncio.sleep(delay_s)
        raise StorageError("storage_unavailable", "completing the upload: the store gave no result")

    async def abort(self, key: str, upload_id: str) -> None:
        """End an upload and free its parts; fine when it is gone already."""
        try:
            with translated("aborting the upload"):
                await self._api.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload_id)
        except CallError as error:
            if not error.gone:
                raise

    async def abort_all(self, key: str, keep: str = "") -> None:
        """End all uploads to this key but `keep`, for when their ids are not known."""
        async for upload in self.uploads(key):
            if upload.key == key and upload.upload_id != keep:
                await self.abort(key, upload.upload_id)

    async def put(
        self, key: str, body: PartBody, content_type: str = "application/zip", disposition: str | None = None
    ) -> str:
        """Store a small object in one request and give its ETag."""
        extra = self._asked | _disposition(disposition) | await self._checksum(body)
        for delay_s in (*_BUSY_DELAYS_S, None):
            began = time.monotonic()
            try:
                with (
                    self._observer.tracer.span("store object", {"downloader.object.bytes": len(body)}),
                    translated("storing an object"),
                ):
                    answer = await self._api.put_object(
                        Bucket=self._bucket, Key=key, Body=body, ContentType=content_type, **extra
                    )
            except CallError as error:  # the SDK does not know every way of saying "not so fast"
                if delay_s is None or not error.slow_down:
                    raise
                await asyncio.sleep(delay_s)
            else:
                self._observer.meter.stored(len(body), time.monotonic() - began)
                return _bare(answer.get("ETag", ""))
        raise StorageError("storage_unavailable", "storing an object: the store gave no result")

    async def head(self, key: str) -> ObjectInfo | None:
        """Size and ETag of an object; None when there is none."""
        with translated("looking at an object"):
            try:
                answer = await self._api.head_object(Bucket=self._bucket, Key=key)
            except ClientError as error:
                if status_of(error) == 404:
                    return None
                raise
        return ObjectInfo(answer["ContentLength"], _bare(answer.get("ETag", "")))

    async def read(self, key: str, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """The object's bytes from `start` up to but not including `end`, in pieces of 256 KiB at most."""
        with translated("reading an object"):
            answer = await self._api.get_object(Bucket=self._bucket, Key=key, Range=f"bytes={start}-{end - 1}")
            async with answer["Body"] as body:
                if answer["ContentLength"] != end - start:
                    raise StorageError(
                        "storage_failed", "reading an object: the store did not give the range asked for"
                    )
                while piece := await body.read(_READ_BYTES):
                    yield piece

    async def objects(self, prefix: str) -> AsyncGenerator[Stored, None]:
        """All objects whose keys begin with `prefix`."""
        pages = self._api.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        with translated("listing objects"):
            async for page in pages:
                for item in page.get("Contents", []):
                    yield Stored(item["Key"], item["LastModified"], size=item["Size"])

    async def uploads(self, prefix: str) -> AsyncGenerator[Stored, None]:
        """All unfinished uploads whose keys begin with `prefix`; some stores list them only for a whole key."""
        pages = self._api.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=prefix)
        with translated("listing uploads"):
            async for page in pages:
                for item in page.get("Uploads", []):
                    # Not every store says since when; one that does not is taken for one that began just now.
                    yield Stored(item["Key"], item.get("Initiated") or datetime.now(UTC), upload_id=item["UploadId"])

    async def delete(self, key: str) -> None:
        """Remove an object; fine when there is none."""
        with translated("deleting an object"):
            try:
                await self._api.delete_object(Bucket=self._bucket, Key=key)
            except ClientError as error:
                if status_of(error) != 404:
                    raise

    async def clear(self, prefix: str) -> None:
        """Remove all objects and uploads whose keys begin with `prefix`."""
        async for upload in self.uploads(prefix):
            await self.abort(upload.key, upload.upload_id)
        keys = [item.key async for item in self.objects(prefix)]
        await together([partial(self.delete, key) for key in keys], _DELETES_AT_ONCE)

    async def traits(self) -> Traits:
        """What the store can do, found out by one small upload the first time and remembered."""
        if self._traits is None:
            async with self._probing:
                if self._traits is None:
                    key = f"{self._settings.prefix}.probe/{uuid4().hex}"
                    with translated("trying the store"):
                        self._traits = await probe(self._api, self._bucket, key, self._settings.checksums, self._asked)
        return self._traits

    def expected_etag(self, receipts: Sequence[PartReceipt]) -> str | None:
        """The ETag that these parts must make together; None when the store's ETags do not tell."""
        if self._traits is None or not self._traits.etags_are_md5 or any(receipt.encrypted for receipt in receipts):
            return None
        return composite_etag([receipt.etag for receipt in receipts])

    def _is_encrypted(self, answer: Any) -> bool:
        """Whether a part's ETag is no MD5 because of how it is encrypted; not every store says so with each part."""
        if self._settings.sse == "aws:kms" or "SSECustomerAlgorithm" in answer:
            return True
        return "aws:kms" in str(answer.get("ServerSideEncryption", ""))

    async def _end_strays(self, key: str, keep: str) -> None:
        """End uploads whose ids we never saw; where listing is not allowed they stay until the store tidies up."""
        try:
            await self.abort_all(key, keep)
        except StorageError as error:
            log.warning("upload.strays.kept", reason=error.message)

    async def _complete_once(self, key: str, upload_id: str, receipts: Sequence[PartReceipt]) -> str | None:
        parts: list[Any] = []
        for receipt in receipts:
            part = {"PartNumber": receipt.number, "ETag": f'"{receipt.etag}"'}
            parts.append(part | ({"ChecksumCRC32": receipt.crc32} if receipt.crc32 else {}))
        with translated("completing the upload"):
            answer = await self._patient.complete_multipart_upload(
                Bucket=self._bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}
            )
        etag = _bare(answer.get("ETag", ""))
        return etag or await self._settled(key, receipts)

    async def _settled(self, key: str, receipts: Sequence[PartReceipt]) -> str | None:
        info = await self.head(key)
        if info is None or info.size != sum(receipt.size for receipt in receipts):
            return None
        expected = self.expected_etag(receipts)
        return info.etag if expected in (None, info.etag) else None

    async def _ensure_bucket(self) -> None:
        try:
            await self._api.head_bucket(Bucket=self._bucket)
        except ClientError as error:
            if status_of(error) != 404:
                raise
            if not self._settings.create_bucket:
                raise StartError(
                    f"storage.bucket '{self._bucket}' does not exist; create it or set storage.create_bucket"
                ) from error
            await self._create_bucket()

    async def _create_bucket(self) -> None:
        region = self._settings.region
        place: dict[str, Any] = {}
        if region != "us-east-1":  # the one region that must not be named
            place = {"CreateBucketConfiguration": {"LocationConstraint": region}}
        try:
            await self._api.create_bucket(Bucket=self._bucket, **place)
        except ClientError as error:
            # Another replica was faster.
            if store_code(error) not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise
            await self._api.head_bucket(Bucket=self._bucket)
        log.info("storage.bucket.created", bucket=self._bucket)

    async def _checksum_algorithm(self) -> dict[str, Any]:
        return {"ChecksumAlgorithm": "CRC32"} if (await self.traits()).checks_crc32 else {}

    async def _checksum(self, body: PartBody) -> dict[str, Any]:
        return {"ChecksumCRC32": base64_crc32(body.crc32())} if (await self.traits()).checks_crc32 else {}


def _bare(etag: str) -> str:
    return etag.strip('"')


def _disposition(value: str | None) -> dict[str, Any]:
    return {"ContentDisposition": value} if value else {}
