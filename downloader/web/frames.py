"""The bytes of an event stream (WHATWG HTML, section 9.2), each event rendered once for all who watch its job."""

from __future__ import annotations

import random
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from downloader.events import FilesEvent, JobEvent, StateEvent
from downloader.web import render

HEARTBEAT = b": still here\n\n"
BUSY_RETRY_MS = 30_000
KEPT_FRAMES = 1024
KEPT_BYTES = 8 * 1024 * 1024
# The id of the frame for a job that does not exist; a stream never gives it to an entry.
NOWHERE_ID = "0-0"

_LINE_END = re.compile(rb"\r\n|\n|\r")


def frame(name: str, data: bytes, event_id: str = "") -> bytes:
    """One event; whatever ends a line in `data` starts a new data line, so that nothing can break out of it."""
    # JSON has no such bytes, and to look for them is a tenth of what splitting costs.
    parts = _LINE_END.split(data) if b"\n" in data or b"\r" in data else [data]
    lines = b"".join([b"data: %b\n" % line for line in parts])
    identity = b"id: %b\n" % event_id.encode() if event_id else b""
    return b"event: %b\n%b%b\n" % (name.encode(), identity, lines)


def retry(ms: int) -> bytes:
    """Tell the client how long to wait before it connects again, in milliseconds."""
    return b"retry: %d\n\n" % ms


def soon() -> bytes:
    """A random pause of 1 to 5 s, so that the clients of a replica that ends do not return as one crowd."""
    return retry(random.randint(1000, 5000))  # noqa: S311  (spreads load, keeps no secret)


def busy(reason: str) -> bytes:
    """The whole stream when there is no room or no Redis: an error status would end an EventSource for good."""
    return retry(BUSY_RETRY_MS) + frame("busy", render.encoded({"reason": reason, "retryMs": BUSY_RETRY_MS}))


def reset(job_id: str) -> bytes:
    """Says that events may have been missed; the snapshot follows."""
    return frame("reset", render.encoded({"jobId": job_id}))


def nowhere(job_id: str) -> bytes:
    """The one frame for a job that is unknown, expired or somebody else's."""
    body = {
        "jobId": job_id[:64],
        "status": "not_found",
        "error": "There is no such job; it may have expired or been deleted.",
        "errorCode": "job_not_found",
    }
    return frame("error", render.encoded(body), NOWHERE_ID)


@dataclass(slots=True)
class Frames:
    """Renders events, those of one write together, and keeps the last ones: once for all who watch the same job.

    They are kept by their ids and by the window of the link inside; KEPT_FRAMES and KEPT_BYTES at most.
    """

    links: render.Links
    _kept: OrderedDict[tuple[str, int, tuple[str, ...]], bytes] = field(default_factory=OrderedDict)
    _kept_bytes: int = 0

    @property
    def kept(self) -> int:
        """How many writes are kept."""
        return len(self._kept)

    def of(self, job_id: str, events: Sequence[JobEvent], now_s: float) -> bytes:
        """The frames for events as they are sent at `now_s`; their links are signed now."""
        window = self.links.window(now_s) if events[-1].terminal else 0
        key = (job_id, window, tuple([event.id for event in events]))
        found = self._kept.get(key)
        if found is None:
            found = b"".join([self._render(job_id, event, now_s) for event in events])
            self._keep(key, found)
        return found

    def _keep(self, key: tuple[str, int, tuple[str, ...]], data: bytes) -> None:
        self._kept[key] = data
        self._kept_bytes += len(data)
        while len(self._kept) > KEPT_FRAMES or self._kept_bytes > KEPT_BYTES:
            _, dropped = self._kept.popitem(last=False)
            self._kept_bytes -= len(dropped)

    def _render(self, job_id: str, event: JobEvent, now_s: float) -> bytes:
        match event:
            case StateEvent(snapshot=snapshot):
                link = self.links.link(snapshot, now_s)
                return frame(event.name, render.snapshot_body(job_id, snapshot, link), event.id)
            case FilesEvent(payload=payload):
                body = b'{"jobId":%b,"files":%b}' % (render.encoded(job_id), payload)
                return frame("files", body, event.id)
