"""The Prometheus metrics of one service, in a registry of their own.

Names and units follow Prometheus' conventions. No label holds a URL, a host, a job or a tenant, and every label has a
bounded set of values: whatever comes from outside and is not known counts as `other`.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable
from http import HTTPMethod, HTTPStatus
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

from downloader.observing import Ending, Meter, Neighbour
from downloader.work.budget import ByteBudget
from downloader.work.worker import Worker

OTHER = "other"
REQUEST_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
STREAM_BUCKETS_S = (1, 5, 15, 60, 180, 480, 720, 1800)
JOB_BUCKETS_S = (1, 2.5, 5, 10, 30, 60, 180, 600, 1800, 3600, 7200, 14400, 21600)
WAIT_BUCKETS_S = (0.01, 0.05, 0.25, 1, 5, 15, 60, 300, 900, 3600, 21600)
PART_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)

_METHODS = frozenset(HTTPMethod)
_STATUSES = frozenset(str(status.value) for status in HTTPStatus)
_CODE = re.compile(r"[a-z][a-z0-9_]{0,39}")


def code_label(code: str) -> str:
    """A code as a label: ours as it is; the number behind `http_status:`, which a source says, only if it is known.

    So there are no more values than codes in our own text, and registered statuses.
    """
    name, colon, detail = code.partition(":")
    if not _CODE.fullmatch(name):
        return OTHER
    return f"{name}:{detail if detail in _STATUSES else OTHER}" if colon else name


class Metrics(Meter):
    """Counts in the metrics of `registry`."""

    def __init__(self, version: str) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        build = Info("downloader_build", "The running version.", registry=registry)
        build.info({"version": version, "python": platform.python_version()})
        self._describe_jobs(registry)
        self._describe_bytes(registry)
        self._describe_calls(registry)
        self._is_there = Gauge(
            "downloader_neighbour_up",
            "1 when the neighbour answered this process's last look, else 0.",
            ["neighbour"],
            registry=registry,
        )

    def _describe_jobs(self, registry: CollectorRegistry) -> None:
        self._jobs = Counter(
            "downloader_jobs",
            "Attempts at jobs that ended in this process: completed and failed are final, retried will be tried again, "
            "stopped was cancelled, deleted or taken over by another process, released was given back at shutdown, "
            "unsettled ended while Redis was away.",
            ["outcome"],
            registry=registry,
        )
        self._job_duration = Histogram(
            "downloader_job_duration_seconds",
            "Time that attempts took which completed or failed in this process.",
            buckets=JOB_BUCKETS_S,
            registry=registry,
        )
        self._queue_wait = Histogram(
            "downloader_queue_wait_seconds",
            "Time from taking a job in until this process took it from the queue for the first time.",
            buckets=WAIT_BUCKETS_S,
            registry=registry,
        )
        self._files_done: Counter | None = None
        self._files = Counter(
            "downloader_files",
            "Files that attempts of this process put into their archives (done, without a reason) or had to leave out "
            "(failed, by the file's error code).",
            ["outcome", "reason"],
            registry=registry,
        )
        for ending in get_args(Ending):  # rates need a zero to begin with
            self._jobs.labels(ending)
        self._callbacks = Counter(
            "downloader_webhook_deliveries",
            "Tries of this process to deliver callbacks: delivered, retry (another follows), failed (none does) or "
            "disabled by the receiver (410).",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("delivered", "retry", "failed", "disabled"):  # from zero on, else a first one is no increase
            self._callbacks.labels(outcome)

    def _describe_bytes(self, registry: CollectorRegistry) -> None:
        self._source_bytes = Counter(
            "downloader_source_bytes",
            "Bytes of files that sources sent to this process, counted when a fetch is over; repeats count again.",
            registry=registry,
        )
        self._archive_bytes = Counter(
            "downloader_archive_bytes",
            "Bytes that the store took from this process: parts, small archives, kept files.",
            registry=registry,
        )
        self._part = Histogram(
            "downloader_upload_part_seconds",
            "Time the store took to take one part, or a small object whole.",
            buckets=PART_BUCKETS_S,
            registry=registry,
        )

    def _describe_calls(self, registry: CollectorRegistry) -> None:
        self._requests = Histogram(
            "downloader_http_request_duration_seconds",
            "Time from the head of a call until this process had its answer, without what the caller preferred to wait "
            "(Prefer: wait); event streams are not in it. Status 499: the client left first.",
            ["method", "route", "status"],
            buckets=REQUEST_BUCKETS_S,
            registry=registry,
        )
        self._refusals = Counter(
            "downloader_refusals",
            "Calls that this process turned away with 401, 403, 429 or 503, and streams that were too many, by code.",
            ["code"],
            registry=registry,
        )
        self._streams = Gauge("downloader_sse_connections", "Event streams open in this process.", registry=registry)
        self._stream_duration = Histogram(
            "downloader_sse_duration_seconds",
            "How long event streams of this process lasted.",
            buckets=STREAM_BUCKETS_S,
            registry=registry,
        )

    def sample(self, worker: Worker, memory: ByteBudget, disk: ByteBudget) -> None:
        """Add the figures that stand there anyway and are read at each scrape."""
        self._read("downloader_worker_jobs", "Jobs that this process works on.", lambda: worker.running)
        self._read("downloader_worker_slots", "Jobs that this process can work on at once.", lambda: worker.slots)
        self._read("downloader_memory_budget_bytes", "memory.budget_bytes of this process.", lambda: memory.total_bytes)
        self._read(
            "downloader_memory_used_bytes",
            "What of the memory budget is promised to jobs and to the worker that waits for one.",
            lambda: memory.used_bytes,
        )
        self._read(
            "downloader_cache_disk_used_bytes",
            "Room on the disk of this process that files take which wait for their turn.",
            lambda: disk.used_bytes,
        )

    def _read(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        Gauge(name, documentation, registry=self.registry).set_function(read)

    def job_taken(self, waited_s: float) -> None:
        """See `Meter`; so for all below."""
        self._queue_wait.observe(waited_s)

    def job_ended(self, ending: Ending, took_s: float) -> None:
        """Only an outcome has a duration: what was stopped says nothing about how long jobs take."""
        self._jobs.labels(ending).inc()
        if ending in {"completed", "failed"}:
            self._job_duration.observe(took_s)

    def file_done(self) -> None:
        """Count."""
        if self._files_done is None:  # found once: looking a child up by its labels costs more than counting
            self._files_done = self._files.labels("done", "")
        self._files_done.inc()

    def file_failed(self, code: str) -> None:
        """Count."""
        self._files.labels("failed", code_label(code)).inc()

    def fetched(self, size_bytes: int) -> None:
        """Count."""
        self._source_bytes.inc(size_bytes)

    def stored(self, size_bytes: int, took_s: float) -> None:
        """Count."""
        self._archive_bytes.inc(size_bytes)
        self._part.observe(took_s)

    def answered(self, method: str, route: str, status: int, took_s: float) -> None:
        """Count."""
        self._requests.labels(method if method in _METHODS else OTHER, route, str(status)).observe(took_s)

    def refused(self, code: str) -> None:
        """Count."""
        self._refusals.labels(code_label(code)).inc()

    def stream_opened(self) -> None:
        """Count."""
        self._streams.inc()

    def stream_closed(self, took_s: float) -> None:
        """Count."""
        self._streams.dec()
        self._stream_duration.observe(took_s)

    def callback_sent(self, outcome: str) -> None:
        """Count."""
        self._callbacks.labels(code_label(outcome)).inc()

    def seen(self, neighbour: Neighbour, *, there: bool) -> None:
        """Note."""
        self._is_there.labels(neighbour).set(there)
