"""One client following one job: what was missed, then what happens, at most four writes a second, in order."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
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

    `is_allowed` is asked at each heartbeat whether its caller may still listen. `_free_at` is when the next write may
    be. It is counted on from when the one before might have been: else events that come four times a second by another
    clock, the worker's, would each wait for as long as the first one had to.
    """

    outlet: Outlet
    frames: frames.Frames
    parts: WebParts
    tenant: str
    job_id: str
    is_allowed: Callable[[], Awaitable[bool]]
    last_id: str = ""
    _batch: Batch = field(default_factory=Batch)
    _free_at: float = 0.0
    _rotate_at: float = 0.0

    async def begin(self, history: History, given_id: str) -> bool:
        """Send what the client lacks, first of all `retry:`; True when that was the end of the story."""
        await self.outlet.write(frames.soon())
        self.last_id = given_id
        return await self._catch_up(history, known=bool(given_id))

    async def _catch_up(self, history: History, *, known: bool) -> bool:
        """Send the events behind `last_id`, or the snapshot (after `reset` when there was an id); True at the end."""
        while True:
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
            if not (known and history.more):
                return history.record.state in TERMINAL
            history = await self._history()

    async def follow(self, live: Subscription) -> None:
        """Pass on what happens until the job ends, the service does, or it is time for a fresh connection.

        That is looked for at each heartbeat, so that an idle stream needs no timer.
        """
        self._rotate_at = _now() + self.parts.pace.rotate_s * random.uniform(0.8, 1.2)  # noqa: S311
        ended = self.parts.state.draining
        while not ended:
            items = await (self._until_free(live) if self._batch else live.take())
            if await self._take_in(items):
                return
            ended = Signal.CLOSE in items or (Signal.HEARTBEAT in items and _now() >= self._rotate_at)
            if self._batch and _now() >= self._free_at:
                await self._flush()
        await self._flush()
        await self.outlet.write(frames.soon())

    async def _until_free(self, live: Subscription) -> Sequence[Item]:
        """What comes before the next write is due."""
        try:
            async with asyncio.timeout_at(self._free_at):
                return await live.take()
        except TimeoutError:
            return ()

    async def _take_in(self, items: Sequence[Item]) -> bool:
        """Do what the items ask for; True when the job has ended and the client knows it."""
        for item in items:
            match item:
                case Signal.HEARTBEAT:
                    if not await self.is_allowed():
                        return True
                    await self.outlet.write(frames.HEARTBEAT)
                case Signal.LAGGED:
                    await self._flush()
                    if await self._catch_up(await self._history(), known=True):
                        return True
                case StateEvent() | FilesEvent() if self._is_new(item):
                    self.last_id = item.id
                    self._batch.add(item)
                    if item.terminal:
                        await self._flush()
                        return True
                case _:
                    pass
        return False

    def _is_new(self, event: JobEvent) -> bool:
        return (event_order(event.id) or (0, 0)) > (event_order(self.last_id) or (0, 0))

    async def _history(self) -> History:
        return await self.parts.store.history(self.tenant, self.job_id, self.last_id)

    async def _flush(self) -> None:
        if self._batch:
            self._free_at = max(_now(), self._free_at + self.parts.pace.flush_s)
            await self._send(self._batch.take())

    async def _send(self, events: Sequence[JobEvent]) -> None:
        await self.outlet.write(self.frames.of(self.job_id, events, time.time()))
        self.last_id = events[-1].id


def _now() -> float:
    return asyncio.get_running_loop().time()
