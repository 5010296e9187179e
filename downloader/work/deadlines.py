"""Time limits of one length, for many waits at once: one timer of the loop serves them all.

None of them runs out before one that began earlier, so only the first is watched. A wait that ends in time, as nearly
all do, costs an entry in a table and no timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Deadlines:
    """Calls back what has not been stopped `length_s` after it was started; made and used in one event loop."""

    def __init__(self, length_s: float) -> None:
        self.length_s = length_s
        self._due: dict[object, tuple[float, Callable[[], None]]] = {}
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def start(self, key: object, call: Callable[[], None]) -> None:
        """Call `call` in `length_s`, unless `key` is stopped or started anew before."""
        self._due.pop(key, None)  # started anew it is the last in line
        due = self._loop.time() + self.length_s
        self._due[key] = (due, call)
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._ring)

    def stop(self, key: object) -> None:
        """Forget `key`; fine when it was never started, or has run out."""
        self._due.pop(key, None)

    def _ring(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._due:
            key, (due, call) = next(iter(self._due.items()))
            if due > now:
                self._timer = self._loop.call_at(due, self._ring)
                return
            del self._due[key]
            call()


class Limit:
    """`asyncio.timeout` over shared deadlines: TimeoutError when the block goes on for longer once it was started."""

    __slots__ = ("_cancelling", "_deadlines", "_has_run_out", "_task")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._has_run_out = False

    @property
    def length_s(self) -> float:
        """How long the block may go on from its start."""
        return self._deadlines.length_s

    def start(self) -> None:
        """Let the time run, from now on."""
        self._deadlines.start(self, self._run_out)

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a limit is for a task")
        self._task = task
        self._cancelling = task.cancelling()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadlines.stop(self)
        if self._has_run_out and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _run_out(self) -> None:
        self._has_run_out = True
        self._task.cancel()
