"""The source of a run's files.

A file is plain, compressible (`text`), of unknown length (`chunked`), held back at half until it is let go, or missing;
or it breaks off in the middle: once, to be gone on with (`cut`) or to start anew (`torn`), or always (`broken`).
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, cast, get_args

from aiohttp import web

from tests.sources import answering

Kind = Literal["plain", "text", "chunked", "held", "missing", "cut", "torn", "broken"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PIECE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class File:
    """One file that a job asks for."""

    name: str
    size: int = 0
    kind: Kind = "plain"

    @property
    def comes(self) -> bool:
        """Whether it can be had at all."""
        return self.kind not in ("missing", "broken")

    @property
    def data(self) -> bytes:
        """What the source serves."""
        return _text(self.size, self.name) if self.kind == "text" else _noise(self.size, self.name)


@lru_cache(64)
def _noise(size: int, seed: str) -> bytes:
    return random.Random(seed).randbytes(size)


@lru_cache(64)
def _text(size: int, seed: str) -> bytes:
    line = f"{seed}: the same line again and again\n".encode()
    return (line * (size // len(line) + 1))[:size]


class Origin:
    """Serves every file to every run; what happens once happens once to each run."""

    def __init__(self) -> None:
        self.base = ""
        self._cut: set[tuple[str, str]] = set()
        self._held: dict[str, asyncio.Event] = {}
        self._gates: dict[str, asyncio.Event] = {}

    def url(self, run: str, file: File) -> str:
        """Where a run finds a file."""
        return f"{self.base}/{run}/{file.kind}/{file.size}/{file.name}"

    async def holding(self, run: str) -> None:
        """Wait until a held file of the run has given its first half."""
        await self._held.setdefault(run, asyncio.Event()).wait()

    def let_go(self, run: str) -> None:
        """From here on the run's held files come like all others."""
        self._gate(run).set()

    def forget(self, run: str) -> None:
        """The run is over."""
        self._gate(run).set()
        del self._gates[run]
        self._held.pop(run, None)
        self._cut = {key for key in self._cut if key[0] != run}

    def _gate(self, run: str) -> asyncio.Event:
        return self._gates.setdefault(run, asyncio.Event())

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        run, kind, size, name = (request.match_info[word] for word in ("run", "kind", "size", "name"))
        if kind == "missing":
            return web.Response(status=404)
        data = File(name, int(size), cast(Kind, kind)).data  # the route takes no other
        if kind == "chunked":
            return await _send(request, web.StreamResponse(), data)
        if kind in ("torn", "broken"):  # nothing says that what comes next would fit to what came before
            response, body = web.StreamResponse(headers={"Content-Length": str(len(data))}), data
        else:
            response, body = _ranged(request, data)
        if kind == "broken" or (kind in ("cut", "torn") and (run, name) not in self._cut):
            self._cut.add((run, name))
            return await self._cut_off(request, response, body)
        if kind == "held" and not self._gate(run).is_set():
            return await self._hold(request, response, body, run)
        return await _send(request, response, body)

    async def _cut_off(self, request: web.Request, response: web.StreamResponse, body: bytes) -> web.StreamResponse:
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        assert request.transport is not None
        request.transport.close()
        return response

    async def _hold(
        self, request: web.Request, response: web.StreamResponse, body: bytes, run: str
    ) -> web.StreamResponse:
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        self._held.setdefault(run, asyncio.Event()).set()
        await self._gate(run).wait()
        await response.write(body[len(body) // 2 :])
        return response

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.router.add_get(f"/{{run}}/{{kind:{'|'.join(KINDS)}}}/{{size}}/{{name}}", self._serve)
        return app


def _ranged(request: web.Request, data: bytes) -> tuple[web.StreamResponse, bytes]:
    """An answer with a strong validator, and its body; it goes on where a caller stopped who has the same one."""
    etag = hashlib.sha256(data).hexdigest()[:16]
    response = web.StreamResponse(headers={"ETag": f'"{etag}"', "Accept-Ranges": "bytes"})
    start = request.http_range.start or 0
    if start and request.headers.get("If-Range") == f'"{etag}"':
        response.set_status(206)
        response.headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
    else:
        start = 0
    response.content_length = len(data) - start
    return response, data[start:]


async def _send(request: web.Request, response: web.StreamResponse, body: bytes) -> web.StreamResponse:
    await response.prepare(request)
    for start in range(0, len(body), PIECE_BYTES):
        await response.write(body[start : start + PIECE_BYTES])
    return response


@asynccontextmanager
async def serving() -> AsyncIterator[Origin]:
    """Run the source on a free port of the loopback."""
    origin = Origin()
    async with answering(origin.app()) as origin.base:
        yield origin
