"""The scripted store of the stories: `tests.fakes3`, whose list of uploads also says when each began."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from tests.fakes3 import FakeS3, Fault
from tests.sources import answering

_BEGAN = "<Initiated>2026-11-25T12:00:00.000Z</Initiated></Upload>"


class Store(FakeS3):
    """A store whose answers are whole."""

    __slots__ = ()

    def _list_uploads(self, prefix: str) -> web.Response:
        answer = super()._list_uploads(prefix)
        return web.Response(text=(answer.text or "").replace("</Upload>", _BEGAN), content_type="application/xml")


@asynccontextmanager
async def store_with(fault: Fault) -> AsyncIterator[FakeS3]:
    """Run one on a free port."""
    store = Store(fault=fault)
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{bucket}", store.handle)
    app.router.add_route("*", "/{bucket}/{key:.*}", store.handle)
    async with answering(app) as store.endpoint_url:
        try:
            yield store
        finally:
            store.release.set()
