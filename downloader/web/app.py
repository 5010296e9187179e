"""The web application: its table of routes, what lies around every call, and how it starts and ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web

from downloader.state.feed import Signal
from downloader.web import calls, front, health, middlewares, problems, reading, sse
from downloader.web.access import access
from downloader.web.frames import Frames
from downloader.web.initiate import initiate
from downloader.web.parts import PARTS, WebParts
from downloader.web.render import BASE, Links
from downloader.web.retry import retry

# Anything may stand for a job id, and what is none is an unknown job. Where the path has other words too, those are
# no ids, so that GET /initiate is a wrong method and not an unknown job.
ANY_JOB = r"{job_id:[^/]+}"
JOB = r"{job_id:(?!(?:initiate|status|subscribe|jobs)$)[^/]+}"

ROUTES = (
    web.post(f"{BASE}/initiate", initiate),
    web.get(f"{BASE}/status/{ANY_JOB}", calls.status),
    web.get(f"{BASE}/subscribe/{ANY_JOB}", sse.subscribe, allow_head=False),
    web.get(f"{BASE}/{JOB}/files", calls.files),
    web.get(f"{BASE}/{JOB}/files/{{index}}", calls.kept_file),
    web.post(f"{BASE}/{JOB}/cancel", calls.cancel),
    web.post(f"{BASE}/{JOB}/retry", retry),
    web.get(f"{BASE}/{JOB}", calls.download),
    web.delete(f"{BASE}/{JOB}", calls.delete),
    web.get("/livez", health.livez),
    web.get("/readyz", health.readyz),
    web.get("/health", health.health),
    web.get("/errors/{code}", problems.explain),
    web.get("/", front.show),
)


def build(parts: WebParts) -> web.Application:
    """Make the application; the outermost middleware comes first."""
    around = (middlewares.request_ids, middlewares.access_log, problems.problems, middlewares.preflight, access)
    app = web.Application(middlewares=around, client_max_size=parts.settings.server.max_body_bytes)
    app[PARTS] = parts
    app[calls.LINKS] = links = Links.lasting(parts.sign, parts.settings.jobs.link_ttl_s)
    app[sse.FRAMES] = Frames(links)
    app[sse.OPEN_STREAMS] = sse.OpenStreams(parts.settings.limits.streams)
    app[health.HEALTH] = health.Health(parts.checks)
    app.add_routes(ROUTES)
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
