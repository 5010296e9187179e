"""Follows a job to its end, whatever happens to the connection, the proxy between and the service behind it.

The stream is left and found again by the last event's id. Where no events come through, because a proxy keeps them
until the stream ends or the service has no room for one more, the status is asked for instead, and the stream tried
again later. A service that is away is waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from downloader.client.calls import Calls, Patience
from downloader.client.server import JobRef
from downloader.client.stream import NOTHING_MORE, RETRY, Event, Following
from downloader.client.text import printable
from downloader.errors import AwayError, RefusedError

INLINE_FILES = 200
HELD_BACK = "no events come through (a proxy may hold them back); asking for the status instead"


async def follow(calls: Calls, ref: JobRef, notice: Callable[[str], None]) -> AsyncGenerator[Following]:
    """Follow a job to its end; yields after each event, the same object each time.

    Raises RefusedError when there is no such job, AwayError when the service stays away.
    """
    heard, trouble = Following(), Trouble(calls.patience, notice)
    while not heard.ended:
        listening = Listening(calls, ref, heard)
        try:
            async with aclosing(listening.run()) as news:
                async for _ in news:
                    trouble.over()
                    yield heard
        except AwayError as error:
            await trouble.wait(error)
            continue
        if listening.asks_s and not heard.ended:
            trouble.tell_once(listening.why)
            async with aclosing(_asking(calls, ref, heard, listening.asks_s, trouble)) as answers:
                async for _ in answers:
                    yield heard
        elif not heard.ended:
            await asyncio.sleep(listening.pause_s)


@dataclass(slots=True)
class Listening:
    """One connection to the stream. Afterwards: how long to pause, or to ask for the status instead, and why."""

    calls: Calls
    ref: JobRef
    heard: Following
    pause_s: float = 1.0
    asks_s: float = 0.0
    why: str = ""

    async def run(self) -> AsyncGenerator[Following]:
        """Hear what comes until the stream ends; AwayError when it breaks."""
        patience = self.calls.patience
        async with aclosing(self.calls.events(self.ref, self.heard.last_id)) as stream:
            try:
                async with asyncio.timeout(patience.first_event_s):  # wait_for may lose a Ctrl-C (python/cpython#86296)
                    event = await anext(stream, None)
            except TimeoutError:
                event = None
            if event is None:  # not even the time to wait that each stream begins with
                self.asks_s, self.why = patience.stream_again_s, HELD_BACK
            while event is not None:
                if await self._take(event):
                    yield self.heard
                event = await anext(stream, None)

    async def _take(self, event: Event) -> bool:
        """Take in an event; True when there is news of the job in it."""
        match event.name:
            case "retry" if event.name == RETRY:
                patience = self.calls.patience
                self.pause_s = min(max(event.data["ms"] / 1000, patience.pause_s), patience.pause_max_s)
                return False
            case "busy":
                self.asks_s = event.data.get("retryMs", 0) / 1000 or self.calls.patience.stream_again_s
                why = printable(event.data.get("reason", "it is busy"))
                self.why = f"the service opens no stream ({why}); asking for the status"
                return False
            case "error" if event.data.get("status") == "not_found":
                raise RefusedError("job_not_found", printable(event.data.get("error", "There is no such job.")))
            case name if name == NOTHING_MORE:
                self.heard.hear_status(await self.calls.status(self.ref))
                return True
            case _:
                self.heard.hear(event)
                return bool(self.heard.job)


async def _asking(
    calls: Calls, ref: JobRef, heard: Following, for_s: float, trouble: Trouble
) -> AsyncGenerator[Following]:
    """Ask for the status now and then, for `for_s` seconds or to the job's end."""
    loop = asyncio.get_running_loop()
    until = loop.time() + for_s
    while loop.time() < until and not heard.ended:
        try:
            heard.hear_status(await calls.status(ref, files=heard.job.get("totalFiles", 0) <= INLINE_FILES))
            trouble.over()
            yield heard
        except AwayError as error:
            await trouble.wait(error)
        if not heard.ended:
            await asyncio.sleep(calls.patience.poll_s)


@dataclass(slots=True)
class Trouble:
    """Waits while the service is away, says so once, and says when it is back."""

    patience: Patience
    notice: Callable[[str], None]
    _tries: int = 0
    _since: float = 0.0
    _told: set[str] = field(default_factory=set)

    async def wait(self, error: AwayError) -> None:
        """Wait a little longer than the time before, or as asked; AwayError when it has been too long."""
        now = asyncio.get_running_loop().time()
        self._since = self._since if self._tries else now
        if now - self._since > self.patience.away_s:
            raise AwayError(f"no answer for {self.patience.away_s:.0f} s: {error.message}")
        if self._tries == 1:  # a single break is nothing to speak of
            self.notice(f"no connection ({error.message}); trying again")
        self._tries += 1
        await asyncio.sleep(max(self.patience.pause(self._tries - 1), min(error.retry_after_s, self.patience.asked_s)))

    def over(self) -> None:
        """The service has answered."""
        if self._tries > 1:
            self.notice("connected again")
        self._tries = 0

    def tell_once(self, text: str) -> None:
        """Say something that need not be heard again."""
        if text not in self._told:
            self._told.add(text)
            self.notice(text)
