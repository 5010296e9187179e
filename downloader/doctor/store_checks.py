"""The store: every call that an archive needs, tried on scratch objects, and a link followed as a browser does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp
from yarl import URL

from downloader.config import Settings, StorageSettings
from downloader.doctor.access_checks import is_local
from downloader.doctor.findings import Finding, Level, fail, ok, warn
from downloader.doctor.redis_checks import judge_clock
from downloader.errors import StartError, StorageError, UnavailableError
from downloader.work.links import LinkSigner, content_disposition
from downloader.work.partbody import PartBody
from downloader.work.storage import Storage

# The least size of a part that is not the last, and one that is.
FIRST_PART = bytes(5 * 1024 * 1024)
SMALL = bytes(range(256)) * 16
FILENAME = "Ärztin.zip"  # a name that needs both forms of RFC 6266
SLOW_S = 1.0
LINK_S = 15.0
TIDY_S = 15.0


async def examine_store(settings: Settings) -> AsyncIterator[Finding]:
    """Look at the store; ends after the first finding when the bucket cannot be had."""
    try:
        async with AsyncExitStack() as stack:
            storage = await stack.enter_async_context(Storage.open(settings.storage))
            signer = await stack.enter_async_context(LinkSigner.open(settings.storage, settings.jobs.link_ttl_s))
            yield await _bucket(storage, settings.storage)
            scratch = _Scratch.made(storage, settings.storage.prefix)
            try:
                async for finding in _calls(scratch):
                    yield finding
                async for finding in _links(scratch, signer, settings):
                    yield finding
            finally:
                left = await _tidied(scratch)
            if left:
                yield left
    except (StartError, UnavailableError) as error:
        yield fail("storage", error.message, "check the keys of [storage], and that the store can be reached from here")
    except StorageError as error:
        yield fail("storage", error.message, "the access key must be allowed to read, write, list and delete")


async def _tidied(scratch: _Scratch) -> Finding | None:
    """Leave nothing behind, or say what stayed."""
    try:
        await scratch.tidy()
    except (StorageError, TimeoutError) as error:
        found = f"something of this look stayed in the bucket ({str(error) or 'no answer in time'})"
        return warn("storage scratch", found, "`downloader reconcile --fix` removes it")
    return None


async def _bucket(storage: Storage, settings: StorageSettings) -> Finding:
    begun = time.perf_counter()
    await storage.prepare()
    prepared = time.perf_counter()
    await storage.ping()
    took_s = time.perf_counter() - prepared
    traits = await storage.traits()
    checksums = "checks CRC-32 of parts" if traits.checks_crc32 else "does not check CRC-32 of parts"
    found = f"bucket '{settings.bucket}' answers in {took_s * 1000:.0f} ms; the store {checksums}"
    if took_s > SLOW_S:
        return warn("storage", found, f"slow (first look: {prepared - begun:.1f} s): bring the store nearer")
    return ok("storage", found)


@dataclass(slots=True)
class _Scratch:
    """A place in the bucket that is empty again at the end, however the end comes about."""

    storage: Storage
    small: str
    joined: str
    given_up: str
    uploads: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def made(cls, storage: Storage, prefix: str) -> _Scratch:
        """Names as the service's own probe has them: what a killed doctor leaves, `reconcile --fix` removes."""
        small, joined, given_up = (f"{prefix}.probe/{uuid4().hex}" for _ in range(3))
        return cls(storage, small, joined, given_up)

    async def begun(self, key: str) -> str:
        """Begin an upload that is surely ended."""
        upload_id = await self.storage.create_upload(key, "application/zip")
        self.uploads.append((key, upload_id))
        return upload_id

    async def tidy(self) -> None:
        """End the uploads and delete the objects; StorageError or TimeoutError when that does not go."""
        async with asyncio.timeout(TIDY_S):
            for key, upload_id in self.uploads:
                await self.storage.abort(key, upload_id)
            for key in (self.small, self.joined, self.given_up):
                await self.storage.delete(key)


async def _calls(scratch: _Scratch) -> AsyncIterator[Finding]:
    tries: tuple[tuple[str, str, Callable[[_Scratch], Awaitable[str]]], ...] = (
        ("storage put", "the access key must be allowed to write", _put),
        ("storage read", "the access key must be allowed to read, in ranges too", _read),
        ("storage multipart", "archives above one part need multipart uploads", _multipart),
        ("storage abort", "uploads that fail must be ended, or the store keeps their parts for ever", _abort),
    )
    for name, remedy, attempt in tries:
        yield await _tried(name, remedy, scratch, attempt)
    remedy = "jobs whose worker died fetch all files again; use a store with UploadPartCopy"
    copied = await _tried("storage copy", remedy, scratch, _copy)
    yield copied if copied.level is Level.OK else warn(copied.name, copied.finding, copied.remedy)
    yield await _tried("storage delete", "the access key must be allowed to delete", scratch, _delete)


async def _tried(name: str, remedy: str, scratch: _Scratch, attempt: Callable[[_Scratch], Awaitable[str]]) -> Finding:
    begun = time.perf_counter()
    try:
        done = await attempt(scratch)
    except StorageError as error:
        return fail(name, error.message, remedy)
    return ok(name, f"{done} in {(time.perf_counter() - begun) * 1000:.0f} ms")


async def _put(scratch: _Scratch) -> str:
    await scratch.storage.put(scratch.small, PartBody([SMALL]))
    info = await scratch.storage.head(scratch.small)
    if info is None or info.size != len(SMALL):
        raise StorageError("storage_failed", "what was stored is not there, or has another size")
    return f"{len(SMALL)} bytes stored"


async def _read(scratch: _Scratch) -> str:
    got = b"".join([piece async for piece in scratch.storage.read(scratch.small, 100, 300)])
    if got != SMALL[100:300]:
        raise StorageError("storage_failed", "what was read is not what was stored")
    return "a range read"


async def _multipart(scratch: _Scratch) -> str:
    storage, key = scratch.storage, scratch.joined
    upload_id = await scratch.begun(key)
    parts = [await storage.upload_part(key, upload_id, 1, PartBody([FIRST_PART]))]
    parts.append(await storage.upload_part(key, upload_id, 2, PartBody([SMALL])))
    etag, expected = await storage.complete(key, upload_id, parts), storage.expected_etag(parts)
    size = len(FIRST_PART) + len(SMALL)
    tail = b"".join([piece async for piece in storage.read(key, len(FIRST_PART), size)])
    if expected not in (None, etag) or tail != SMALL:
        raise StorageError("storage_failed", "the joined object is not what its parts were")
    return f"two parts, {size} bytes, joined"


async def _abort(scratch: _Scratch) -> str:
    storage, key = scratch.storage, scratch.given_up
    upload_id = await scratch.begun(key)
    await storage.upload_part(key, upload_id, 1, PartBody([SMALL]))
    await storage.abort(key, upload_id)
    if [upload async for upload in storage.uploads(key)]:
        raise StorageError("storage_failed", "an upload is still listed after it was ended")
    return "an upload ended"


async def _copy(scratch: _Scratch) -> str:
    storage, key = scratch.storage, scratch.given_up
    upload_id = await scratch.begun(key)
    source_id = await scratch.begun(scratch.joined)
    part = await storage.upload_part(scratch.joined, source_id, 1, PartBody([SMALL]))
    await storage.complete(scratch.joined, source_id, [part])
    copied = await storage.copy_part(scratch.joined, 0, part, key, upload_id, 1)
    await storage.complete(key, upload_id, [copied])
    if b"".join([piece async for piece in storage.read(key, 0, len(SMALL))]) != SMALL:
        raise StorageError("storage_failed", "a copied part is not what it was copied from")
    return "a part copied"


async def _delete(scratch: _Scratch) -> str:
    await scratch.storage.delete(scratch.given_up)
    if await scratch.storage.head(scratch.given_up) is not None:
        raise StorageError("storage_failed", "an object is still there after it was deleted")
    return "an object deleted"


async def _links(scratch: _Scratch, signer: LinkSigner, settings: Settings) -> AsyncIterator[Finding]:
    """Follow a link as a browser does, over the public endpoint."""
    link = signer.sign(scratch.small, FILENAME, None, time.time())
    host = urlsplit(link.url).hostname or ""
    timeout = aiohttp.ClientTimeout(total=LINK_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session,
            session.get(URL(link.url, encoded=True), allow_redirects=False) as answer,
        ):
            body, headers, status = await _beginning(answer.content, len(SMALL) + 1), answer.headers, answer.status
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        found = f"a link to {host} cannot be followed ({type(error).__name__})"
        yield fail("links", found, "check storage.public_endpoint_url, its name and its certificate")
        return
    yield _judge_link(host, status, body, headers.get("Content-Disposition", ""), settings)
    if "Date" in headers:
        yield _store_clock(headers["Date"])


async def _beginning(content: aiohttp.StreamReader, most: int) -> bytes:
    """Up to `most` bytes of a body, in however many pieces they come."""
    body = b""
    while len(body) < most and (piece := await content.read(most - len(body))):
        body += piece
    return body


def _judge_link(host: str, status: int, body: bytes, disposition: str, settings: Settings) -> Finding:
    if status != 200:
        remedy = "storage.public_endpoint_url must lead to the store, with its Host header kept by any proxy"
        return fail("links", f"a link to {host} answers {status}", remedy)
    if body != SMALL:
        remedy = "storage.public_endpoint_url must lead to the same store, unchanged by any proxy"
        return fail("links", f"a link to {host} gives something else than what was stored", remedy)
    if disposition != content_disposition(FILENAME):
        remedy = "browsers save under a wrong name; the store or a proxy drops response-content-disposition"
        return warn("links", f"a link to {host} has no or another Content-Disposition", remedy)
    if is_local(host) and not is_local(settings.server.host):
        remedy = "set storage.public_endpoint_url to what others reach"
        return warn("links", f"links lead to {host}, which only this machine can follow", remedy)
    return ok("links", f"a link to {host} can be followed and saves under its name")


def _store_clock(date: str) -> Finding:
    try:
        theirs = parsedate_to_datetime(date)
    except ValueError:
        return warn("storage clock", "the store's Date header cannot be read", "look at what stands before the store")
    # The header has whole seconds: on average it is half a second behind.
    return judge_clock("storage clock", (theirs - datetime.now(UTC)).total_seconds() + 0.5, "the store")
