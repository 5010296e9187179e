"""The live events of all jobs: one reader per process, a small bounded buffer per subscriber.

A subscriber first registers here, then reads the job's history from the store, then drops live events up to the last
id it has; so nothing is missed and nothing comes twice. Whoever falls behind, or whom the reader cannot serve without
a gap, gets LAGGED and reads the history again after the last id it sent.
"""

from __future__ import annotations

import asyncio
import enum
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from downloader.errors import UnavailableError
from downloader.events import JobEvent, StateEvent, event_from_fields, event_order
from downloader.jobs import TERMINAL
from downloader.state.client import BLOCK_S, Client, answered

BUFFER_ITEMS = 128
READ_ENTRIES = 500
PAUSE_S = 0.5
_ENDED = frozenset(state.encode() for state in TERMINAL)

log = structlog.get_logger(__name__)


class Signal(enum.Enum):
    """What a subscriber may get besides events."""

    HEARTBEAT = "heartbeat"
    LAGGED = "lagged"
    CLOSE = "close"


Item = JobEvent | Signal


class Subscription:
    """One subscriber's buffer: at most BUFFER_ITEMS, newer state replacing older."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._filled = asyncio.Event()

    def put(self, item: Item) -> None:
        """Add an item; a state that is no end replaces the state before it, and an overflow becomes LAGGED."""
        items = self._items
        if items and isinstance(items[-1], StateEvent) and isinstance(item, StateEvent) and not items[-1].terminal:
            items[-1] = item
        elif len(items) >= BUFFER_ITEMS:
            kept = [kept for kept in items if isinstance(kept, Signal)]
            items.clear()
            items.extend([*dict.fromkeys([*kept, Signal.LAGGED])])
        elif item not in items or not isinstance(item, Signal):
            items.append(item)
        self._filled.set()

    async def next(self) -> Item:
        """Wait for the next item; nothing is lost when the wait is cancelled."""
        while not self._items:
            self._filled.clear()
            await self._filled.wait()
        return self._items.popleft()


class Feed:
    """Reads the live stream and hands each event to who asked for its job."""

    def __init__(self, client: Client, prefix: str, ended: Callable[[str], None] | None = None) -> None:
        """`ended` is called with the id of every job that reaches its end, on whichever replica."""
        self._client = client
        self._stream = f"{{{prefix}}}:live"
        self._subscriptions: dict[str, set[Subscription]] = defaultdict(set)
        self._last = ""
        self.ended = ended

    @contextmanager
    def subscribe(self, job_id: str) -> Iterator[Subscription]:
        """Register for a job's events for as long as the block runs."""
        subscription = Subscription()
        self._subscriptions[job_id].add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions[job_id].discard(subscription)
            if not self._subscriptions[job_id]:
                del self._subscriptions[job_id]

    @property
    def subscribers(self) -> int:
        """How many are subscribed."""
        return sum(map(len, self._subscriptions.values()))

    def signal_all(self, signal: Signal) -> None:
        """Give every subscriber a signal."""
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.put(signal)

    async def run(self) -> None:
        """Read until cancelled; an outage of Redis is waited out, and the gap is healed by LAGGED."""
        while True:
            try:
                await self._find_place()
                while True:
                    await self._read()
            except UnavailableError as error:
                log.warning("feed.interrupted", reason=error.message)
                await asyncio.sleep(PAUSE_S)

    async def _find_place(self) -> None:
        """Go on after the last entry read; where the stream lost it (restored or emptied Redis), from its end."""
        newest = await self._newest()
        if not self._last or _order(newest) < _order(self._last):
            self._last = newest
        self.signal_all(Signal.LAGGED)

    async def _newest(self) -> str:
        entries = await answered(self._client.xrevrange(self._stream, count=1))
        return entries[0][0].decode() if entries else "0-0"

    async def _read(self) -> None:
        answer: Any = await answered(
            self._client.xread({self._stream: self._last}, count=READ_ENTRIES, block=int(BLOCK_S * 1000))
        )
        if not answer:
            if _order(await self._newest()) < _order(self._last):
                await self._find_place()
            return
        entries = _entries(answer)
        if len(entries) == READ_ENTRIES and await self._trimmed_past():
            self.signal_all(Signal.LAGGED)
        for key, fields in entries:
            self._last = key.decode()
            self._hand_out(self._last, fields)

    async def _trimmed_past(self) -> bool:
        """True when entries after the last one read have been trimmed before we came to them."""
        oldest = await answered(self._client.xrange(self._stream, count=1))
        return bool(oldest) and _order(self._last) < _order(oldest[0][0].decode())

    def _hand_out(self, event_id: str, fields: dict[bytes, bytes]) -> None:
        job_id = fields[b"job"].decode()
        if self.ended and fields.get(b"state") in _ENDED:
            self.ended(job_id)
        subscriptions = self._subscriptions.get(job_id)
        if not subscriptions:
            return
        event = event_from_fields(event_id, fields)
        for subscription in subscriptions:
            subscription.put(event)


def _order(event_id: str) -> tuple[int, int]:
    return event_order(event_id) or (0, 0)


def _entries(answer: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """The entries of an XREAD answer, whichever protocol version it came by (RESP2 lists, RESP3 maps)."""
    streams = list(answer.values()) if isinstance(answer, dict) else [pair[1] for pair in answer]
    entries = streams[0]
    if entries and isinstance(entries[0], list) and entries[0] and isinstance(entries[0][0], (list, tuple)):
        entries = entries[0]  # redis-py wraps a stream's entries once more under RESP3
    return [(key, fields) for key, fields in entries]
