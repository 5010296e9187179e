"""What a job's event stream says, and what has been heard of a job so far."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from downloader.client.answers import fits_event

TERMINAL = frozenset({"completed", "failed", "cancelled"})
ENDED_FILES = frozenset({"done", "failed"})
# Not an event of the service: the stream says how long to wait before the next one (the field `retry`).
RETRY = "retry"
# Neither: the service has nothing to add to the last event (204).
NOTHING_MORE = "nothing more"
EVENT_CHARS_MAX = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream; `id` is what a reconnect asks to go on after."""

    name: str
    data: dict[str, Any]
    id: str = ""


@dataclass(slots=True)
class Following:
    """What has been heard of a job so far; `changed` are the files that the last event told of."""

    job: dict[str, Any] = field(default_factory=dict)
    files: dict[int, dict[str, Any]] = field(default_factory=dict)
    changed: list[dict[str, Any]] = field(default_factory=list)
    last_id: str = ""

    def hear(self, event: Event) -> None:
        """Take in an event."""
        self.last_id = event.id or self.last_id
        self.changed = []
        if event.name == "files":
            self.hear_files(event.data["files"])
        elif event.name in {"progress", "complete", "error"}:
            self.job = event.data

    def hear_status(self, job: dict[str, Any]) -> None:
        """Take in a status answer, with the files that it lists."""
        self.job = job
        self.hear_files(job.get("files", ()))

    def hear_files(self, files: Iterable[dict[str, Any]]) -> None:
        """Take in files as an event or a page lists them."""
        self.changed = [file for file in files if self.files.get(file["index"]) != file]
        self.files.update((file["index"], file) for file in self.changed)

    @property
    def ended(self) -> bool:
        """Whether the job has reached its end."""
        return self.job.get("status") in TERMINAL

    @property
    def has_all_ends(self) -> bool:
        """Whether the end of each file that has one is known."""
        known = sum(file["status"] in ENDED_FILES for file in self.files.values())
        return known >= int(self.job.get("filesCompleted", 0)) + int(self.job.get("filesFailed", 0))


async def events(lines: aiohttp.StreamReader) -> AsyncGenerator[Event]:
    """The events of a `text/event-stream` whose data are JSON objects (WHATWG HTML, section 9.2.6).

    ValueError when it is something else, or none of the service's.
    """
    name, data, last_id, size = "", list[str](), "", 0
    async for raw in lines:
        field_name, _, value = raw.decode().rstrip("\r\n").partition(":")
        value = value.removeprefix(" ")
        match field_name:
            case "" if not raw.strip():
                if data:
                    yield _event(name or "message", "\n".join(data), last_id)
                name, data, size = "", [], 0
            case "event":
                name = value
            case "data":
                data.append(value)
                size += len(value) + 1
                if size > EVENT_CHARS_MAX:
                    raise ValueError("an event beyond all measure")
            case "id":
                last_id = value
            case "retry" if value.isdecimal():
                yield Event(RETRY, {"ms": int(value)})
            case _:
                pass


def _event(name: str, text: str, last_id: str) -> Event:
    try:
        data = json.loads(text)
    except RecursionError as error:
        raise ValueError("an event beyond all measure") from error
    if not fits_event(name, data):
        raise ValueError("no event of a downloader")
    return Event(name, data, last_id)
