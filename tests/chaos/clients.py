"""The clients: one posts jobs until each is accepted, others follow them to their end on whichever replica answers."""

from __future__ import annotations

import asyncio
import json
import random
import time
import zlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from tests.api import TERMINAL
from tests.chaos.history import REPLAY, Answered, Asked, Broken, Figures, History, Joined, Seen, Told
from tests.chaos.stage import Stage

POST_S = 6.0
SILENCE_S = 4.0
STATE_EVENTS = frozenset({"progress", "complete", "error"})
_TROUBLE = (aiohttp.ClientError, TimeoutError, ConnectionError)


class Clients:
    """All clients of a run, over one session; each call goes to a replica picked at random, dead or alive."""

    def __init__(self, session: aiohttp.ClientSession, stage: Stage, history: History, dice: random.Random) -> None:
        self._session = session
        self._stage = stage
        self._history = history
        self._dice = dice
        self.reconnects = 0

    # Posting

    async def post(self, number: int) -> str:
        """Post a job under its key until a replica accepts it; sometimes once more. Gives the job's id."""
        job_id = await self._until_accepted(number)
        if self._dice.random() < 0.1:  # two clicks, or an answer that was lost: the same job again
            await self._until_accepted(number)
        return job_id

    async def _until_accepted(self, number: int) -> str:
        while True:
            replica = self._dice.randrange(len(self._stage.replicas))
            self._history.add(Asked(time.time(), number, replica))
            answer = await self._post_once(number, replica)
            self._history.add(answer)
            if answer.status == 202:
                return answer.job_id
            await asyncio.sleep(self._dice.uniform(0.1, 0.5))

    async def _post_once(self, number: int, replica: int) -> Answered:
        try:
            async with self._session.post(
                f"{self._stage.replicas[replica].url}/v1/download/initiate",
                json=self._stage.workload.job(number).body(self._stage.sources.base),
                headers={"Idempotency-Key": f"chaos-{number}"},
                timeout=aiohttp.ClientTimeout(total=POST_S),
            ) as response:
                body = await response.json()
                note = "" if response.status == 202 else str(body.get("code"))
                return Answered(time.time(), number, replica, response.status, str(body.get("jobId", "")), note)
        except _TROUBLE as error:
            return Answered(time.time(), number, replica, 0, note=type(error).__name__)

    # Following

    async def follow(self, job_id: str, follower: int) -> None:
        """Follow a job to its end across replicas as an EventSource does, then make sure that there is no more."""
        last_id, ended = "", False
        while True:
            status, last_id, ended = await self._one_stream(job_id, follower, last_id, ended=ended)
            if status == 204:
                return
            self.reconnects += 1
            await asyncio.sleep(self._dice.uniform(0.05, 0.6))

    async def replay(self, job_id: str, first_id: str) -> None:
        """Read all of a finished job's stream behind `first_id`, until one whole stream was had."""
        while True:
            status, _, ended = await self._one_stream(job_id, REPLAY, first_id, ended=False)
            if ended:
                return
            if status == 204:  # nobody saw more than the end, which comes first to who has no id
                first_id = ""
            await asyncio.sleep(self._dice.uniform(0.1, 0.3))

    async def _one_stream(self, job_id: str, follower: int, last_id: str, *, ended: bool) -> tuple[int, str, bool]:
        """One connection; gives the status, the last id seen and whether the end has been seen."""
        replica = self._dice.randrange(len(self._stage.replicas))
        # Some clients leave in the middle.
        patience = self._dice.randint(1, 6) if follower != REPLAY and self._dice.random() < 0.2 else 1_000_000
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        status = 0
        seen: list[Seen] = []
        try:
            async with self._session.get(
                f"{self._stage.replicas[replica].url}/v1/download/subscribe/{job_id}",
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=2, sock_read=SILENCE_S),
            ) as response:
                status = response.status
                self._history.add(Joined(time.time(), job_id, follower, replica, last_id, status))
                if status >= 400:
                    self._history.add(Broken(time.time(), f"stream of {job_id} answered {status}"))
                async for frame in _frames(response.content):
                    entry = _entry(job_id, follower, *frame)
                    seen.append(entry)
                    if follower != REPLAY:
                        self._history.add(entry)
                    last_id = entry.id or last_id
                    ended = ended or _is_end(entry)
                    patience -= 1
                    if not patience and not ended:
                        break
        except _TROUBLE:
            if not status:
                self._history.add(Joined(time.time(), job_id, follower, replica, last_id, 0))
        if follower == REPLAY and ended:
            for entry in seen:
                self._history.add(entry)
        return status, last_id, ended

    # Asking

    async def told(self, job_id: str, replica: int | None = None) -> Told:
        """The status of a job that has ended; asks until it is told."""
        while True:
            asked = self._dice.randrange(len(self._stage.replicas)) if replica is None else replica
            body = await self._status(job_id, asked)
            if body is not None and body["status"] in TERMINAL:
                told = _told(job_id, asked, body)
                self._history.add(told)
                return told
            await asyncio.sleep(self._dice.uniform(0.5, 1.5))

    async def _status(self, job_id: str, replica: int) -> dict[str, Any] | None:
        url = f"{self._stage.replicas[replica].url}/v1/download/status/{job_id}"
        try:
            async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=POST_S)) as response:
                if response.status == 200:
                    return dict(await response.json())
                if response.status != 503:
                    self._history.add(Broken(time.time(), f"status of {job_id} answered {response.status}"))
        except _TROUBLE:
            pass
        return None

    async def archive(self, job_id: str) -> bytes:
        """The archive, by the service's link; asks until it is had."""
        while True:
            replica = self._dice.choice(self._stage.replicas)
            try:
                async with self._session.get(
                    f"{replica.url}/v1/download/{job_id}", timeout=aiohttp.ClientTimeout(total=30, sock_connect=2)
                ) as response:
                    if response.status == 200:
                        return await response.read()
                    if response.status != 503:
                        url = str(response.url.with_query(None))
                        self._history.add(Broken(time.time(), f"archive of {job_id}: {response.status} at {url}"))
            except _TROUBLE:
                pass
            await asyncio.sleep(self._dice.uniform(0.2, 0.5))


async def _frames(content: aiohttp.StreamReader) -> AsyncIterator[tuple[str, str, str]]:
    """Whole frames as (event, own id, data); unlike a browser it does not carry an id on to frames without one."""
    event = own_id = ""
    data: list[str] = []
    async for raw in content:
        name, _, value = raw.decode().rstrip("\n").partition(":")
        value = value.removeprefix(" ")
        if raw == b"\n":
            if data:
                yield event, own_id, "\n".join(data)
            event, own_id, data = "", "", []
        elif name == "event":
            event = value
        elif name == "id":
            own_id = value
        elif name == "data":
            data.append(value)


def _entry(job_id: str, follower: int, event: str, own_id: str, data: str) -> Seen:
    at = time.time()
    if event not in STATE_EVENTS:
        return Seen(at, job_id, follower, event, own_id, digest=f"{zlib.crc32(data.encode()):08x}")
    body = json.loads(data)
    figures = Figures(
        status=body["status"],
        progress=body.get("progress", 0),
        done=body.get("filesCompleted", 0),
        failed=body.get("filesFailed", 0),
        total=body.get("totalFiles", 0),
        bytes_fetched=body.get("bytesFetched", 0),
        attempt=body.get("attempt", 0),
        error_code=body.get("errorCode") or "",
    )
    return Seen(at, job_id, follower, event, own_id, figures)


def _is_end(entry: Seen) -> bool:
    return entry.figures is not None and entry.figures.status in TERMINAL


def _told(job_id: str, replica: int, body: dict[str, Any]) -> Told:
    archive = body["archive"] or {}
    files = tuple(
        (file["name"] or "", file["status"], (file["error"] or {}).get("code", ""), file["sha256"] or "")
        for file in body["files"]
    )
    return Told(
        at=time.time(),
        job_id=job_id,
        replica=replica,
        state=body["status"],
        error_code=body["errorCode"] or "",
        etag=archive.get("etag", ""),
        size=archive.get("size", 0),
        entries=archive.get("entries", 0),
        done=body["filesCompleted"],
        failed=body["filesFailed"],
        files=files,
    )
