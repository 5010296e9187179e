"""The live events of all jobs: one reader per process, a small bounded buffer per subscriber.

A subscriber first registers here, then reads the job's history from the store, then drops live events up to the last
id it has; so nothing is missed and nothing comes twice. Whoever falls behind, or whom the reader cannot serve without
a gap, gets LAGGED and reads the history again after the last id it sent.
"""

from __future__ import annotations

import asyncio
import enum
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Self

import structlog

from downloader.errors import UnavailableError
from downloader.events import JobEvent, StateEvent, event_from_fields, event_order
from downloader.jobs import TERMINAL
from downloader.state.client import BLOCK_S, Client, answered

BUFFER_ITEMS = 128
# Where many jobs have news at once, so much of it is read together: a read costs more than an event.
GATHER_S = 0.005
READ_ENTRIES = 500
PAUSE_S = 0.5
# Each subscriber that is woken costs the event loop some 50 us. After so many everything else has its turn; an answer
# to another call takes three turns.
WOKEN_AT_ONCE = 20
_ENDED = frozenset(state.encode() for state in TERMINAL)

log = structlog.get_logger(__name__)


class Signal(enum.Enum):
    """What a subscriber may get besides events."""

    HEARTBEAT = "heartbeat"
    LAGGED = "lagged"
    CLOSE = "close"


Item = JobEvent | Signal


class Subscription:
    """One subscriber's buffer: at most BUFFER_ITEMS, newer state replacing older.

    It is registered for as long as its block runs. Thousands of them wait at once, so it has no queue and no event
    of its own, which take 2 KiB.
    """

    __slots__ = ("_feed", "_items", "_job_id", "_waiter")

    def __init__(self, feed: Feed, job_id: str) -> None:
        self._feed = feed
        self._job_id = job_id
        self._items: list[Item] = []
        self._waiter: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        self._feed.enter(self._job_id, self)
        return self

    def __exit__(self, *_: object) -> None:
        self._feed.leave(self._job_id, self)

    def put(self, item: Item) -> None:
        """Add an item; a state that is no end replaces the state before it, and an overflow becomes LAGGED."""
        items = self._items
        if items and isinstance(items[-1], StateEvent) and isinstance(item, StateEvent) and not items[-1].terminal:
            items[-1] = item
        elif len(items) >= BUFFER_ITEMS:
            signals = [kept for kept in items if isinstance(kept, Signal)]
            self._items = [*dict.fromkeys([*signals, Signal.LAGGED])]
        elif not isinstance(item, Signal) or item not in items:
            items.append(item)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def take(self) -> list[Item]:
        """Wait until there is something, and take all of it; nothing is lost when the wait is cancelled."""
        if not self._items:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        items, self._items = self._items, []
        return items


class Feed:
    """Reads the live stream and hands each event to who asked for its job."""

    def __init__(self, client: Client, prefix: str, ended: Callable[[str], None] | None = None) -> None:
        """`ended` is called with the id of every job that reaches its end, on whichever replica."""
        self._client = client
        self._stream = f"{{{prefix}}}:live"
        self._subscriptions: dict[str, set[Subscription]] = defaultdict(set)
        self._last = ""
        self.ended = ended

    def subscribe(self, job_id: str) -> Subscription:
        """A subscription to a job's events, for as long as its block runs."""
        return Subscription(self, job_id)

    def enter(self, job_id: str, subscription: Subscription) -> None:
        """Register a subscription."""
        self._subscriptions[job_id].add(subscription)

    def leave(self, job_id: str, subscription: Subscription) -> None:
        """Forget a subscription."""
        self._subscriptions[job_id].discard(subscription)
        if not self._subscriptions[job_id]:
            del self._subscriptions[job_id]

    @property
    def subscribers(self) -> int:
        """How many are subscribed."""
        return sum(map(len, self._subscriptions.values()))

    def signal_all(self, signal: Signal) -> None:
        """Give every subscriber a signal at once."""
        for subscription in self._everybody():
            subscription.put(signal)

    async def signal_in_turns(self, signal: Signal, pause_s: float = 0) -> None:
        """Give every subscriber a signal, with a pause after each WOKEN_AT_ONCE of them."""
        await _give(self._everybody(), [signal], pause_s)

    def _everybody(self) -> list[Subscription]:
        return [one for subscriptions in self._subscriptions.values() for one in subscriptions]

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
        await self.signal_in_turns(Signal.LAGGED)

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
            await self.signal_in_turns(Signal.LAGGED)
        for job_id, events in self._by_job(entries).items():
            await _give(list(self._subscriptions.get(job_id, ())), events)
        await asyncio.sleep(GATHER_S)

    async def _trimmed_past(self) -> bool:
        """True when entries after the last one read have been trimmed before we came to them."""
        oldest = await answered(self._client.xrange(self._stream, count=1))
        return bool(oldest) and _order(self._last) < _order(oldest[0][0].decode())

    def _by_job(self, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> dict[str, list[Item]]:
        """The events of each job that somebody asked for: a report's files and figures go out in one write."""
        found: dict[str, list[Item]] = {}
        for key, fields in entries:
            self._last, job_id = key.decode(), fields[b"job"].decode()
            if self.ended and fields.get(b"state") in _ENDED:
                self.ended(job_id)
            if job_id in self._subscriptions:
                found.setdefault(job_id, []).append(event_from_fields(self._last, fields))
        return found


async def _give(subscriptions: Sequence[Subscription], items: Sequence[Item], pause_s: float = 0) -> None:
    """Give items to all of them; who comes meanwhile reads of it in the history, and who has left does not mind."""
    for number, subscription in enumerate(subscriptions, 1):
        for item in items:
            subscription.put(item)
        if number % WOKEN_AT_ONCE == 0:
            await asyncio.sleep(pause_s)


def _order(event_id: str) -> tuple[int, int]:
    return event_order(event_id) or (0, 0)


def _entries(answer: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """The entries of an XREAD answer, whichever protocol version it came by (RESP2 lists, RESP3 maps)."""
    streams = list(answer.values()) if isinstance(answer, dict) else [pair[1] for pair in answer]
    entries = streams[0]
    if entries and isinstance(entries[0], list) and entries[0] and isinstance(entries[0][0], (list, tuple)):
        entries = entries[0]  # redis-py wraps a stream's entries once more under RESP3
    return [(key, fields) for key, fields in entries]
