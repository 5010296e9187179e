"""Work done in a thread on one thing after the other, while whoever brings the things goes on.

A thread that is told of each thing and tells of each end costs four changes of thread for every half MiB. Here it takes
whatever has come meanwhile, and tells only somebody who waits.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Lane(Generic[T]):
    """Runs `work` in a thread of the pool, on all that is put, in order; after an error on nothing more.

    For one task, which puts and waits.
    """

    def __init__(self, pool: ThreadPoolExecutor, work: Callable[[T], None], *, ahead: int) -> None:
        """`ahead` things may wait besides the one that is worked on."""
        self._pool = pool
        self._work = work
        self._ahead = ahead
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._things: deque[T] = deque()
        self._is_running = False
        self._fault: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None  # one at a time waits here

    async def put(self, thing: T) -> None:
        """Have the thing worked on; waits while too many do. Raises the error of an earlier one."""
        with self._lock:
            if self._fault is not None:
                raise self._fault
            if not self._is_running:
                self._pool.submit(self._run)  # it waits for the lock
                self._is_running = True
            self._things.append(thing)
        await self._until(lambda: len(self._things) <= self._ahead + 1)

    async def drained(self) -> None:
        """Wait until all is done; raises the error of the first that failed."""
        await self._until(lambda: not self._is_running)
        if self._fault is not None:
            raise self._fault

    async def close(self) -> None:
        """Drop what waits and wait for what is worked on, so that the thread touches nothing any more."""
        with self._lock:
            while len(self._things) > 1:
                self._things.pop()
        await self._until(lambda: not self._is_running)

    async def _until(self, is_so: Callable[[], bool]) -> None:
        while True:
            with self._lock:
                if is_so():
                    return
                waiter = self._waiter = self._loop.create_future()
            await waiter

    def _run(self) -> None:
        """In the thread: work until there is nothing left."""
        with self._lock:
            is_running = self._is_running
        while is_running:
            try:
                self._work(self._things[0])
            except BaseException as fault:  # noqa: BLE001 - it rises again where the thing came from
                self._fault = fault
            with self._lock:
                self._things.popleft()
                if self._fault is not None:
                    self._things.clear()
                is_running = self._is_running = bool(self._things)
                waiter, self._waiter = self._waiter, None
            if waiter is not None:
                self._loop.call_soon_threadsafe(_wake, waiter)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
