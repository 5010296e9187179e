"""Brings the archive to its place, going on where a transfer broke off, however often.

A link is signed for a while only: one that the store does not take any more is asked for again. What arrives is known
to be the job's archive by its length and its entity tag (RFC 9110, sections 8.8.3, 13.1.5 and 14.2).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from downloader.client.calls import Calls, proxy_of, reason
from downloader.client.server import JobRef
from downloader.client.target import Sink
from downloader.errors import AwayError, RefusedError

CHUNK_BYTES = 1024 * 1024
CONNECT_S = 15.0
SILENCE_S = 60.0
REFUSALS_MAX = 3
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
# The codes of what makes a job useless that an interrupted command left.
STALE = frozenset({"archive_changed", "archive_gone", "archive_damaged"})
GONE = "the archive is no longer there; fetch its files again"

# (bytes that are here, bytes in all)
Tell = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Archive:
    """The archive as the job tells of it."""

    size: int
    etag: str
    link: str

    @classmethod
    def of(cls, job: dict[str, Any]) -> Archive:
        """The archive of a status answer; RefusedError when it is no longer there."""
        archive, link = job.get("archive"), job.get("downloadUrl")
        if not archive or not link:
            raise RefusedError("archive_expired", GONE)
        return cls(int(archive["size"]), _bare(archive.get("etag") or ""), link)


class _LinkRefused(RefusedError):
    """The store does not take the link: most likely it has expired. Only a link signed just now makes it final."""


async def save(calls: Calls, ref: JobRef, job: dict[str, Any], sink: Sink, tell: Tell) -> Archive:
    """Bring the archive of `job`, a status answer, into `sink`; gives what it is.

    Raises RefusedError when it is not to be had, AwayError when the store stays away, SaveError when it cannot be
    written.
    """
    archive = Archive.of(job)
    sink.begin(archive.etag, archive.size)
    refusals = tries = 0
    since = asyncio.get_running_loop().time()
    while sink.received < archive.size:
        before, why = sink.received, "the connection broke off"
        try:
            await _go_on(calls, archive, sink, tell)
        except _LinkRefused:
            refusals += 1
            if refusals >= REFUSALS_MAX:
                raise
            archive = await _anew(calls, ref, archive)
        except AwayError as error:
            why = error.message
        now = asyncio.get_running_loop().time()
        if sink.received > before:
            refusals, tries, since = 0, 0, now
        elif now - since > calls.patience.away_s:
            raise AwayError(f"the store does not answer: {why}")
        if sink.received < archive.size:
            await asyncio.sleep(calls.patience.pause(tries))
            tries += 1
    return archive


async def _anew(calls: Calls, ref: JobRef, before: Archive) -> Archive:
    """The same archive with a link that was signed just now; RefusedError when it is not there any more."""
    archive = Archive.of(await calls.status(ref, files=False))
    if (archive.size, archive.etag) != (before.size, before.etag):
        raise RefusedError("archive_changed", "the job's archive is not the same any more; run the command again")
    return archive


async def _go_on(calls: Calls, archive: Archive, sink: Sink, tell: Tell) -> None:
    """One request from where we are; returns when the answer ends, whole or not."""
    headers = {"Accept-Encoding": "identity"}
    if sink.received:
        headers["Range"] = f"bytes={sink.received}-"
        if archive.etag:
            headers["If-Range"] = f'"{archive.etag}"'
    url = URL(archive.link, encoded=True)
    limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
    try:
        async with calls.session.get(url, headers=headers, timeout=limits, proxy=proxy_of(url)) as response:
            await _take(response, sink, _to_skip(response, archive, sink), archive.size, tell)
    except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
        raise AwayError(reason(error)) from error


async def _take(response: aiohttp.ClientResponse, sink: Sink, skip: int, size: int, tell: Tell) -> None:
    """Write what comes."""
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        piece = chunk[skip:] if skip else chunk
        skip -= len(chunk) - len(piece)
        if len(piece) > size - sink.received:
            raise _changed()
        if piece:
            await sink.write(piece)
            tell(sink.received, size)


def _to_skip(response: aiohttp.ClientResponse, archive: Archive, sink: Sink) -> int:
    """How many bytes of the answer are here already. Raises what stands in the way of taking it."""
    status = response.status
    if status in {404, 410}:
        raise _LinkRefused("archive_gone", GONE)
    if status in {400, 401, 403}:
        raise _LinkRefused("link_refused", f"the store does not take the link: {status} {response.reason}")
    if status == 416:  # what is here is no beginning of what is there
        sink.restart()
        raise AwayError("the store has less than that")
    if status not in {200, 206}:
        raise AwayError(f"the store answers {status} {response.reason}")
    etag = _bare(response.headers.get("ETag", ""))
    if etag and archive.etag and etag != archive.etag:
        raise _changed()
    if status == 200:
        if response.content_length not in {None, archive.size}:
            raise _changed()
        if response.content_length is None and not etag:
            raise AwayError("what the store answers is not known to be the archive")
        return sink.restart() if sink.received else 0
    found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if found is None or int(found[1]) != sink.received or int(found[2]) != archive.size:
        raise AwayError("the store answers with another part than was asked for")
    return 0


def _changed() -> RefusedError:
    return RefusedError("archive_changed", "what the store has is not the job's archive; run the command again")


def _bare(etag: str) -> str:
    """An entity tag without its quotes and the mark of a weak one."""
    return etag.removeprefix("W/").strip('"')
