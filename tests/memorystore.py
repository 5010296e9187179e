"""A store in memory: the neighbour that the archive writer's own tests write to, strict where S3 is."""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import AsyncGenerator, Sequence

from downloader.errors import StorageError
from downloader.work.partbody import PartBody
from downloader.work.storage import ObjectInfo, PartReceipt
from downloader.work.traits import composite_etag


class MemoryStore:
    """Keeps parts and objects as bytes; `parts_sent` are the numbers of all PUTs in order."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.etags: dict[str, str] = {}
        self.parts_sent: list[int] = []
        self.flying_most = 0
        self._flying = 0

    async def create_upload(self, key: str, content_type: str, disposition: str | None = None) -> str:
        """Begin an upload."""
        upload_id = f"{key}#{len(self.uploads)}"
        self.uploads[upload_id] = {}
        return upload_id

    async def upload_part(self, key: str, upload_id: str, number: int, body: PartBody) -> PartReceipt:
        """Take a part after a turn of the loop."""
        self.parts_sent.append(number)
        self._flying += 1
        self.flying_most = max(self._flying, self.flying_most)
        await asyncio.sleep(0)
        data = b"".join([bytes(piece) async for piece in body])
        self._flying -= 1
        self.uploads[upload_id][number] = data
        return PartReceipt(number, hashlib.md5(data, usedforsecurity=False).hexdigest(), len(data))

    async def complete(self, key: str, upload_id: str, receipts: Sequence[PartReceipt]) -> str:
        """Join the parts, checking order and ETags as S3 does."""
        parts = self.uploads.pop(upload_id)
        numbers = [receipt.number for receipt in receipts]
        assert numbers == sorted(set(numbers))
        for receipt in receipts:
            assert hashlib.md5(parts[receipt.number], usedforsecurity=False).hexdigest() == receipt.etag
        sizes = {len(parts[number]) for number in numbers[:-1]}
        assert len(sizes) <= 1, "R2 wants all parts but the last of one size"
        self.objects[key] = b"".join(parts[number] for number in numbers)
        self.etags[key] = self.expected_etag(receipts) or ""
        return self.etags[key]

    async def abort(self, key: str, upload_id: str) -> None:
        """Drop an upload."""
        self.uploads.pop(upload_id, None)

    async def put(
        self, key: str, body: PartBody, content_type: str = "application/zip", disposition: str | None = None
    ) -> str:
        """Store an object."""
        self.objects[key] = b"".join([bytes(piece) async for piece in body])
        self.etags[key] = f"{zlib.crc32(self.objects[key]):032x}"
        return self.etags[key]

    async def head(self, key: str) -> ObjectInfo | None:
        """Size and ETag."""
        return ObjectInfo(len(self.objects[key]), self.etags[key]) if key in self.objects else None

    async def read(self, key: str, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """A range, in two pieces."""
        middle = (start + end) // 2
        for piece in (self.objects[key][start:middle], self.objects[key][middle:end]):
            if not piece:
                raise StorageError("storage_failed", "the range is beyond the object")
            yield piece

    async def delete(self, key: str) -> None:
        """Remove an object."""
        self.objects.pop(key, None)

    def expected_etag(self, receipts: Sequence[PartReceipt]) -> str | None:
        """MD5 of MD5s."""
        return composite_etag([receipt.etag for receipt in receipts])
