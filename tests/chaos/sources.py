"""The sources of all jobs: one server on the loopback whose answers follow from the workload."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from tests.chaos.workload import FileSpec, Kind, Workload, content
from tests.sources import answering

PIECES = 16


class Sources:
    """Serves the files and counts how often each was asked for; some misbehave, the first time or always."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._seen: set[tuple[int, int]] = set()
        self.base = ""
        self.requests = 0

    def app(self) -> web.Application:
        """The one route."""
        app = web.Application()
        app.router.add_get("/file/{number:\\d+}/{index:\\d+}", self._file)
        return app

    async def _file(self, request: web.Request) -> web.StreamResponse:
        number, index = int(request.match_info["number"]), int(request.match_info["index"])
        self.requests += 1
        first = (number, index) not in self._seen
        self._seen.add((number, index))
        try:
            return await _answered(request, self._workload.job(number).files[index], first=first)
        except ConnectionResetError:  # the caller was killed, so nobody reads this
            return web.Response()


async def _answered(request: web.Request, spec: FileSpec, *, first: bool) -> web.StreamResponse:
    start = _start(request, spec)
    match spec.kind:
        case Kind.GONE:
            response: web.StreamResponse = web.Response(status=404)
        case Kind.BUSY_ONCE if first:
            response = web.Response(status=503, headers={"Retry-After": "1"})
        case Kind.OTHER:
            response = web.Response(body=content(f"not {spec.seed}", spec.size, text=False))
        case Kind.SLOW:
            response = await _drip(request, spec, start)
        case Kind.SHORT:
            response = await _cut(request, spec)
        case Kind.CUT_ONCE if first:
            response = await _cut(request, spec)
        case Kind.CHUNKED:
            response = await _chunked(request, spec)
        case _:
            response = await _whole(request, spec, start)
    return response


def _etag(spec: FileSpec) -> str:
    return f'"{spec.seed}"'


def _start(request: web.Request, spec: FileSpec) -> int:
    """Where the answer begins: behind what the caller has, if it is of the same version."""
    asked = request.http_range.start
    return asked if asked and request.headers.get("If-Range") == _etag(spec) and asked < spec.size else 0


def _head(spec: FileSpec, start: int) -> web.StreamResponse:
    headers = {"ETag": _etag(spec), "Content-Length": str(spec.size - start)}
    if start:
        headers["Content-Range"] = f"bytes {start}-{spec.size - 1}/{spec.size}"
    return web.StreamResponse(status=206 if start else 200, headers=headers)


async def _whole(request: web.Request, spec: FileSpec, start: int) -> web.StreamResponse:
    response = _head(spec, start)
    await response.prepare(request)
    await response.write(spec.content[start:])
    return response


async def _drip(request: web.Request, spec: FileSpec, start: int) -> web.StreamResponse:
    response = _head(spec, start)
    await response.prepare(request)
    piece = max(1, -(-spec.size // PIECES))
    for begin in range(start, spec.size, piece):
        await asyncio.sleep(spec.pause_s / PIECES)
        await response.write(spec.content[begin : begin + piece])
    return response


async def _cut(request: web.Request, spec: FileSpec) -> web.StreamResponse:
    response = _head(spec, 0)
    await response.prepare(request)
    await response.write(spec.content[: spec.size // 2])
    if request.transport is not None:
        request.transport.close()
    return response


async def _chunked(request: web.Request, spec: FileSpec) -> web.StreamResponse:
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    await asyncio.sleep(spec.pause_s)
    if spec.size:
        await response.write(spec.content)
    return response


@asynccontextmanager
async def serving(workload: Workload) -> AsyncIterator[Sources]:
    """Run the sources on a free port."""
    sources = Sources(workload)
    async with answering(sources.app()) as sources.base:
        yield sources
