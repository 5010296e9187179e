"""A client of the service as any other: posts a job, then follows its event stream over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from downloader.demo.files import DemoFile

TERMINAL = frozenset({"completed", "failed", "cancelled"})
API = "/v1/download"


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream; `id` is what a reconnect asks to go on after."""

    name: str
    data: dict[str, Any]
    id: str


@dataclass(slots=True)
class Following:
    """What has been heard of a job so far."""

    job: dict[str, Any] = field(default_factory=dict)
    files: dict[int, dict[str, Any]] = field(default_factory=dict)
    last_id: str = ""

    def hear(self, event: Event) -> None:
        """Take in an event."""
        self.last_id = event.id or self.last_id
        if event.name == "files":
            self.files.update({file["index"]: file for file in event.data["files"]})
        elif event.name in {"progress", "complete", "error"}:
            self.job = event.data

    @property
    def ended(self) -> bool:
        """Whether the job has reached its end."""
        return self.job.get("status") in TERMINAL


def job_request(files: Sequence[DemoFile], origin: str) -> dict[str, Any]:
    """The body that asks for these files in one archive."""
    sources = [{"id": file.name, "url": f"{origin}/files/{file.name}"} for file in files]
    return {"files": sources, "archiveName": "demo.zip", "options": {"manifest": True}}


async def post(session: aiohttp.ClientSession, body: dict[str, Any]) -> dict[str, Any]:
    """Post a job; gives the answer. Raises aiohttp.ClientResponseError when it is refused."""
    async with session.post(f"{API}/initiate", json=body) as response:
        response.raise_for_status()
        return dict(await response.json())


async def follow(session: aiohttp.ClientSession, subscribe_url: str) -> AsyncIterator[Following]:
    """Follow a job to its end, connecting again where the stream was left; yields after each event.

    The same object is yielded each time.
    """
    heard = Following()
    while not heard.ended:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": heard.last_id} if heard.last_id else {})
        async with session.get(subscribe_url, headers=headers) as response:
            response.raise_for_status()
            async for event in events(response.content):
                heard.hear(event)
                yield heard


async def events(lines: aiohttp.StreamReader) -> AsyncIterator[Event]:
    """The events of a `text/event-stream` whose data are JSON objects (WHATWG HTML, section 9.2.6)."""
    name, data, last_id = "", list[str](), ""
    async for raw in lines:
        field_name, _, value = raw.decode().rstrip("\r\n").partition(":")
        value = value.removeprefix(" ")
        match field_name:
            case "" if not raw.strip():
                if data:
                    yield Event(name or "message", json.loads("\n".join(data)), last_id)
                name, data = "", []
            case "event":
                name = value
            case "data":
                data.append(value)
            case "id":
                last_id = value
            case _:
                pass
