"""A stream of bytes cut into the parts of an upload, with one open transaction at its end.

    mark() -> place(header) -> append(...) -> release()     the header is filled in and its parts may go
                                           -> rollback()    everything since the mark is gone

Every part that the open header touches is held back, so that it can still be filled in; parts behind it may fly. A
part is a list of the buffers that came in. Only small ones are copied together, because a hundred thousand little
objects would cost more memory than their bytes.

Memory: held, building and flying parts together may be four (the job's minimum, reserved by the caller); each one
more must be had from the budget. Who does not get it waits for a flying part; when none flies there are at most two
held and one building, so this cannot deadlock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from downloader.work.partbody import PartBody
from downloader.work.upload import Begun, Store, Upload

if TYPE_CHECKING:
    from downloader.work.budget import ByteBudget
    from downloader.work.checkpoint import Ledger
    from downloader.work.storage import PartReceipt

PARTS_WITHOUT_ASKING = 4
_SMALL_BYTES = 8 * 1024
_SLAB_BYTES = 64 * 1024


@dataclass(slots=True)
class _Part:
    """A part that was begun and is still ours; `start` is where it begins in the object."""

    number: int
    start: int
    size: int = 0
    buffers: list[memoryview] = field(default_factory=list)

    def truncate(self, size: int) -> None:
        """Drop all but the first `size` bytes."""
        while self.size > size:
            last = self.buffers.pop()
            self.size -= len(last)
            if self.size < size:
                self.buffers.append(last[: size - self.size])
                self.size = size


@dataclass(frozen=True, slots=True)
class _Span:
    """Where the open header lies in the object."""

    start: int
    end: int


class PartStream:
    """The growing object; used by one task at a time.

    With `begun` it goes on behind the parts of an upload that was begun. `landed` is called whenever a part has been
    answered. After a cancelled call `rollback` and `close` work as ever; after a cancelled `rollback` only `close`.
    """

    def __init__(
        self,
        storage: Store,
        key: str,
        *,
        part_bytes: int,
        parts_in_flight: int,
        budget: ByteBudget,
        ledger: Ledger,
        begun: Begun | None = None,
        landed: Callable[[], None] = lambda: None,
    ) -> None:
        self.position = begun.size if begun else 0
        self._storage = storage
        self._key = key
        self._part_bytes = part_bytes
        self._budget = budget
        self._ledger = ledger
        self._told_landed = landed
        self._reserved = 0
        self._parts: list[_Part] = []
        self._header: _Span | None = None
        # Small pieces are copied one after the other into a slab; `_run` is where the last buffer begins in it.
        self._slab = memoryview(bytearray(_SLAB_BYTES))
        self._slab_used = 0
        self._run: int | None = None
        self._upload = Upload(
            storage, key, parts_in_flight=parts_in_flight, ledger=ledger, landed=self._landed, begun=begun
        )

    @property
    def confirmed(self) -> tuple[str, list[PartReceipt]]:
        """The upload's id and the parts that the store has, from the first byte on without a gap."""
        return self._upload.upload_id or "", self._upload.confirmed

    async def place(self, header: bytes) -> list[memoryview]:
        """Open the transaction with a header to be filled in; gives the places where its bytes ended up, in order."""
        self._header = _Span(self.position, self.position + len(header))
        slots: list[memoryview] = []
        await self._append(memoryview(bytearray(header)), slots)
        return slots

    async def append(self, buffers: Iterable[bytes | bytearray | memoryview]) -> None:
        """Add bytes at the end; the buffers are ours from now on and must not change."""
        for buffer in buffers:
            await self._append(memoryview(buffer).cast("B"), None)

    def put(self, buffers: Sequence[bytes | memoryview]) -> bool:
        """Add small buffers at once, without a transaction; False, and nothing done, where they would end the part."""
        part = self._lone()
        if part is None or self._header is not None or part.size + sum(map(len, buffers)) >= self._part_bytes:
            return False
        for buffer in buffers:
            self._add(part, memoryview(buffer))
        return True

    async def release(self) -> None:
        """End the transaction: the header is filled in, and what was held back may go."""
        self._header = None
        await self._pump()

    async def rollback(self) -> None:
        """Undo everything since `place`: not a byte stays, and parts on their way are forgotten."""
        if self._header is None:
            return
        start, self._header = self._header.start, None
        while self._parts and self._parts[-1].start > start:
            self._parts.pop()
        self.position = start
        self._run = None
        if self._parts:
            last = self._parts[-1]
            last.truncate(start - last.start)
            await self._upload.discard(last.number + 1)
        self._give_back()

    async def finish(self) -> tuple[str, list[PartReceipt]]:
        """Store the object: one part in one request, more by completing the upload. Gives ETag and receipts."""
        await self._pump()
        if not self._upload.begun:
            body = PartBody([buffer for part in self._parts for buffer in part.buffers])
            await self._ledger.storing(self._key)
            return await self._storage.put(self._key, body), []
        while self._parts:
            await self._launch(self._parts[0])
        return await self._upload.complete()

    async def close(self) -> None:
        """Cut everything off; all memory is given back whatever happens. What the store has stays there."""
        try:
            await self._upload.close()
        finally:
            self._parts.clear()
            self._give_back()

    async def _append(self, data: memoryview, slots: list[memoryview] | None) -> None:
        while len(data):
            part = self._lone() or await self._building()
            piece = data[: self._part_bytes - part.size]
            placed = self._add(part, piece)
            if slots is not None:
                slots.append(placed)
            data = data[len(piece) :]
            if part.size == self._part_bytes:
                await self._pump()

    def _add(self, part: _Part, piece: memoryview) -> memoryview:
        """Put a piece at the part's end; gives the place where it is now."""
        part.size += len(piece)
        self.position += len(piece)
        if len(piece) > _SMALL_BYTES:
            self._run = None
            part.buffers.append(piece)
            return piece
        if self._slab_used + len(piece) > _SLAB_BYTES:
            self._slab, self._slab_used, self._run = memoryview(bytearray(_SLAB_BYTES)), 0, None
        start, self._slab_used = self._slab_used, self._slab_used + len(piece)
        placed = self._slab[start : self._slab_used]
        placed[:] = piece
        if self._run is None:
            self._run = start
            part.buffers.append(placed)
        else:
            part.buffers[-1] = self._slab[self._run : self._slab_used]
        return placed

    def _lone(self) -> _Part | None:
        """The part that is being filled if it is, as nearly always, the only one: then nothing is to be sent."""
        return self._parts[0] if len(self._parts) == 1 and self._parts[0].size < self._part_bytes else None

    async def _building(self) -> _Part:
        """The part that takes the next byte."""
        await self._pump()
        if not self._parts or self._parts[-1].size == self._part_bytes:
            await self._room()
            self._parts.append(_Part(self._upload.take_number(), self.position))
            self._run = None
        return self._parts[-1]

    async def _room(self) -> None:
        """Wait until memory allows for one more part."""
        while self._owned - self._reserved >= PARTS_WITHOUT_ASKING:
            if self._budget.try_reserve(self._part_bytes):
                self._reserved += 1
            elif self._upload.flying:
                await self._upload.landing()
            else:
                return  # parts smaller than a header (tests) are held by the dozen

    async def _pump(self) -> None:
        """Send what is full and not held back, in order."""
        if self._lone() is not None:
            return
        while (ready := next(filter(self._is_ready, self._parts), None)) is not None:
            await self._launch(ready)

    async def _launch(self, part: _Part) -> None:
        await self._upload.place()
        # No await between these two: a part is either ours or on its way, also when we are cancelled.
        self._parts.remove(part)
        self._upload.launch(part.number, part.start, PartBody(part.buffers))

    def _is_ready(self, part: _Part) -> bool:
        if part.size < self._part_bytes:
            return False
        header = self._header
        return header is None or part.start >= header.end or part.start + part.size <= header.start

    @property
    def _owned(self) -> int:
        return len(self._parts) + self._upload.flying

    def _landed(self) -> None:
        self._give_back()
        self._told_landed()

    def _give_back(self) -> None:
        """Return to the budget what is no longer needed."""
        while self._reserved and self._owned - self._reserved < PARTS_WITHOUT_ASKING:
            self._reserved -= 1
            self._budget.release(self._part_bytes)
