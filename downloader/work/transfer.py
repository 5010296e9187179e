"""One file on its way from a source into a sink, over as many attempts as it takes.

A transfer that was cut goes on where it stopped only if nothing can be mixed: the first answer had a strong validator,
the new one carries the same and the same length, and a 206 begins exactly at our position. A server that answers
with the whole file and the same validator has its first bytes skipped; everything else starts anew.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, TypeVar
from urllib.parse import unquote

from downloader.config import SourcesSettings
from downloader.errors import SourceChangedError, SourceError
from downloader.jobs import Source
from downloader.work import body, coding, disposition, faults
from downloader.work.answers import (
    Version,
    body_length,
    codings,
    content_range,
    http_date,
    is_framed_plainly,
    media_type,
    retry_after_s,
    version,
)
from downloader.work.asking import Answer
from downloader.work.body import Body, ParsedBody
from downloader.work.dial import was_broken
from downloader.work.hosts import Place
from downloader.work.pace import Pace
from downloader.work.redirects import Client, Reply
from downloader.work.threads import Threads, off_loop
from downloader.work.throttle import Meter, Throttle

T = TypeVar("T")

# How long a file waits for its sink before others may have its place at the host.
STAND_ASIDE_S = 1.0
_OK = 200
_WHOLE = frozenset({_OK, 203})
_TRANSIENT_STATUSES = frozenset({408, 425, 429})
_PARTIAL = 206
_RANGE_NOT_SATISFIABLE = 416


@dataclass(frozen=True, slots=True)
class Offer:
    """What an answer's head promises; `length` is what the sink will get, in bytes, if that is known.

    `length_verified` is False where the body ends by closing the connection, so that a cut could not be seen.
    """

    length: int | None = None
    content_type: str | None = None
    filename: str | None = None
    last_modified: datetime | None = None
    length_verified: bool = True


class Sink(Protocol):
    """Where a file's bytes go; every method may raise SourceError to end the fetch for good.

    What `opened` and `write` give is waited for; None says that nothing is to be waited for, as with most small files.
    """

    def opened(self, offer: Offer) -> Awaitable[None] | None:
        """Take note of what is coming; may wait for room."""

    def write(self, chunk: bytes | memoryview) -> Awaitable[None] | None:
        """Take the next bytes, which nobody will change; may wait (back-pressure)."""

    async def restart(self) -> None:
        """Throw away what was written; `opened` is called again before anything follows."""

    @property
    def position(self) -> int:
        """Bytes taken since the last `opened`."""


class SinkRefusedError(Exception):
    """The sink has ended the fetch: `fault` goes to the caller as it is, and nothing is tried again."""

    def __init__(self, fault: SourceError) -> None:
        super().__init__(fault.code)
        self.fault = fault


class Transfer:
    """The state of one file's fetch between attempts."""

    def __init__(
        self,
        source: Source,
        sink: Sink,
        client: Client,
        settings: SourcesSettings,
        threads: Threads,
        tenant: str,
        throttle: Throttle | None = None,
    ) -> None:
        self._meter = None if throttle is None else Meter(throttle)
        self._source = source
        self._tenant = tenant
        self._sink = sink
        self._client = client
        self._settings = settings
        self._threads = threads
        self._is_open = False
        self._held: tuple[Mapping[str, str], int | None] | None = None  # head and total of what the sink holds in part
        self.held_up_s = 0.0  # the longest wait for the sink or the throttle in this attempt

    async def attempt(self) -> None:
        """Ask once and take what comes; returns when the sink has the whole file."""
        self.held_up_s = 0.0
        before = self._version_held()
        reply = await self._client.answer(self._source, self._conditions(before), self._tenant)
        try:
            await self._take(reply, before)
        finally:
            reply.close()

    def _version_held(self) -> Version | None:
        """What identifies the bytes in the sink; None when there are none or nothing proves that others fit to them."""
        if self._held is None or self._sink.position == 0:
            return None
        before = version(*self._held)
        return None if before.validator is None else before

    def _conditions(self, before: Version | None) -> tuple[tuple[str, str], ...]:
        """The headers that ask for the rest, when what the sink holds may be continued."""
        if before is None or before.validator is None:
            return ()
        return (("Range", f"bytes={self._sink.position}-"), ("If-Range", before.validator))

    async def _take(self, reply: Reply, before: Version | None) -> None:
        response = reply.response
        if before is None:
            await self._take_whole(reply)
        elif response.status == _PARTIAL:
            await self._continue(reply, before)
        elif response.status == _RANGE_NOT_SATISFIABLE:
            self._held = None
            raise SourceChangedError
        elif response.status == _OK and _is_same(response, before, body_length(response.headers)):
            await self._pump(reply, before.total, None, skip=self._sink.position)
        else:
            await self._take_whole(reply)

    async def _continue(self, reply: Reply, before: Version) -> None:
        """Take a 206 that begins where we stopped, of the same version; else the next attempt starts anew."""
        response = reply.response
        span = content_range(response.headers.get("Content-Range"))
        if span is None or span.first != self._sink.position or not _is_same(response, before, span.total):
            self._held = None
            raise SourceChangedError
        total = span.total if before.total is None else before.total
        if total is None:  # nobody says where the whole ends
            self._held = None
            raise SourceChangedError
        await self._pump(reply, total, None)

    async def _take_whole(self, reply: Reply) -> None:
        response = reply.response
        _check_status(response)
        if not is_framed_plainly(response.headers):
            raise coding.bad_encoding("was not asked for")
        self._held = None
        layers = codings(response.headers)
        wire_length = _whole_length(response)
        name = disposition.filename(response.headers.get("Content-Disposition"))
        start = b""
        if layers:
            start, layers = await self._uncover(reply, layers, name)
        decoder = coding.Decoder(layers[0]) if layers else None
        length = None if decoder else wire_length
        await self._open(_offer(response, name, length), reply.place)
        if not response.headers.get("Content-Encoding"):
            self._held = (response.headers, wire_length)
        await self._pump(reply, length, decoder, start=start)

    async def _uncover(self, reply: Reply, layers: tuple[str, ...], name: str | None) -> tuple[bytes, tuple[str, ...]]:
        """Find out whether the coded form is the file; returns the bytes read to know, and the layer to take off."""
        if len(layers) > 1:
            raise coding.bad_encoding("has several layers")
        names = tuple(filter(None, (self._source.name, name, _last_segment(reply.target.path), self._url_name())))
        if not coding.is_the_file(layers[0], names, media_type(reply.response.headers.get("Content-Type"))):
            return b"", layers
        source = ParsedBody(reply.response, None)
        start = bytes(await self._read(source, Pace(0, self._settings.idle_timeout_s)))
        return start, layers if layers[0] == "gzip" and coding.is_coded_again(start) else ()

    def _url_name(self) -> str:
        return _last_segment(self._source.url.partition("#")[0].partition("?")[0])

    async def _open(self, offer: Offer, place: Place) -> None:
        if self._is_open:
            await self._held_up(self._sink.restart(), place)
        await self._give(self._sink.opened, offer, place)
        self._is_open = True

    async def _give(self, take: Callable[[T], Awaitable[None] | None], what: T, place: Place) -> None:
        """Have the sink take something, and wait for it only where it has to be waited for."""
        try:
            waiting = take(what)
        except SourceError as fault:
            raise SinkRefusedError(fault) from None
        if waiting is not None:
            await self._held_up(waiting, place)

    async def _held_up(self, waiting: Awaitable[None], place: Place) -> None:
        """Wait for the sink and note how long, so that the source is not blamed for it.

        After a while others may have our place at the host.
        """
        loop = asyncio.get_running_loop()
        since = loop.time()
        timer = loop.call_later(STAND_ASIDE_S, place.give_back)
        try:
            await waiting
        except SourceError as fault:
            raise SinkRefusedError(fault) from None
        finally:
            timer.cancel()
            self.held_up_s = max(self.held_up_s, loop.time() - since)
        await place.take()

    async def _pump(
        self,
        reply: Reply,
        length: int | None,
        decoder: coding.Decoder | None,
        *,
        skip: int = 0,
        start: bytes = b"",
    ) -> None:
        """Move the body into the sink and check that it is all there."""
        pace = Pace(self._settings.min_bytes_per_s, self._settings.idle_timeout_s)
        is_plain = decoder is None and self._meter is None
        source = body.of(reply.response, length, taken=len(start), is_plain=is_plain)
        chunk: bytes | memoryview = start
        while chunk or not source.is_at_end:
            if not chunk:
                chunk = await self._read_or_save(source, pace, reply.place)
            if skip:
                skip, chunk = max(0, skip - len(chunk)), chunk[skip:]
            if decoder is not None:
                await self._write_decoded(decoder, bytes(chunk), reply.place)
            elif chunk:
                await self._give(self._sink.write, chunk, reply.place)
            chunk = b""
        if self._meter is not None:
            await self._meter.settle()
        if length is not None and self._sink.position > length:
            self._held = None  # what we hold is not the beginning of that file
            raise faults.protocol_error("the source sent more than it announced")
        is_short = length is not None and self._sink.position < length
        # aiohttp takes the end of the connection for the end of a body that announces none, however it came about.
        is_short = is_short or (was_broken(reply.closed) and not _tells_its_end(reply.response))
        if skip or is_short or (decoder is not None and source.taken and not decoder.is_complete):
            raise faults.truncated(self._sink.position, length)

    async def _read_or_save(self, source: Body, pace: Pace, place: Place) -> bytes | memoryview:
        """The next chunk; before a fault the sink gets what has come, so that the next attempt goes on from there."""
        try:
            return await self._read(source, pace)
        except SourceError:
            if rest := source.rest():
                await self._give(self._sink.write, rest, place)
            raise

    async def _read(self, source: Body, pace: Pace) -> bytes | memoryview:
        """The next chunk; empty at the end.

        With a throttle it is paid for before anything more is read. That wait is ours: no clock of the source runs,
        and its place at the host is kept, since whoever came in its stead would have to wait as well.
        """
        chunk = await self._received(source, pace)
        if self._meter is not None:
            self.held_up_s = max(self.held_up_s, await self._meter.took(len(chunk)))
        return chunk

    async def _received(self, source: Body, pace: Pace) -> bytes | memoryview:
        """What has come, or comes within the time that a source has."""
        fault: SourceError
        try:
            if source.is_ready:  # it is here already: no clock is needed
                return await source.read()
            clock = asyncio.get_running_loop().time
            since = clock()
            async with asyncio.timeout(self._settings.idle_timeout_s):
                chunk = await source.read()
        except TimeoutError:
            fault = faults.timeout(self._settings.idle_timeout_s)
        except (*faults.CLIENT_ERRORS, RuntimeError) as error:  # RuntimeError: aiohttp's "Connection closed."
            fault = faults.body_fault(error, self._sink.position, source.length)
        else:
            pace.received(len(chunk), clock() - since)
            return chunk
        raise fault

    async def _write_decoded(self, decoder: coding.Decoder, chunk: bytes, place: Place) -> None:
        pieces = decoder.pieces(chunk)
        while (piece := await off_loop(self._threads.compute, next, pieces, b"")) != b"":
            await self._give(self._sink.write, piece, place)


def _is_same(response: Answer, before: Version, total: int | None) -> bool:
    """Whether the answer is of the version we began with, by our own look: some servers ignore If-Range."""
    headers = response.headers
    if codings(headers) or (before.total is not None and total not in (None, before.total)):
        return False
    if before.etag is not None:
        return headers.get("ETag", "").strip() == before.etag
    return headers.get("Last-Modified") == before.last_modified


def _check_status(response: Answer) -> None:
    status = response.status
    if status in _WHOLE:
        return
    span = content_range(response.headers.get("Content-Range")) if status == _PARTIAL else None
    if span is not None and span.is_whole:
        return
    if status < 400:
        raise SourceError("unexpected_status", f"the source answered with status {status} instead of the file")
    raise SourceError(
        f"http_status:{status}",
        f"the source answered with status {status}",
        transient=status in _TRANSIENT_STATUSES or status >= 500,
        retry_after_s=retry_after_s(response.headers.get("Retry-After"), datetime.now(UTC)),
    )


def _whole_length(response: Answer) -> int | None:
    """The length of the whole file on the wire: of an unasked 206 what its range says, however long its body is."""
    span = content_range(response.headers.get("Content-Range")) if response.status == _PARTIAL else None
    return body_length(response.headers) if span is None else span.total


def _offer(response: Answer, name: str | None, length: int | None) -> Offer:
    headers = response.headers
    return Offer(
        length,
        media_type(headers.get("Content-Type")),
        name,
        http_date(headers.get("Last-Modified")),
        length_verified=_tells_its_end(response),
    )


def _tells_its_end(response: Answer) -> bool:
    """Whether a body that was cut can be told from a whole one."""
    return "Content-Length" in response.headers or "Transfer-Encoding" in response.headers


def _last_segment(path: str) -> str:
    return re.split(r"[/\\]", unquote(path))[-1]
