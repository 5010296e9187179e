"""What the parts of the service let others see of their work: figures to count, and spans that tell one call's story.

The parts speak these words and know no tool; `telemetry/` makes Prometheus metrics and OpenTelemetry spans of them.
Here is what they say to nobody. Nothing is told per chunk of bytes: at most once per file, part, job or request.
"""

# ruff: noqa: ARG002 - who tells nobody uses nothing

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Literal

# The logger of the audit log: who did what, and who was turned away.
AUDIT = "downloader.audit"

Attribute = str | int | float | bool
Attributes = Mapping[str, Attribute]
# What a span is about, in OpenTelemetry's words: a call that came in, a job taken from the queue, a step of our own.
Kind = Literal["server", "consumer", "internal"]
# How an attempt at a job ended: for good, to be tried again, taken from us, given back, or nobody could be told.
Ending = Literal["completed", "failed", "retried", "stopped", "released", "unsettled"]
Neighbour = Literal["redis", "storage"]


class Meter:
    """Counts what happens; this one counts nothing. All sizes in bytes, all times in seconds."""

    def job_taken(self, waited_s: float) -> None:
        """A worker has taken a job for the first time."""

    def job_ended(self, ending: Ending, took_s: float) -> None:
        """An attempt at a job is over."""

    def file_done(self) -> None:
        """A file is in the archive."""

    def file_failed(self, code: str) -> None:
        """A file will not be in the archive."""

    def fetched(self, size_bytes: int) -> None:
        """A fetch is over: what its source sent, thrown away or not."""

    def stored(self, size_bytes: int, took_s: float) -> None:
        """The store has taken a part of an object, or a small one whole."""

    def answered(self, method: str, route: str, status: int, took_s: float) -> None:
        """A call has been answered; `route` is its pattern."""

    def refused(self, code: str) -> None:
        """A call was turned away for what it may do or for what we can do now."""

    def stream_opened(self) -> None:
        """A client follows a job."""

    def stream_closed(self, took_s: float) -> None:
        """It does so no more."""

    def callback_sent(self, outcome: str) -> None:
        """A callback was tried: `delivered`, `retry`, `failed` or `disabled`."""

    def seen(self, neighbour: Neighbour, *, there: bool) -> None:
        """A neighbour was looked at."""


class Meters(Meter):
    """Has each of several meters count; see `Meter`."""

    def __init__(self, *meters: Meter) -> None:
        self._meters = meters

    def job_taken(self, waited_s: float) -> None:
        """By all; so for all below."""
        for meter in self._meters:
            meter.job_taken(waited_s)

    def job_ended(self, ending: Ending, took_s: float) -> None:
        """By all."""
        for meter in self._meters:
            meter.job_ended(ending, took_s)

    def file_done(self) -> None:
        """By all."""
        for meter in self._meters:
            meter.file_done()

    def file_failed(self, code: str) -> None:
        """By all."""
        for meter in self._meters:
            meter.file_failed(code)

    def fetched(self, size_bytes: int) -> None:
        """By all."""
        for meter in self._meters:
            meter.fetched(size_bytes)

    def stored(self, size_bytes: int, took_s: float) -> None:
        """By all."""
        for meter in self._meters:
            meter.stored(size_bytes, took_s)

    def answered(self, method: str, route: str, status: int, took_s: float) -> None:
        """By all."""
        for meter in self._meters:
            meter.answered(method, route, status, took_s)

    def refused(self, code: str) -> None:
        """By all."""
        for meter in self._meters:
            meter.refused(code)

    def stream_opened(self) -> None:
        """By all."""
        for meter in self._meters:
            meter.stream_opened()

    def stream_closed(self, took_s: float) -> None:
        """By all."""
        for meter in self._meters:
            meter.stream_closed(took_s)

    def callback_sent(self, outcome: str) -> None:
        """By all."""
        for meter in self._meters:
            meter.callback_sent(outcome)

    def seen(self, neighbour: Neighbour, *, there: bool) -> None:
        """By all."""
        for meter in self._meters:
            meter.seen(neighbour, there=there)


class Span:
    """One step in the story of a call; this one is told to nobody."""

    def note(self, name: str, value: Attribute) -> None:
        """Add what has become known."""

    def fail(self, code: str) -> None:
        """The step did not do what it should, by this code."""


_UNTOLD = nullcontext(Span())


class Tracer:
    """Tells the stories; this one tells none."""

    def span(
        self,
        name: str,
        attributes: Attributes | None = None,
        *,
        kind: Kind = "internal",
        parent: str | None = None,
    ) -> AbstractContextManager[Span]:
        """A step that lasts as long as the block; steps begun in it, or in tasks begun in it, lie below it.

        `parent` is the trace context (W3C traceparent) of another process that it goes on from, "" for none; without
        it the step lies below the current one. No attribute may hold anything secret.
        """
        return _UNTOLD

    def context(self) -> str:
        """The current step as a W3C traceparent, for other processes to go on from; "" when there is none."""
        return ""


@dataclass(frozen=True, slots=True)
class Observer:
    """Who counts and who tells."""

    meter: Meter = field(default_factory=Meter)
    tracer: Tracer = field(default_factory=Tracer)


SILENT = Observer()
