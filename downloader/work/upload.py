"""One multipart upload: parts on their way to the store, their retries, their numbers, and what came of them.

    place() -> launch(part) ... -> discard(from number)      when an entry is rolled back
                                -> complete()                all receipts in order, or the first failure
                                -> close()                   whatever the state; the upload itself is swept later

A part number may be used for other content only if every earlier PUT of it was definitely answered. A PUT that got
no answer (timeout, reset, cancelled) may still land and replace what came after it, so its number is burnt.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import structlog

from downloader.errors import StorageError
from downloader.work.storage_errors import PartError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from downloader.work.checkpoint import Ledger
    from downloader.work.partbody import PartBody
    from downloader.work.storage import ObjectInfo, PartReceipt

log = structlog.get_logger(__name__)

PARTS_MAX = 10_000
_TRIES = 10
_BACKOFF_S = 0.2
_BACKOFF_MAX_S = 10.0
_RETRY_AFTER_MAX_S = 30.0
# How long a rolled-back part may take to be answered before it is cut off and its number burnt.
_DISCARD_GRACE_S = 5.0
# How long a store may take to answer the request for an upload that nobody wants any more.
_OPENING_GRACE_S = 2.0


class Store(Protocol):
    """What an archive needs of `storage.Storage`."""

    async def create_upload(self, key: str, content_type: str, disposition: str | None = None) -> str:
        """Begin an upload and give its id."""

    async def upload_part(self, key: str, upload_id: str, number: int, body: PartBody) -> PartReceipt:
        """Send one part, once; raises PartError."""

    async def complete(self, key: str, upload_id: str, receipts: Sequence[PartReceipt]) -> str:
        """Join the parts; gives the ETag."""

    async def put(
        self, key: str, body: PartBody, content_type: str = "application/zip", disposition: str | None = None
    ) -> str:
        """Store a small object; gives the ETag."""

    async def head(self, key: str) -> ObjectInfo | None:
        """Size and ETag, or None."""

    def read(self, key: str, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` up to but not including `end`."""

    def expected_etag(self, receipts: Sequence[PartReceipt]) -> str | None:
        """The ETag these parts must make, if that can be told."""


@dataclass(frozen=True, slots=True)
class Begun:
    """An upload that has parts already, numbered from 1 without a gap."""

    upload_id: str
    parts: tuple[PartReceipt, ...]

    @property
    def size(self) -> int:
        """Bytes in the parts."""
        return sum(part.size for part in self.parts)


class _Flight:
    """One part on its way; `start` is where it lies in the object."""

    def __init__(self, number: int, start: int, body: PartBody) -> None:
        self.number = number
        self.start = start
        self.body = body
        self.discarded = asyncio.Event()
        self.task: asyncio.Task[PartReceipt] | None = None


class Upload:
    """The parts of one object; used by one task at a time. `landed` is called whenever a part has been answered.

    `confirmed` are the parts that the store has, from the first byte of the object on without a gap.
    """

    def __init__(
        self,
        storage: Store,
        key: str,
        *,
        parts_in_flight: int,
        ledger: Ledger,
        landed: Callable[[], None],
        begun: Begun | None = None,
        content_type: str = "application/zip",
    ) -> None:
        parts = begun.parts if begun else ()
        self.upload_id: str | None = begun.upload_id if begun else None
        self.confirmed: list[PartReceipt] = list(parts)
        self._storage = storage
        self._key = key
        self._limit_max = parts_in_flight
        self._limit = parts_in_flight
        self._ledger = ledger
        self._landed = landed
        self._content_type = content_type
        self._opening: asyncio.Task[str] | None = None
        self._flights: dict[int, _Flight] = {}
        self._receipts = {part.number: part for part in parts}
        self._receipts_by_start: dict[int, PartReceipt] = {}
        self._confirmed_end = begun.size if begun else 0
        self._burnt: set[int] = set()
        self._next_number = len(parts) + 1
        self._failure: BaseException | None = None
        self._answered = asyncio.Event()

    @property
    def flying(self) -> int:
        """Parts that are on their way."""
        return len(self._flights)

    @property
    def begun(self) -> bool:
        """Whether the store has been asked for an upload."""
        return self._opening is not None or self.upload_id is not None

    def take_number(self) -> int:
        """The number of the next part; StorageError when all are used up."""
        while self._next_number in self._burnt:
            self._next_number += 1
        if self._next_number > PARTS_MAX:
            raise StorageError("archive_too_large", f"the archive takes more than {PARTS_MAX} parts", transient=False)
        self._next_number += 1
        return self._next_number - 1

    async def place(self) -> None:
        """Wait until another part may fly; opens the upload first. The first failed part's error rises here."""
        self.check()
        if self.upload_id is None:
            await self._open()
        while len(self._flights) >= self._limit:
            await self.landing()

    def launch(self, number: int, start: int, body: PartBody) -> None:
        """Send the part that begins at `start` on its way; call `place` before."""
        flight = _Flight(number, start, body)
        self._flights[number] = flight
        flight.task = asyncio.create_task(self._fly(flight), name=f"part-{number}")
        flight.task.add_done_callback(lambda task: self._settle(flight, task))

    async def landing(self) -> None:
        """Wait until a part is answered; the first failed part's error rises here."""
        self.check()
        await self._answered.wait()
        self.check()

    def check(self) -> None:
        """Raise the error of the first part that failed for good."""
        if self._failure is not None:
            raise self._failure

    async def discard(self, first_number: int) -> None:
        """Forget the parts from this number on: wait for those on their way, cut off the slow, take numbers back."""
        flights = [flight for number, flight in self._flights.items() if number >= first_number]
        for flight in flights:
            flight.discarded.set()
        await self._end(flights, _DISCARD_GRACE_S)
        for number in [number for number in self._receipts if number >= first_number]:
            del self._receipts[number]
        self._receipts_by_start = {
            start: part for start, part in self._receipts_by_start.items() if part.number < first_number
        }
        self._next_number = first_number

    async def complete(self) -> tuple[str, list[PartReceipt]]:
        """Wait for all parts and join them; gives the ETag and the receipts in order."""
        while self._flights:
            await self.landing()
        self.check()
        receipts = [self._receipts[number] for number in sorted(self._receipts)]
        if self.upload_id is None:
            raise RuntimeError("there is no upload to complete")
        return await self._storage.complete(self._key, self.upload_id, receipts), receipts

    async def close(self) -> None:
        """Cut off all parts. The upload stays: it is gone on from or swept, as the ledger says."""
        await self._end(list(self._flights.values()), 0)
        if self._opening is not None and not self._opening.done():
            # An upload that begins after it was looked for would be found by nobody.
            with suppress(TimeoutError, StorageError):
                async with asyncio.timeout(_OPENING_GRACE_S):
                    await self._opening

    async def _open(self) -> None:
        if self._opening is None:
            await self._ledger.storing(self._key)
            self._opening = asyncio.create_task(self._storage.create_upload(self._key, self._content_type))
        upload_id = await asyncio.shield(self._opening)
        await self._ledger.storing(self._key, upload_id)
        self.upload_id = upload_id

    async def _end(self, flights: list[_Flight], grace_s: float) -> None:
        tasks = [flight.task for flight in flights if flight.task is not None]
        if not tasks:
            return
        try:
            _, slow = await asyncio.wait(tasks, timeout=grace_s)
        except asyncio.CancelledError:
            for task in tasks:
                task.cancel()
            raise
        for task in slow:
            task.cancel()
        if slow:
            await asyncio.wait(slow)

    async def _fly(self, flight: _Flight) -> PartReceipt:
        tried = 0
        while True:
            tried += 1
            try:
                receipt = await self._storage.upload_part(self._key, self.upload_id or "", flight.number, flight.body)
            except PartError as error:
                if error.ambiguous:
                    self._burnt.add(flight.number)
                if tried == _TRIES or not error.transient or flight.discarded.is_set():
                    # An upload that is gone cannot be gone on with, but the job can be tried again.
                    transient = error.transient or error.gone
                    raise StorageError(error.code, error.message, transient=transient) from error
                await self._back_off(flight, error, tried)
            except asyncio.CancelledError:
                self._burnt.add(flight.number)
                raise
            else:
                self._limit = min(self._limit + 1, self._limit_max)
                return receipt

    async def _back_off(self, flight: _Flight, error: PartError, tried: int) -> None:
        if error.slow_down:
            self._limit = max(self._limit // 2, 1)
        delay_s = min(_BACKOFF_S * 2 ** (tried - 1), _BACKOFF_MAX_S) * random.uniform(0.5, 1)
        delay_s = max(delay_s, min(error.retry_after_s or 0, _RETRY_AFTER_MAX_S))
        log.info("part.retry", number=flight.number, tried=tried, code=error.code, reason=error.message)
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await flight.discarded.wait()
        if flight.discarded.is_set():
            raise StorageError(error.code, error.message) from error

    def _confirm(self, start: int, receipt: PartReceipt) -> None:
        self._receipts[receipt.number] = self._receipts_by_start[start] = receipt
        while (following := self._receipts_by_start.pop(self._confirmed_end, None)) is not None:
            self.confirmed.append(following)
            self._confirmed_end += following.size

    def _settle(self, flight: _Flight, task: asyncio.Task[PartReceipt]) -> None:
        """Take the part's result: the end of every flight, whatever became of it."""
        self._flights.pop(flight.number, None)
        error = None if task.cancelled() else task.exception()
        if not flight.discarded.is_set():
            if task.cancelled():
                error = StorageError("storage_unavailable", f"uploading part {flight.number}: cut off")
            if error is not None:
                self._failure = self._failure or error
            else:
                self._confirm(flight.start, task.result())
        self._answered.set()
        self._answered = asyncio.Event()
        self._landed()
