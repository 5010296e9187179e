"""Politeness: so many connections to one host at once, over all jobs of the process, in the order of asking."""

from __future__ import annotations

import asyncio


class HostGate:
    """Lets `per_host` holders in for each host; a host that nobody uses costs nothing.

    A pair of calls and no context manager: this stands in the way of every small file.
    """

    def __init__(self, per_host: int) -> None:
        self._per_host = per_host
        self._semaphores: dict[str, asyncio.Semaphore] = {}
        self._users: dict[str, int] = {}

    async def enter(self, host: str) -> None:
        """Take one connection's place at `host`, waiting for one to be free; `leave` must follow."""
        semaphore = self._semaphores.get(host)
        if semaphore is None:
            semaphore = self._semaphores[host] = asyncio.Semaphore(self._per_host)
        self._users[host] = self._users.get(host, 0) + 1
        try:
            await semaphore.acquire()
        except BaseException:
            self._gone(host)
            raise

    def leave(self, host: str) -> None:
        """Give the place back."""
        self._semaphores[host].release()
        self._gone(host)

    def _gone(self, host: str) -> None:
        self._users[host] -= 1
        if not self._users[host]:
            del self._users[host], self._semaphores[host]


class Place:
    """One connection's place at a host. It is given back while its file waits for us, and taken again before going on.

    Else files that wait for one another's turn in the archive could hold all places, and the one whose turn it is
    would never get in.
    """

    def __init__(self, gate: HostGate, host: str) -> None:
        self._gate = gate
        self._host = host
        self._is_held = False

    async def take(self) -> None:
        """Take the place, waiting for one to be free; nothing when it is held."""
        if not self._is_held:
            await self._gate.enter(self._host)
            self._is_held = True

    def give_back(self) -> None:
        """Give the place back; nothing when it is not held."""
        if self._is_held:
            self._is_held = False
            self._gate.leave(self._host)
