"""A collector of traces for tests: takes OTLP over HTTP as the real ones do, and shows the spans by their names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.sources import answering


@dataclass
class Collector:
    """What has come: spans, and the raw bodies. With `mute` it takes calls and never answers."""

    url: str = ""
    mute: bool = False
    spans: list[Span] = field(default_factory=list)
    services: set[str] = field(default_factory=set)
    bodies: list[bytes] = field(default_factory=list)

    def named(self, name: str) -> list[Span]:
        """The spans of this name."""
        return [span for span in self.spans if span.name == name]

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.mute:
            await asyncio.Event().wait()
        export = ExportTraceServiceRequest.FromString(body)
        self.bodies.append(body)
        for resource in export.resource_spans:
            told = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
            self.services.add(told["service.name"])
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf"
        )


@asynccontextmanager
async def collecting(*, mute: bool = False) -> AsyncIterator[Collector]:
    """Run a collector on a free port of the loopback."""
    collector = Collector(mute=mute)
    app = web.Application()
    app.router.add_post("/v1/traces", collector._take)  # noqa: SLF001 - its own handler
    async with answering(app) as collector.url:
        yield collector


def attributes(span: Span) -> dict[str, str | int | bool | float]:
    """A span's attributes as plain values."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in span.attributes}
