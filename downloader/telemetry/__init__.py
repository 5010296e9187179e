"""What the outside sees of the service at work: Prometheus metrics, and OpenTelemetry traces where they are wanted.

`metrics.py` counts, `tally.py` does so for the figures of all replicas together, `scrape.py` reads the figures out,
`otel.py` tells the stories. The parts of the service know none of this; they speak the words of `observing.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass

from downloader.config import TelemetrySettings
from downloader.errors import StartError
from downloader.observing import Meters, Observer, Tracer
from downloader.telemetry.metrics import Metrics
from downloader.telemetry.tally import Tally

__all__ = ["Telemetry", "telemetry"]


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Who is told of the work, and the figures that come of it; `metrics` is None when they are not wanted."""

    observer: Observer
    tally: Tally
    metrics: Metrics | None


@asynccontextmanager
async def telemetry(settings: TelemetrySettings, version: str) -> AsyncIterator[Telemetry]:
    """Watch for as long as the block runs; what is untold at its end is sent then, but that takes 2 s at most.

    StartError when traces are wanted and OpenTelemetry is not installed.
    """
    metrics = Metrics(version) if settings.metrics else None
    async with _tracing(settings.otlp_endpoint, version) as tracer:
        tally = Tally()
        meter = Meters(metrics, tally) if metrics else tally
        yield Telemetry(Observer(meter, tracer), tally, metrics)


def _tracing(endpoint: str, version: str) -> AbstractAsyncContextManager[Tracer]:
    if not endpoint:
        return nullcontext(Tracer())
    try:
        from downloader.telemetry.otel import exporting  # an extra: most do without
    except ImportError as error:
        raise StartError(
            'telemetry.otlp_endpoint needs OpenTelemetry: pip install "downloader[telemetry]", or leave it empty'
        ) from error
    return exporting(endpoint, version)
