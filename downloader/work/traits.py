"""What a store can do, found out by one upload of a few bytes: stores differ, and their manuals are silent."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import structlog
from botocore.exceptions import ClientError
from isal import isal_zlib

from downloader.work.storage_errors import failure_of, status_of, store_code

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

log = structlog.get_logger(__name__)

_MD5 = re.compile(r"[0-9a-f]{32}")
_CONTENT = b"downloader looks what this store can do\n"


@dataclass(frozen=True, slots=True)
class Traits:
    """What the store can do: whether it checks CRC-32, and whether its ETags are made of MD5s."""

    checks_crc32: bool
    etags_are_md5: bool


def base64_crc32(value: int) -> str:
    """A CRC-32 as S3 writes it: four bytes, big end first, in base64."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def composite_etag(etags: Sequence[str]) -> str | None:
    """The ETag of an object made of parts with these ETags, MD5 of MD5s; None when one of them is no MD5."""
    if not etags or not all(map(_MD5.fullmatch, etags)):
        return None
    joined = hashlib.md5(b"".join(map(bytes.fromhex, etags)), usedforsecurity=False)
    return f"{joined.hexdigest()}-{len(etags)}"


async def probe(
    client: S3Client,
    bucket: str,
    key: str,
    checksums: Literal["auto", "crc32", "none"],
    wishes: Mapping[str, Any],
) -> Traits:
    """Find out the store's traits by uploading to `key` and deleting it; botocore's errors rise when it is away.

    `wishes` are made with the upload as with all others: ETags depend on the encryption.
    """
    traits = None
    if checksums == "auto":
        traits = await _checking(client, bucket, key, wishes)
    if traits is None:
        crc32 = checksums == "crc32"
        traits = Traits(crc32, await _upload(client, bucket, key, wishes, crc32=crc32))
    log.info("storage.traits", checks_crc32=traits.checks_crc32, etags_are_md5=traits.etags_are_md5)
    return traits


async def _checking(client: S3Client, bucket: str, key: str, wishes: Mapping[str, Any]) -> Traits | None:
    """The traits if the store takes CRC-32 and refuses a wrong one; None if it does not."""
    try:
        etags_are_md5 = await _upload(client, bucket, key, wishes, crc32=True, checked=True)
        return Traits(checks_crc32=True, etags_are_md5=etags_are_md5)
    except _IgnoredError:
        return None
    except ClientError as error:
        if failure_of(error).transient:
            raise
        log.info("storage.checksums.refused", status=status_of(error), code=store_code(error))
        return None


class _IgnoredError(Exception):
    """The store took a part whose checksum was wrong."""


async def _upload(
    client: S3Client, bucket: str, key: str, wishes: Mapping[str, Any], *, crc32: bool, checked: bool = False
) -> bool:
    """Upload one part and look at the ETag: whether it is the MD5 of MD5s. `checked`: a wrong CRC-32 first."""
    named: dict[str, Any] = {"ChecksumAlgorithm": "CRC32"} if crc32 else {}
    upload = await client.create_multipart_upload(Bucket=bucket, Key=key, **wishes, **named)
    upload_id = upload["UploadId"]
    try:
        if checked:
            await _refuses_wrong_crc32(client, bucket, key, upload_id)
        checksum: dict[str, Any] = {"ChecksumCRC32": base64_crc32(isal_zlib.crc32(_CONTENT))} if crc32 else {}
        part = await client.upload_part(
            Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=1, Body=_CONTENT, **checksum
        )
        parts: list[Any] = [{"PartNumber": 1, "ETag": part["ETag"], **checksum}]
        done = await client.complete_multipart_upload(
            Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}
        )
        digest = hashlib.md5(_CONTENT, usedforsecurity=False).hexdigest()
        return part["ETag"].strip('"') == digest and done["ETag"].strip('"') == composite_etag([digest])
    finally:
        with suppress(ClientError):
            await client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
        with suppress(ClientError):
            await client.delete_object(Bucket=bucket, Key=key)


async def _refuses_wrong_crc32(client: S3Client, bucket: str, key: str, upload_id: str) -> None:
    wrong = base64_crc32(isal_zlib.crc32(_CONTENT) ^ 1)
    try:
        await client.upload_part(
            Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=1, Body=_CONTENT, ChecksumCRC32=wrong
        )
    except ClientError as error:
        # 501 and the like mean that the header itself is refused.
        if status_of(error) != 400:
            raise
        return
    raise _IgnoredError
