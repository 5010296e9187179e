"""Several things at once, the first failure as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def together(work: Iterable[Callable[[], Awaitable[T]]], at_once: int) -> list[T]:
    """Do all of `work`, `at_once` at a time, and give the results in order.

    The first failure ends the others and rises by itself, not in a group.
    """
    turns = asyncio.Semaphore(at_once)

    async def one(step: Callable[[], Awaitable[T]]) -> T:
        async with turns:
            return await step()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(step)) for step in work]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    return [task.result() for task in tasks]
