"""The web application: what lies around every call, and how it starts and ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web

from downloader.state.feed import Signal
from downloader.web import calls, health, middlewares, problems, reading, sse
from downloader.web.access import access
from downloader.web.audit import audited
from downloader.web.contract.serve import CONTRACT, Contract
from downloader.web.frames import Frames
from downloader.web.limits import limits
from downloader.web.parts import PARTS, WebParts
from downloader.web.render import Links
from downloader.web.route import ROUTE_OF
from downloader.web.routes import ROUTES
from downloader.web.slashes import one_slash


def build(parts: WebParts) -> web.Application:
    """Make the application; the outermost middleware comes first."""
    around = (
        middlewares.request_ids,
        middlewares.traced,
        middlewares.access_log,
        problems.problems,
        middlewares.preflight,
        one_slash,
        audited,
        access,
        limits,
    )
    app = web.Application(middlewares=around, client_max_size=parts.settings.server.max_body_bytes)
    app[PARTS] = parts
    app[calls.LINKS] = links = Links.lasting(parts.sign, parts.settings.jobs.link_ttl_s)
    app[sse.FRAMES] = Frames(links)
    app[ROUTE_OF] = {route.handler: route for route in ROUTES}
    app[CONTRACT] = Contract(ROUTES, parts.settings)
    app[health.HEALTH] = health.Health(parts.checks)
    app.add_routes(route.definition() for route in ROUTES)
    app[reading.BODY_ROOM] = reading.BodyRoom(reading.LARGEST_AT_ONCE * parts.settings.server.max_body_bytes)
    app.on_response_prepare.append(middlewares.add_headers)
    app.on_shutdown.append(_end_streams)
    app.cleanup_ctx.extend((sse.heartbeats, _parser))
    return app


def drain(parts: WebParts) -> None:
    """Turn callers away gently: not ready any more, and every stream ends with a time to come back."""
    parts.state.draining = True
    parts.feed.signal_all(Signal.CLOSE)


async def _end_streams(app: web.Application) -> None:
    drain(app[PARTS])


async def _parser(app: web.Application) -> AsyncIterator[None]:
    """One thread for large bodies: they wait for each other, small ones for none of them."""
    with ThreadPoolExecutor(1, "bodies") as app[reading.PARSER]:
        yield
