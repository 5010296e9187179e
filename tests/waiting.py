"""Waiting for a condition instead of for a time."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any


async def wait_until(
    condition: Callable[[], Any] | Callable[[], Awaitable[Any]], *, within_s: float = 20, every_s: float = 0.02
) -> Any:
    """Give the condition's value as soon as it is true; AssertionError when it is not within `within_s`."""
    try:
        async with asyncio.timeout(within_s):
            while True:
                value = condition()
                if inspect.isawaitable(value):
                    value = await value
                if value:
                    return value
                await asyncio.sleep(every_s)
    except TimeoutError:
        raise AssertionError(f"not within {within_s} s: {inspect.getsource(condition).strip()}") from None
