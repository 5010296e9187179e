"""What this process adds to the figures of all replicas: files by what became of them, bytes; and its open streams.

Jobs are not counted here: the scripts in Redis do so where a job ends, whoever ends it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from downloader.observing import Meter
from downloader.telemetry.metrics import code_label

DONE, FAILED, BYTES = "files:done", "files:failed", "bytes"


class Tally(Meter):
    """Counts until it is asked."""

    def __init__(self) -> None:
        self.streams = 0
        self._counts: Counter[str] = Counter()

    def take(self) -> Mapping[str, int]:
        """What was counted since it was asked last, by name."""
        taken, self._counts = self._counts, Counter()
        return taken

    def file_done(self) -> None:
        """Count; so for all below."""
        self._counts[DONE] += 1

    def file_failed(self, code: str) -> None:
        """By code as well: `file:` and one of a bounded number of labels."""
        self._counts[FAILED] += 1
        self._counts[f"file:{code_label(code)}"] += 1

    def fetched(self, size_bytes: int) -> None:
        """As bytes."""
        self._counts[BYTES] += size_bytes

    def stream_opened(self) -> None:
        """One more."""
        self.streams += 1

    def stream_closed(self, took_s: float) -> None:  # noqa: ARG002 - how long it was open is nothing to us
        """One less."""
        self.streams -= 1
