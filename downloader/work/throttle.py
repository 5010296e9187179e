"""The bandwidth cap of the process: all sources together send so many bytes per second, and each gets its turn.

One timeline for all files: whoever has read some bytes takes the next free stretch of it, as long as these bytes may
take, and reads on when the stretch is over. Not reading is what slows the source down: our buffer fills, then the
system's, and then TCP closes its window. Bytes are paid for in slices: what comes in large blocks in several, so that
others have their turn between them, and what comes in small ones together, so that each turn is worth the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

# One slice is worth this much time, within the bounds below; the larger the cap, the fewer the naps.
_SLICE_S = 1 / 64
_SLICE_BYTES_MIN = 4 * 1024
_SLICE_BYTES_MAX = 256 * 1024
# What was not used is kept for this long only: no burst after a silence.
_CREDIT_S = 0.1
# A nap shorter than the clock can tell is not taken; what it would have paid stays on the timeline.
_NAP_S = 0.005


class Throttle:
    """Lets `bytes_per_s` through, in slices, in the order of asking; `clock` and `sleep` are the loop's own."""

    def __init__(
        self,
        bytes_per_s: int,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._bytes_per_s = bytes_per_s
        self._clock = clock
        self._sleep = sleep
        self.slice_bytes = min(max(int(bytes_per_s * _SLICE_S), _SLICE_BYTES_MIN), _SLICE_BYTES_MAX)
        self._free_at = clock()

    @classmethod
    def of(cls, bytes_per_s: int) -> Throttle | None:
        """A throttle on the running loop's clock; None when there is no cap."""
        return cls(bytes_per_s, asyncio.get_running_loop().time) if bytes_per_s else None

    async def pay(self, size: int) -> float:
        """Wait until `size` bytes that have been read are paid for; gives the seconds that took."""
        since = self._clock()
        for start in range(0, size, self.slice_bytes):
            nap_s = self._reserve(min(self.slice_bytes, size - start))
            if nap_s >= _NAP_S:
                await self._sleep(nap_s)
        return self._clock() - since

    def _reserve(self, size: int) -> float:
        """Take the next free stretch of the timeline; gives the seconds until it is over."""
        now = self._clock()
        self._free_at = max(self._free_at, now - _CREDIT_S) + size / self._bytes_per_s
        return self._free_at - now


class Meter:
    """What one file has read and not paid for yet."""

    def __init__(self, throttle: Throttle) -> None:
        self._throttle = throttle
        self._owed = 0

    async def took(self, size: int) -> float:
        """Note that `size` bytes were read and pay whole slices of what is owed; gives the seconds that took."""
        owed = self._owed + size
        self._owed = owed % self._throttle.slice_bytes
        return await self._throttle.pay(owed - self._owed)

    async def settle(self) -> float:
        """Pay for all that is owed; gives the seconds that took."""
        owed, self._owed = self._owed, 0
        return await self._throttle.pay(owed)
