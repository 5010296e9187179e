"""Calls to Redis that come together travel together.

By itself redis-py takes a connection, writes, reads and gives the connection back for each call, which costs more than
most calls do. Here all calls that wait go out in one write, and whoever comes meanwhile goes with the next.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import Any

from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ReadOnlyError, ResponseError

TOGETHER_MOST = 100


@dataclass(frozen=True, slots=True)
class _Call:
    """A command as it goes over the wire, and what its caller waits for."""

    packed: bytes
    answer: asyncio.Future[Any]


class Convoy:
    """Sends commands over one connection of a pool at a time, which it gives back when nobody waits any more.

    Nothing is tried again here: when the connection breaks, or Redis is silent for too long, everybody hears of it who
    has no answer yet.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._waiting: deque[_Call] = deque()
        self._driver: asyncio.Task[None] | None = None

    async def call(self, *words: str | bytes | float) -> Any:
        """Send a command and give its answer; raises what redis-py raises for it."""
        packed = pack_command(words)  # type: ignore[arg-type]  # its type says one word, and it takes any number
        call = _Call(packed, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        if self._driver is None:
            self._driver = asyncio.create_task(self._drive())
        return await call.answer

    async def _drive(self) -> None:
        """Exchange until nobody waits. It belongs to no caller, so that none is cut when another one leaves."""
        try:
            while self._waiting:  # somebody may come while the connection is given back
                await self._exchange_all()
        except Exception as error:  # noqa: BLE001  (the callers say what it means; none may wait for ever)
            for call in self._waiting:
                if not call.answer.done():
                    call.answer.set_exception(error)
            self._waiting.clear()
        finally:
            self._driver = None

    async def _exchange_all(self) -> None:
        connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            while self._waiting:
                await self._exchange(connection)
        finally:
            await self._pool.release(connection)

    async def _exchange(self, connection: AbstractConnection) -> None:
        """Send what waits and read the answers in turn."""
        self._waiting = deque(call for call in self._waiting if not call.answer.done())
        calls = list(islice(self._waiting, TOGETHER_MOST))
        await connection.send_packed_command([call.packed for call in calls])
        is_replica = False
        for call in calls:
            try:
                answer = await connection.read_response()
            except ResponseError as error:
                is_replica |= isinstance(error, ReadOnlyError)
                if not call.answer.done():
                    call.answer.set_exception(error)
            else:
                if not call.answer.done():
                    call.answer.set_result(answer)
            self._waiting.popleft()
        if is_replica:  # it was the master; only a new connection leads to the one that is now
            await connection.disconnect()
