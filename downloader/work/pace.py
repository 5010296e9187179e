"""The least speed of a source, measured only while we wait for it: our own back-pressure does not count."""

from __future__ import annotations

from downloader.errors import SourceError


class Pace:
    """Adds up waiting and bytes over a sliding period and raises `too_slow` when a whole period was below the least.

    The period is `period_s` of waiting, kept as two halves of which the older one is dropped in turn.
    """

    def __init__(self, min_bytes_per_s: int, period_s: float) -> None:
        self._min_bytes_per_s = min_bytes_per_s
        self._half_s = period_s / 2
        self._waited_s = 0.0
        self._bytes = 0
        self._before: tuple[float, int] | None = None

    def received(self, size: int, waited_s: float) -> None:
        """Note that `size` bytes came after a wait of `waited_s`."""
        self._bytes += size
        self._waited_s += waited_s
        if self._waited_s >= self._half_s:
            self._close_half()

    def _close_half(self) -> None:
        if self._before is not None:
            seconds = self._before[0] + self._waited_s
            if self._before[1] + self._bytes < self._min_bytes_per_s * seconds:
                raise SourceError(
                    "too_slow", f"the source sent less than {self._min_bytes_per_s} bytes per second", transient=True
                )
        self._before = (self._waited_s, self._bytes)
        self._waited_s, self._bytes = 0.0, 0
