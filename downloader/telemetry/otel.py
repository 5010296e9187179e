"""Spans by OpenTelemetry's SDK, sent over OTLP/HTTP by its own thread; imported only when they are wanted.

Exceptions are told by their code or type alone, never by their text, which may hold what nobody should see.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import urlsplit

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from downloader.errors import DownloaderError
from downloader.observing import Attribute, Attributes, Kind, Span, Tracer

# How long a batch may take, repeats and all, and so the end of the thread when its collector is away.
EXPORT_S = 2.0
FLUSH_S = 2.0
TOLD_AGAIN_S = 60.0
TRACES_PATH = "/v1/traces"

_KINDS: dict[Kind, SpanKind] = {
    "server": SpanKind.SERVER,
    "consumer": SpanKind.CONSUMER,
    "internal": SpanKind.INTERNAL,
}
_PROPAGATOR = TraceContextTextMapPropagator()


class OtelSpan(Span):
    """A span of OpenTelemetry."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._failed = False

    def note(self, name: str, value: Attribute) -> None:
        """Set an attribute."""
        self._span.set_attribute(name, value)

    def fail(self, code: str) -> None:
        """Set the status, and the code as OpenTelemetry names it; the first counts, others only follow from it."""
        if not self._failed:
            self._failed = True
            self._span.set_attribute("error.type", code)
            self._span.set_status(Status(StatusCode.ERROR))


class OtelTracer(Tracer):
    """Makes spans of OpenTelemetry, and binds their ids to the log lines that are written in them."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    @contextmanager
    def span(
        self, name: str, attributes: Attributes | None = None, *, kind: Kind = "internal", parent: str | None = None
    ) -> Iterator[Span]:
        """See `Tracer`."""
        with (
            self._tracer.start_as_current_span(
                name,
                None if parent is None else _PROPAGATOR.extract({"traceparent": parent}, Context()),
                kind=_KINDS[kind],
                attributes=attributes,
                record_exception=False,
                set_status_on_exception=False,
            ) as inner,
            structlog.contextvars.bound_contextvars(**_ids(inner)),
        ):
            span = OtelSpan(inner)
            try:
                yield span
            except DownloaderError as error:
                span.fail(error.code)
                raise
            except Exception as error:
                span.fail(type(error).__name__)
                raise

    def context(self) -> str:
        """See `Tracer`."""
        now = trace.get_current_span().get_span_context()
        if not now.is_valid:
            return ""
        return f"00-{now.trace_id:032x}-{now.span_id:016x}-{now.trace_flags:02x}"


def _ids(span: trace.Span) -> dict[str, str]:
    context = span.get_span_context()
    if not context.is_valid:  # OTEL_SDK_DISABLED
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


class _Seldom(logging.Filter):
    """Lets a line pass once a minute: a collector that is away would write three every few seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._passed_at = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        if record.created - self._passed_at < TOLD_AGAIN_S:
            return False
        self._passed_at = record.created
        return True


class _Exporter(SpanExporter):
    """Sends until a deadline; after it whatever is left is dropped, so that closing cannot last."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._open = True
        self.deadline = float("inf")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if time.monotonic() > self.deadline:
            return SpanExportResult.FAILURE
        return self._inner.export(spans)

    def shutdown(self) -> None:
        if self._open:
            self._open = False
            self._inner.shutdown()  # wakes a batch that waits to be repeated

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


@asynccontextmanager
async def exporting(endpoint: str, version: str) -> AsyncIterator[Tracer]:
    """Send spans to the collector at `endpoint` for as long as the block runs.

    At the end what is unsent is sent, for FLUSH_S at most, whether or not the collector is there.
    """
    exporter = _Exporter(OTLPSpanExporter(endpoint=_traces_url(endpoint), timeout=EXPORT_S))
    provider = TracerProvider(resource=_resource(version), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    seldom = _Seldom()
    complaints = logging.getLogger(OTLPSpanExporter.__module__)
    complaints.addFilter(seldom)
    try:
        yield OtelTracer(provider.get_tracer("downloader", version))
    finally:
        exporter.deadline = time.monotonic() + FLUSH_S
        # A thread that nobody has to wait for: a collector may hold a connection for as long as it likes.
        closing = threading.Thread(target=provider.shutdown, name="telemetry-closing", daemon=True)
        closing.start()
        while closing.is_alive() and time.monotonic() < exporter.deadline:  # noqa: ASYNC110 - threads tell no event
            await asyncio.sleep(0.01)
        exporter.shutdown()
        complaints.removeFilter(seldom)


def _traces_url(endpoint: str) -> str:
    """The base URL with the path for traces, which may stand there already."""
    bare = endpoint.rstrip("/")
    return bare if urlsplit(bare).path.endswith(TRACES_PATH) else bare + TRACES_PATH


def _resource(version: str) -> Resource:
    """Who we are: as OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say, else `downloader`."""
    resource = Resource.create({"service.version": version})
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        return resource.merge(Resource({SERVICE_NAME: "downloader"}))
    return resource
