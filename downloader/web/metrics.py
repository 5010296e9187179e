"""GET /metrics: the figures of this process for Prometheus, beside the API or on a port of their own."""

from __future__ import annotations

from aiohttp import hdrs, web

from downloader.web.middlewares import SECURITY_HEADERS, SERVER
from downloader.web.parts import PARTS, ReadMetrics

PATH = "/metrics"


async def metrics(request: web.Request) -> web.Response:
    """The figures as OpenMetrics or Prometheus text; 404 where they are not wanted or have a port of their own."""
    read = request.app[PARTS].metrics
    if read is None:
        raise web.HTTPNotFound
    return await _answer(request, read)


def build_metrics(read: ReadMetrics) -> web.Application:
    """An application for a port of its own: it has this one address, and whoever reaches the port may read."""

    async def show(request: web.Request) -> web.Response:
        return await _answer(request, read)

    async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
        response.headers.update({**SECURITY_HEADERS, hdrs.SERVER: SERVER})

    app = web.Application()
    app.router.add_get(PATH, show)
    app.on_response_prepare.append(add_headers)
    return app


async def _answer(request: web.Request, read: ReadMetrics) -> web.Response:
    text, content_type = await read(",".join(request.headers.getall(hdrs.ACCEPT, [])))
    headers = {hdrs.CONTENT_TYPE: content_type, hdrs.CACHE_CONTROL: "no-store", hdrs.VARY: hdrs.ACCEPT}
    return web.Response(body=text, headers=headers)
