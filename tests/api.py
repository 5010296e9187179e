"""A client of the service as any other: HTTP and event streams, nothing of the inside."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

TERMINAL = {"completed", "failed", "cancelled"}


@dataclass(frozen=True)
class Frame:
    """One event of a stream as a browser would see it."""

    event: str
    id: str
    data: dict[str, Any] | list[Any]


@dataclass
class Answer:
    """An HTTP answer with its JSON body."""

    status: int
    headers: Mapping[str, str]
    body: Any
    raw: bytes = field(default=b"", repr=False)


class Api:
    """Calls the service at `base`."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self.session = session
        self.base = base

    async def call(self, method: str, path: str, **options: Any) -> Answer:
        """Any call; redirects are not followed."""
        async with self.session.request(method, self.base + path, allow_redirects=False, **options) as response:
            raw = await response.read()
            kind = response.headers.get("Content-Type", "")
            return Answer(response.status, response.headers, json.loads(raw) if "json" in kind and raw else None, raw)

    async def initiate(self, files: list[Any], *, headers: Mapping[str, str] | None = None, **more: Any) -> Answer:
        """Post a job in the full form; plain strings are URLs."""
        listed = [{"url": file} if isinstance(file, str) else file for file in files]
        return await self.call("POST", "/v1/download/initiate", json={"files": listed, **more}, headers=headers)

    async def submit(self, files: list[Any], **more: Any) -> str:
        """Post a job that must be accepted; gives its id."""
        answer = await self.initiate(files, **more)
        assert answer.status == 202, answer
        return str(answer.body["jobId"])

    async def status(self, job_id: str) -> dict[str, Any]:
        """The job's status."""
        answer = await self.call("GET", f"/v1/download/status/{job_id}")
        assert answer.status == 200, answer
        return dict(answer.body)

    async def stream(
        self, job_id: str, *, last_event_id: str | None = None, seen: list[bytes] | None = None
    ) -> AsyncIterator[Frame]:
        """The job's events until the service ends the stream; `seen` collects the raw bytes."""
        headers = {"Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        timeout = aiohttp.ClientTimeout(total=120)
        async with self.session.get(
            f"{self.base}/v1/download/subscribe/{job_id}", headers=headers, timeout=timeout
        ) as response:
            assert response.status in {200, 204}, response.status
            async for frame in frames(response.content, seen):
                yield frame

    async def events(self, job_id: str, **options: Any) -> list[Frame]:
        """All events until the service ends the stream."""
        return [frame async for frame in self.stream(job_id, **options)]

    async def finished(self, job_id: str, *, within_s: float = 60) -> dict[str, Any]:
        """Follow the job to its end by its stream, then give its status."""
        async with asyncio.timeout(within_s):
            while True:
                async for _ in self.stream(job_id):
                    pass
                status = await self.status(job_id)
                if status["status"] in TERMINAL:
                    return status

    async def archive_bytes(self, job_id: str) -> bytes:
        """Download the archive as a browser does: by the service's link and its redirect to the store."""
        async with self.session.get(f"{self.base}/v1/download/{job_id}") as response:
            assert response.status == 200, (response.status, await response.text())
            return await response.read()

    async def archive(self, job_id: str) -> zipfile.ZipFile:
        """The archive, opened and with every checksum verified."""
        archive = zipfile.ZipFile(io.BytesIO(await self.archive_bytes(job_id)))
        assert archive.testzip() is None
        return archive


async def frames(content: aiohttp.StreamReader, seen: list[bytes] | None = None) -> AsyncIterator[Frame]:
    """Read server-sent events by the rules of WHATWG HTML section 9.2."""
    event, last_id = "", ""
    data: list[str] = []
    async for raw in content:
        if seen is not None:
            seen.append(raw)
        line = raw.decode().rstrip("\r\n")
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield Frame(event or "message", last_id, json.loads("\n".join(data)))
            event, data = "", []
        elif name == "event":
            event = value
        elif name == "data":
            data.append(value)
        elif name == "id":
            last_id = value
