"""A source of files for tests of the whole job: a real server on the loopback whose bytes follow from the URL."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import lru_cache

from aiohttp import web
from aiohttp.typedefs import Handler

from tests.sources import answering

PIECE = 256 * 1024


@lru_cache(256)
def content(size: int, seed: str) -> bytes:
    """`size` bytes that do not compress, always the same for a seed."""
    return random.Random(seed).randbytes(size)


class Origin:
    """The source's address book, and what it sees of its callers."""

    def __init__(self) -> None:
        self.base = ""
        self.requests: list[str] = []
        self.open = 0
        self.broken: set[str] = set()
        self.delay_s = 0.0  # how long `url` waits before it answers

    def data(self, size: int, seed: str) -> bytes:
        """What `url(size, seed)` serves."""
        return content(size, seed)

    def url(self, size: int, seed: str, name: str = "") -> str:
        """A well-behaved file."""
        return f"{self.base}/file/{seed}/{size}/{name}"

    def text(self, size: int) -> str:
        """A file that compresses well."""
        return f"{self.base}/text/{size}"

    def chunked(self, size: int) -> str:
        """A file whose length is not announced."""
        return f"{self.base}/chunked/{size}"

    def slow(self, size: int, delay_s: float) -> str:
        """A file that starts after a while."""
        return f"{self.base}/slow/{size}/{delay_s}"

    def cut(self, size: int, after: int) -> str:
        """A file that always breaks off at the same place, and cannot be resumed."""
        return f"{self.base}/cut/{size}/{after}"

    def status(self, code: int) -> str:
        """An answer with this status."""
        return f"{self.base}/status/{code}"

    def flaky(self, size: int, name: str) -> str:
        """A file that is not there while its name is among the `broken`."""
        return f"{self.base}/flaky/{size}/{name}"

    def endless(self) -> str:
        """A file of a terabyte that drips."""
        return f"{self.base}/endless"

    async def wait_for_connection(self) -> None:
        """Wait until a caller is being served by `endless`."""
        await self._wait(lambda: self.open > 0)

    async def wait_for_disconnection(self) -> None:
        """Wait until nobody is served by `endless` any more."""
        await self._wait(lambda: self.open == 0)

    async def _wait(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - handlers only count; nobody tells
                await asyncio.sleep(0.01)

    # The handlers

    async def _file(self, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(self.delay_s)
        return web.Response(body=content(int(request.match_info["size"]), request.match_info["seed"]))

    async def _text(self, request: web.Request) -> web.StreamResponse:
        line = b"2026-11-25 12:00:00 INFO the same line again and again\n"
        size = int(request.match_info["size"])
        return web.Response(body=(line * (size // len(line) + 1))[:size], content_type="text/plain")

    async def _chunked(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(content(int(request.match_info["size"]), "chunked"))
        return response

    async def _slow(self, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(float(request.match_info["delay_s"]))
        return web.Response(body=content(int(request.match_info["size"]), "slow"))

    async def _cut(self, request: web.Request) -> web.StreamResponse:
        size, after = int(request.match_info["size"]), int(request.match_info["after"])
        response = web.StreamResponse(headers={"Content-Length": str(size)})
        await response.prepare(request)
        data = content(after, "cut")
        for start in range(0, after, PIECE):
            await response.write(data[start : start + PIECE])
        assert request.transport is not None
        request.transport.close()
        return response

    async def _status(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=int(request.match_info["code"]))

    async def _flaky(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name in self.broken:
            return web.Response(status=404)
        return web.Response(body=content(int(request.match_info["size"]), name))

    async def _endless(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(2**40 // 64)})
        await response.prepare(request)
        self.open += 1
        try:
            while True:
                await response.write(bytes(16 * 1024))
                await asyncio.sleep(0.005)
        finally:
            self.open -= 1

    def app(self) -> web.Application:
        """The routes."""

        @web.middleware
        async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
            self.requests.append(request.path)
            return await handler(request)

        app = web.Application(middlewares=[note])
        app.router.add_get("/file/{seed}/{size}/{name:.*}", self._file)
        app.router.add_get("/text/{size}", self._text)
        app.router.add_get("/chunked/{size}", self._chunked)
        app.router.add_get("/slow/{size}/{delay_s}", self._slow)
        app.router.add_get("/cut/{size}/{after}", self._cut)
        app.router.add_get("/status/{code}{rest:.*}", self._status)
        app.router.add_get("/flaky/{size}/{name}", self._flaky)
        app.router.add_get("/endless", self._endless)
        return app


@asynccontextmanager
async def serving() -> AsyncIterator[Origin]:
    """Run the source on a free port of the loopback."""
    origin = Origin()
    async with answering(origin.app()) as origin.base:
        yield origin
