"""What happened below one request: whether a connection was dialled for it, and whether the guard refused.

aiohttp hands a socket factory no request and folds several failed addresses into one text. So the request's task
leaves a `Dial` in its context, which the tasks that connect for it inherit.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass

from downloader.work.deadlines import Limit


@dataclass(slots=True)
class Dial:
    """The marks of one request; `answer_limit` starts to run when a connection is there."""

    answer_limit: Limit
    dialled: bool = False
    blocked: bool = False
    connected: bool = False
    closed: asyncio.Future[None] | None = None

    def connection_made(self, closed: asyncio.Future[None] | None) -> None:
        """Start the clock for the answer's head: connecting had its own. `closed` ends with the connection."""
        self.connected = True
        self.closed = closed
        if closed is not None:  # somebody must look at its exception; a pooled connection comes by many times
            closed.remove_done_callback(_heard)
            closed.add_done_callback(_heard)
        self.answer_limit.start()

    @property
    def answer_timeout_s(self) -> float:
        """How long the answer's head may take."""
        return self.answer_limit.length_s


def _heard(closed: asyncio.Future[None]) -> None:
    if not closed.cancelled():
        closed.exception()


def was_broken(closed: asyncio.Future[None] | None) -> bool:
    """Whether the connection ended by a reset or another fault, and not because its server closed it."""
    return closed is not None and closed.done() and (closed.cancelled() or closed.exception() is not None)


_DIAL: ContextVar[Dial] = ContextVar("dial")


def current_dial() -> Dial:
    """The marks of the request that this task works for; LookupError outside of one, so nothing is dialled unseen."""
    return _DIAL.get()


def begin_dial(answer_limit: Limit) -> Dial:
    """Put fresh marks into this task's context."""
    dial = Dial(answer_limit)
    _DIAL.set(dial)
    return dial
