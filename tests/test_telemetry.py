"""What the outside sees of the service at work: figures that are right, stories that hang together, and no secrets."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
from aiohttp import web
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client import Metric, parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from downloader.errors import StartError
from tests.api import Api
from tests.collector import Collector, attributes, collecting
from tests.conftest import Start
from tests.files import Origin, content
from tests.receivers import receiving, secret_of
from tests.servers import free_ports
from tests.sources import answering
from tests.waiting import wait_until

SECRET = "telling-secret-8f2b"
SMALL_PARTS: dict[str, dict[str, Any]] = {
    "storage": {"part_bytes": 5 * 1024 * 1024},
    "jobs": {"max_job_bytes": 1024**3},
}
LARGE_BYTES = 11 * 1024 * 1024  # three parts
TRACE_ID, CALLER_SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
DOCKER = Path(__file__).parent.parent / "docker"


class Figures:
    """A scrape, parsed as Prometheus does."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families: list[Metric] = list(parser.text_string_to_metric_families(text))
        self._values = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families
            for sample in family.samples
        }

    def get(self, name: str, **labels: str) -> float | None:
        """The value of a sample, None when there is none."""
        return self._values.get((name, frozenset(labels.items())))

    def labels(self, name: str, label: str) -> set[str]:
        """All values of a label."""
        return {dict(labels)[label] for sample, labels in self._values if sample == name}


async def scraped(api: Api) -> Figures:
    """The figures on the main port."""
    answer = await api.call("GET", "/metrics", headers={"Accept": "text/plain"})
    assert answer.status == 200, answer
    return Figures(answer.raw.decode())


@dataclass
class Watched:
    """A source that remembers the headers of its callers."""

    base: str = ""
    headers: list[Mapping[str, str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.headers.append(request.headers.copy())
        return web.Response(status=int(request.query["status"]), body=content(int(request.query["size"]), "random"))

    def url(self, status: int, size: int = 0) -> str:
        """Where it answers with this status and as many bytes, with secrets all over."""
        return f"{self.base.replace('://', f'://{SECRET}:{SECRET}@')}/{status}?status={status}&size={size}&key={SECRET}"


@asynccontextmanager
async def watched() -> AsyncIterator[Watched]:
    """Run such a source."""
    source = Watched()
    app = web.Application()
    app.router.add_get("/{any:.*}", source.answer)
    async with answering(app) as source.base:
        yield source


def asked(source: Watched, *, good: int = 1) -> list[dict[str, Any]]:
    """Some good files, one large, and three bad ones."""
    urls = [source.url(200, LARGE_BYTES), *[source.url(200, 1000)] * (good - 1)]
    urls += [source.url(404), source.url(799), f"http://127.0.0.1:{free_ports(1)[0]}/away"]
    return [{"url": url, "headers": {"Authorization": f"Bearer {SECRET}"}} for url in urls]


async def test_a_scrape_tells_what_a_job_did(start: Start) -> None:
    """After a job with good and bad files the figures say so, and neither names nor values hold anything secret."""
    webhook = {"secret": secret_of("one"), "attempts": 1}
    async with start(**SMALL_PARTS, webhook=webhook) as api, watched() as source, receiving() as receiver:
        job_id = await api.submit(asked(source, good=2), callbackUrl=f"{receiver.base}/hook?key={SECRET}")
        await api.events(job_id)
        await api.call("PROPFIND", f"/v1/download/status/{job_id}?token={SECRET}")
        await api.call("GET", f"/nowhere/{SECRET}")
        await wait_until(lambda: _delivered(api))
        figures = await scraped(api)
        assert figures.get("downloader_jobs_total", outcome="completed") == 1
        assert figures.get("downloader_jobs_total", outcome="failed") == 0
        assert figures.get("downloader_job_duration_seconds_count") == 1
        assert figures.get("downloader_queue_wait_seconds_count") == 1
        assert figures.get("downloader_files_total", outcome="done", reason="") == 2
        assert figures.get("downloader_files_total", outcome="failed", reason="http_status:404") == 1
        assert figures.get("downloader_files_total", outcome="failed", reason="http_status:other") == 1
        assert figures.get("downloader_files_total", outcome="failed", reason="connect_failed") == 1
        assert figures.get("downloader_source_bytes_total") == LARGE_BYTES + 1000
        size = (await api.status(job_id))["archive"]["size"]
        assert figures.get("downloader_archive_bytes_total") == size
        assert figures.get("downloader_upload_part_seconds_count") == 3
        assert figures.get("downloader_sse_connections") == 0
        assert figures.get("downloader_sse_duration_seconds_count") == 1
        assert (figures.get("downloader_queue_depth"), figures.get("downloader_jobs_in_progress")) == (0, 0)
        assert (figures.get("downloader_worker_jobs"), figures.get("downloader_worker_slots")) == (0, 4)
        assert figures.get("downloader_neighbour_up", neighbour="redis") == 1
        assert figures.get("downloader_neighbour_up", neighbour="storage") == 1
        assert (figures.get("process_resident_memory_bytes") or 0) > 1024**2
        initiate = {"method": "POST", "route": "/v1/download/initiate", "status": "202"}
        assert figures.get("downloader_http_request_duration_seconds_count", **initiate) == 1
        requests = "downloader_http_request_duration_seconds_count"
        assert figures.labels(requests, "method") == {"POST", "GET", "other"}
        assert not any(job_id in route or SECRET in route for route in figures.labels(requests, "route"))
        assert SECRET not in figures.text
        assert job_id not in figures.text
        assert source.base.rpartition(":")[2] not in figures.text


async def _delivered(api: Api) -> bool:
    return (await scraped(api)).get("downloader_webhook_deliveries_total", outcome="delivered") == 1


async def test_who_waits_and_who_works_is_counted_over_all_replicas(start: Start, origin: Origin) -> None:
    """Any replica tells how many jobs wait and are worked on, also those of others, and how many streams it has."""
    async with start(worker={"concurrency": 1}) as worker, start(worker={"concurrency": 0}) as front:
        jobs = [await front.submit([origin.endless()]) for _ in range(3)]
        await origin.wait_for_connection()
        stream = asyncio.ensure_future(front.events(jobs[0]))

        async def told() -> bool:
            figures = await scraped(front)
            names = ("downloader_queue_depth", "downloader_jobs_in_progress", "downloader_sse_connections")
            return [figures.get(name) for name in names] == [2, 1, 1]

        await wait_until(told)
        here, there = await scraped(front), await scraped(worker)
        assert (here.get("downloader_worker_jobs"), there.get("downloader_worker_jobs")) == (0, 1)
        assert (there.get("downloader_memory_used_bytes") or 0) > 0
        await front.call("GET", f"/v1/download/status/{jobs[0]}", headers={"Prefer": "wait=1"})
        status = {"method": "GET", "route": "/v1/download/status/{job_id}", "status": "200"}
        took_s = (await scraped(front)).get("downloader_http_request_duration_seconds_sum", **status)
        assert took_s is not None
        assert took_s < 0.5  # what the caller wanted to wait is not ours
        for job_id in reversed(jobs):  # those that wait first, so that nobody takes them
            await front.call("POST", f"/v1/download/{job_id}/cancel")
        await stream

        async def stopped() -> bool:
            return (await scraped(worker)).get("downloader_jobs_total", outcome="stopped") == 1

        await wait_until(stopped)


async def test_a_scrape_does_not_need_redis(start: Start) -> None:
    """While Redis is away the figures come all the same; those that only Redis knows are absent, refusals count."""
    async with start(redis={"url": "redis://127.0.0.1:1/0"}) as api:
        assert (await api.initiate(["http://127.0.0.1:1/"])).status == 503
        began = time.monotonic()
        figures = await scraped(api)
        assert time.monotonic() - began < 2
        assert figures.get("downloader_queue_depth") is None
        assert figures.get("downloader_jobs_in_progress") is None
        assert figures.get("downloader_neighbour_up", neighbour="redis") == 0
        assert figures.get("downloader_refusals_total", code="unavailable") == 1


async def test_metrics_move_to_a_port_of_their_own(start: Start, session: aiohttp.ClientSession) -> None:
    """With metrics_port the main port knows no metrics and the other nothing else; OpenMetrics comes when asked for."""
    (port,) = free_ports(1)
    async with start(telemetry={"metrics_port": port}) as api:
        own = Api(session, f"http://127.0.0.1:{port}")
        assert (await api.call("GET", "/metrics")).status == 404
        assert (await own.call("GET", "/v1/download/status/x")).status == 404
        answer = await own.call("GET", "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        read: Any = openmetrics_parser.text_string_to_metric_families  # has no types
        names = {family.name for family in read(answer.raw.decode())}
        assert {"downloader_jobs", "downloader_build", "downloader_queue_depth"} <= names
        with pytest.raises(StartError, match=rf"127\.0\.0\.1:{port}: the port is taken.*telemetry\.metrics_port"):
            async with start(telemetry={"metrics_port": port}):
                pass
    async with start(telemetry={"metrics": False}) as api:
        assert (await api.call("GET", "/metrics")).status == 404


async def test_dashboard_and_alerts_ask_for_what_there_is(api: Api) -> None:
    """Every metric in a panel or an alert is one of a real scrape, and every one of ours has a panel."""
    await api.finished(await api.submit([f"http://127.0.0.1:{free_ports(1)[0]}/away"]))
    families = (await scraped(api)).families
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    there = {family.name + suffix for family in families for suffix in suffixes[family.type]}
    dashboard = json.loads((DOCKER / "grafana-dashboard.json").read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    shown = _metrics("\n".join(queries))
    alerts = (DOCKER / "alerts.yaml").read_text(encoding="utf-8")
    watched_for = _metrics("\n".join(_expressions(alerts)))
    assert len(watched_for) > 5
    assert shown | watched_for <= there, sorted((shown | watched_for) - there)
    labels = {label for family in families for sample in family.samples for label in sample.labels}
    asked_for = _labels("\n".join([*queries, *_expressions(alerts)]))
    assert asked_for <= labels | {"instance", "code"}, asked_for - labels  # nothing was refused here
    ours = {family.name for family in families if family.name.startswith("downloader_")}
    unseen = {name for name in ours if not any(found.startswith(name) for found in shown)}
    assert not unseen, f"no panel for {sorted(unseen)}"
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    assert len({(place["x"], place["y"]) for place in places}) == len(places)
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(places)
    assert all(
        target["datasource"]["uid"] == "${datasource}" for p in dashboard["panels"] for target in p.get("targets", [])
    )


def _metrics(expressions: str) -> set[str]:
    return set(re.findall(r"\b(?:downloader|process)_[a-z_]+", expressions))


def _labels(expressions: str) -> set[str]:
    """The labels that expressions match or group by."""
    grouped = re.findall(r"\bby \(([^)]*)\)", expressions)
    return {name.strip() for names in grouped for name in names.split(",")} | set(
        re.findall(r"([a-z_]+)=~?\"", expressions)
    )


def _expressions(alerts: str) -> Iterator[str]:
    """The lines of all `expr:` of the file."""
    yield from re.findall(r"^ +expr: (.*)$", alerts, re.MULTILINE)


async def test_a_trace_goes_from_the_caller_through_redis_into_the_steps(start: Start) -> None:
    """One replica takes the job, another does it: all spans are in the caller's trace, each below what caused it."""
    parent = {"traceparent": f"00-{TRACE_ID}-{CALLER_SPAN_ID}-01"}
    async with collecting() as collector, watched() as source:
        traced: dict[str, dict[str, Any]] = {"telemetry": {"otlp_endpoint": collector.url}}
        with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as lines:
            async with start(worker={"concurrency": 0}, **traced) as front:
                answer = await front.initiate(asked(source), headers=parent, archiveName=f"{SECRET}.zip")
                async with start(**SMALL_PARTS, **traced):
                    await front.finished(answer.body["jobId"])
                await front.call("GET", "/health")
        _check_story(collector)
        _check_secrets(collector)
        assert not any("traceparent" in headers or "tracestate" in headers for headers in source.headers)
        assert collector.services == {"downloader"}
    for event in ("job.accepted", "http.request", "job.started", "file.failed", "job.completed"):
        assert {line["trace_id"] for line in lines if line["event"] == event and line.get("method") != "GET"} == {
            TRACE_ID
        }
    assert not _exporting_threads()


def _check_story(collector: Collector) -> None:
    (call,), (job,) = collector.named("POST /v1/download/initiate"), collector.named("job")
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE_ID}
    assert (call.kind, call.parent_span_id.hex()) == (Span.SPAN_KIND_SERVER, CALLER_SPAN_ID)
    assert attributes(call)["http.response.status_code"] == 202
    assert (job.kind, job.parent_span_id) == (Span.SPAN_KIND_CONSUMER, call.span_id)
    assert attributes(job)["downloader.job.outcome"] == "completed"
    fetched = {attributes(span)["downloader.file.index"]: span for span in collector.named("fetch")}
    assert {span.parent_span_id for span in fetched.values()} == {job.span_id}
    assert attributes(fetched[0])["downloader.file.bytes"] == LARGE_BYTES
    assert [attributes(fetched[n])["error.type"] for n in (1, 2, 3)] == [
        "http_status:404",
        "http_status:799",
        "connect_failed",
    ]
    (finish,), (verify,), (settle,) = (collector.named(name) for name in ("finish", "verify", "settle"))
    (complete,) = collector.named("complete upload")
    assert {span.parent_span_id for span in (finish, verify, settle)} == {job.span_id}
    assert complete.parent_span_id == finish.span_id
    parts = collector.named("upload part")
    assert sorted(attributes(span)["downloader.part.number"] for span in parts) == [1, 2, 3]
    assert {span.parent_span_id for span in parts} <= {job.span_id, finish.span_id}
    assert len(collector.spans) == 1 + 1 + 4 + 3 + 4


def _check_secrets(collector: Collector) -> None:
    told = b"".join(collector.bodies)
    assert SECRET.encode() not in told
    assert b"127.0.0.1" not in told
    assert not any(span.events for span in collector.spans)  # an exception's text would be one


@pytest.mark.slow
@pytest.mark.parametrize("mute", [True, False], ids=["silent", "away"])
async def test_the_end_does_not_wait_for_a_collector(start: Start, mute: bool) -> None:
    """A collector that never answers, or is away, holds up neither the work nor the end, and leaves no thread."""
    async with collecting(mute=mute) as collector:
        url = collector.url if mute else "http://127.0.0.1:1"
        async with start(telemetry={"otlp_endpoint": url}) as api:
            await api.finished(await api.submit(["http://127.0.0.1:1/away"]))
            began = time.monotonic()
        assert time.monotonic() - began < 4
        await wait_until(lambda: not _exporting_threads(), within_s=5)


def _exporting_threads() -> list[str]:
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if "Otel" in name or name.startswith(("telemetry", "metrics"))]


async def test_traces_without_the_extra_are_refused_at_the_start(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who wants traces and has not installed what they need is told how, instead of finding none later."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "downloader.telemetry.otel", raising=False)
    with pytest.raises(StartError, match=r'pip install "downloader\[telemetry\]"'):
        async with start(telemetry={"otlp_endpoint": "http://127.0.0.1:1"}):
            pass
