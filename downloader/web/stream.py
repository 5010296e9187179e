"""One client following one job: what was missed, then what happens, at most four writes a second, in order."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from downloader.events import FilesEvent, JobEvent, StateEvent, event_order
from downloader.jobs import TERMINAL, JobRecord
from downloader.state.feed import Item, Signal, Subscription
from downloader.state.store import History
from downloader.web import frames
from downloader.web.outlet import Outlet
from downloader.web.parts import WebParts


def up_to_date(record: JobRecord, last_id: str) -> bool:
    """True when the job has ended and the client has seen it end."""
    seen, end = event_order(last_id), event_order(record.event_id)
    return record.state in TERMINAL and seen is not None and end is not None and seen >= end


@dataclass(slots=True)
class Batch:
    """What waits to be sent: file changes all, of the job's states only the newest."""

    files: list[FilesEvent] = field(default_factory=list)
    state: StateEvent | None = None

    def add(self, event: JobEvent) -> None:
        """Take an event in; a newer state replaces the one that waits, for each holds the whole snapshot."""
        if isinstance(event, StateEvent):
            self.state = event
        else:
            self.files.append(event)

    def take(self) -> list[JobEvent]:
        """Everything that waits, in the order of its ids; nothing waits afterwards."""
        events: list[JobEvent] = [*self.files, *((self.state,) if self.state else ())]
        self.files, self.state = [], None
        return sorted(events, key=lambda event: event_order(event.id) or (0, 0))

    def __bool__(self) -> bool:
        """True when something waits."""
        return bool(self.files or self.state)


@dataclass(slots=True)
class Stream:
    """The state of one open stream: `last_id` is the id of the last event that was sent or waits to be.

    `is_allowed` is asked at each heartbeat whether its caller may still listen.
    """

    outlet: Outlet
    frames: frames.Frames
    parts: WebParts
    tenant: str
    job_id: str
    is_allowed: Callable[[], Awaitable[bool]]
    last_id: str = ""
    _batch: Batch = field(default_factory=Batch)
    _flushed_at: float = float("-inf")

    async def begin(self, history: History, given_id: str) -> bool:
        """Send what the client lacks, first of all `retry:`; True when that was the end of the story."""
        await self.outlet.write(frames.soon())
        self.last_id = given_id
        return await self._catch_up(history, known=bool(given_id))

    async def _catch_up(self, history: History, *, known: bool) -> bool:
        """Send the events behind `last_id`, or the snapshot (after `reset` when there was an id); True at the end."""
        if history.record is None:
            await self.outlet.write(frames.nowhere(self.job_id))
            return True
        events: tuple[JobEvent, ...] | None = history.events if known else None
        if events is None:
            if known:
                await self.outlet.write(frames.reset(self.job_id))
            events = (StateEvent(history.record.event_id, history.record.snapshot),)
        for event in events:
            await self._send([event])
        return history.record.state in TERMINAL

    async def follow(self, live: Subscription) -> None:
        """Pass on what happens until the job ends, the service does, or it is time for a fresh connection."""
        rotate_at = asyncio.get_running_loop().time() + self.parts.pace.rotate_s * random.uniform(0.8, 1.2)  # noqa: S311
        ended = self.parts.state.draining
        while not ended:
            item = await self._next(live, rotate_at)
            if item is None and asyncio.get_running_loop().time() >= rotate_at:
                break
            if await self._take(item):
                return
            ended = item is Signal.CLOSE
        await self._flush()
        await self.outlet.write(frames.soon())

    async def _next(self, live: Subscription, rotate_at: float) -> Item | None:
        """The next item, or None when it is time to flush or to rotate."""
        until = min(rotate_at, self._flushed_at + self.parts.pace.flush_s) if self._batch else rotate_at
        try:
            async with asyncio.timeout_at(until):
                return await live.next()
        except TimeoutError:
            return None

    async def _take(self, item: Item | None) -> bool:
        """Do what an item asks for; True when the job has ended and the client knows it."""
        match item:
            case Signal.HEARTBEAT:
                if not await self.is_allowed():
                    return True
                await self.outlet.write(frames.HEARTBEAT)
            case Signal.LAGGED:
                await self._flush()
                return await self._catch_up(await self._history(), known=True)
            case StateEvent() | FilesEvent() if self._is_new(item):
                self.last_id = item.id
                self._batch.add(item)
                if item.terminal:
                    await self._flush()
                    return True
            case _:
                pass
        if self._batch and asyncio.get_running_loop().time() >= self._flushed_at + self.parts.pace.flush_s:
            await self._flush()
        return False

    def _is_new(self, event: JobEvent) -> bool:
        return (event_order(event.id) or (0, 0)) > (event_order(self.last_id) or (0, 0))

    async def _history(self) -> History:
        return await self.parts.store.history(self.tenant, self.job_id, self.last_id)

    async def _flush(self) -> None:
        if self._batch:
            await self._send(self._batch.take())

    async def _send(self, events: list[JobEvent]) -> None:
        now_s = time.time()
        await self.outlet.write(b"".join(self.frames.of(self.job_id, event, now_s) for event in events))
        self.last_id = events[-1].id
        self._flushed_at = asyncio.get_running_loop().time()
