"""A source that holds files back until the test lets them go, so that a job is where the test wants it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from tests.files import Origin
from tests.sources import answering
from tests.waiting import wait_until


class Gated(Origin):
    """A source with files of which half comes at once and the rest only when the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    def held(self, size: int) -> str:
        """A file that stops in the middle."""
        return f"{self.base}/held/{size}"

    def app(self) -> web.Application:
        app = super().app()
        app.router.add_get("/held/{size}", self._held)
        return app

    async def taken_again(self) -> float:
        """When a source was asked a second time: the next attempt is at work."""
        await wait_until(lambda: len(self.requests) > len(set(self.requests)), within_s=60, every_s=0.005)
        return time.monotonic()

    async def _held(self, request: web.Request) -> web.StreamResponse:
        size = int(request.match_info["size"])
        data = self.data(size, "held")
        response = web.StreamResponse(headers={"Content-Length": str(size)})
        await response.prepare(request)
        await response.write(data[: size // 2])
        await self.gate.wait()
        await response.write(data[size // 2 :])
        return response


@asynccontextmanager
async def gated_source() -> AsyncIterator[Gated]:
    """Run it on a free port of the loopback."""
    origin = Gated()
    async with answering(origin.app()) as origin.base:
        yield origin
