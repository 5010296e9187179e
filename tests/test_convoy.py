"""Calls to Redis that travel together: one write for many, each its own answer, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import ConnectionPool
from redis.exceptions import ConnectionError as AwayError
from redis.exceptions import ResponseError

from downloader.state.client import connect, opened
from downloader.state.convoy import Convoy
from tests.servers import Redis


class Counted(Convoy):
    """Counts the writes."""

    writes = 0

    async def _exchange(self, connection: Any) -> None:
        self.writes += 1
        await super()._exchange(connection)


async def test_calls_that_come_together_are_one_write(valkey: Redis) -> None:
    """Each gets its own answer, an error is only its own caller's, and those who come later are served too."""
    async with opened(connect(valkey.url)) as client:
        convoy = Counted(client.connection_pool)
        calls = [convoy.call("ECHO", str(number)) for number in range(50)]
        answers = await asyncio.gather(
            *calls, convoy.call("NONSENSE"), convoy.call("ECHO", "x"), return_exceptions=True
        )
        assert answers[:50] == [str(number).encode() for number in range(50)]
        assert isinstance(answers[50], ResponseError)
        assert answers[51] == b"x"
        assert convoy.writes == 1
        for number in range(200):  # also while the connection is being given back
            assert await convoy.call("ECHO", str(number)) == str(number).encode()
            await asyncio.gather(*(asyncio.sleep(0) for _ in range(number % 7)))


async def test_a_caller_who_leaves_takes_no_answer_of_another(valkey: Redis) -> None:
    """A call that is cancelled on its way leaves the answers of the others in their order."""
    async with opened(connect(valkey.url)) as client:
        convoy = Convoy(client.connection_pool)
        calls = [asyncio.create_task(convoy.call("ECHO", str(number))) for number in range(20)]
        await asyncio.sleep(0)
        for call in calls[::3]:
            call.cancel()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        for number, answer in enumerate(answers):
            assert answer == str(number).encode() if number % 3 else isinstance(answer, asyncio.CancelledError)


async def test_when_redis_is_away_everybody_hears_of_it() -> None:
    """Those on their way and those who wait; and whoever comes later tries anew."""
    convoy = Convoy(ConnectionPool.from_url("redis://127.0.0.1:1/0"))
    for _ in range(2):
        answers = await asyncio.gather(*(convoy.call("PING") for _ in range(5)), return_exceptions=True)
        assert all(isinstance(answer, AwayError) for answer in answers)
    with pytest.raises(AwayError):
        await convoy.call("PING")
