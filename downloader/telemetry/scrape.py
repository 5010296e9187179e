"""Reading the figures out: those of this process, and how the queue stands over all replicas."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from downloader.errors import UnavailableError
from downloader.state.census import Census

CENSUS_KEPT_S = 2.0
CENSUS_TIMEOUT_S = 1.0

Count = Callable[[], Awaitable[Census]]


class _Fleet(Collector):
    """The gauges of all replicas together; without samples while nobody knows."""

    def __init__(self) -> None:
        self.census: Census | None = None

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Both gauges."""
        known = self.census
        return [
            _gauge(
                "downloader_queue_depth",
                "Jobs that wait for a worker, of all tenants, those that pause before another attempt too. Asked from "
                "Redis: every replica says the same, so take max and not sum; absent while Redis is away.",
                None if known is None else known.waiting + known.pausing,
            ),
            _gauge(
                "downloader_jobs_in_progress",
                "Jobs that are worked on, over all replicas. Asked from Redis: every replica says the same, so take "
                "max and not sum; absent while Redis is away.",
                None if known is None else known.processing,
            ),
        ]


def _gauge(name: str, documentation: str, value: int | None) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(name, documentation)
    if value is not None:
        gauge.add_metric([], value)
    return gauge


@dataclass(frozen=True, slots=True)
class _Lean(Collector):
    """The registry without the times at which each series was made, for which nobody asks."""

    registry: CollectorRegistry

    def collect(self) -> Iterable[Metric]:
        for metric in self.registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric


class Scrape:
    """Gives all figures as text; several callers at once ask Redis once, and nobody waits for it longer than 1 s."""

    def __init__(self, registry: CollectorRegistry, count: Count, thread: ThreadPoolExecutor) -> None:
        self._figures = _Lean(registry)
        self._count = count
        self._thread = thread
        self._fleet = _Fleet()
        self._turn = asyncio.Lock()
        self._counted_at = float("-inf")
        registry.register(self._fleet)

    @classmethod
    @asynccontextmanager
    async def open(cls, registry: CollectorRegistry, count: Count) -> AsyncIterator[Scrape]:
        """Serve figures for as long as the block runs; `count` asks Redis."""
        with ThreadPoolExecutor(1, "metrics") as thread:  # some milliseconds of text that the loop need not wait for
            yield cls(registry, count, thread)

    async def text(self, accept: str) -> tuple[bytes, str]:
        """The figures now and their content type: OpenMetrics if the Accept header wants that, else Prometheus text."""
        await self._refresh()
        encode, content_type = choose_encoder(accept)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, encode, self._figures), content_type

    async def _refresh(self) -> None:
        async with self._turn:
            if time.monotonic() - self._counted_at < CENSUS_KEPT_S:
                return
            try:
                async with asyncio.timeout(CENSUS_TIMEOUT_S):
                    self._fleet.census = await self._count()
            except (UnavailableError, TimeoutError):
                self._fleet.census = None
            self._counted_at = time.monotonic()
