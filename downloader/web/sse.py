"""GET /v1/download/subscribe/{jobId}: a job's events as Server-Sent Events.

An EventSource that gets any status but 200 never comes back, so whatever goes wrong here is said inside a 200 that ends
with a time to wait; only 204 (you have seen the end) and 404 to those who did not ask for a stream are other answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import structlog
from aiohttp import web

from downloader.errors import RateLimitedError, RequestError, UnavailableError
from downloader.state.feed import Feed, Signal
from downloader.web import frames
from downloader.web.caller import AWAY, may_go_on
from downloader.web.calls import job_id, not_found
from downloader.web.frames import Frames
from downloader.web.limits import StreamPlace, charge_call
from downloader.web.outlet import Outlet, StalledError
from downloader.web.parts import PARTS, TENANT
from downloader.web.route import Budget
from downloader.web.stream import Stream, up_to_date

FRAMES = web.AppKey("frames", Frames)
# Between some streams' heartbeats and the next ones': 5,000 of them in a second, instead of 200 ms without a stop.
HEARTBEAT_PAUSE_S = 0.004

log = structlog.get_logger(__name__)


async def subscribe(request: web.Request) -> web.StreamResponse:
    """Follow a job from now on, or from the last event the client has seen."""
    outlet = Outlet(request, request.app[PARTS].pace.stall_s)
    if AWAY in request:
        return await _interrupted(outlet, request[AWAY].message)
    try:
        await charge_call(request, Budget.STREAM)
        async with StreamPlace(request) as free:
            if not free:
                request.app[PARTS].observer.meter.refused("too_many_streams")
                return await _only(outlet, frames.busy("too many streams are open"))
            return await _follow(request, outlet)
    except (UnavailableError, RateLimitedError) as error:
        return await _interrupted(outlet, error.message)
    except (StalledError, ConnectionResetError):
        return outlet.response
    except RequestError:  # a plain 404, for those who did not ask for a stream
        raise
    except Exception:  # the rim: a 500 would turn the client away for good
        log.exception("stream.failed")
        return await _interrupted(outlet, "internal")


async def _follow(request: web.Request, outlet: Outlet) -> web.StreamResponse:
    parts, tenant = request.app[PARTS], request[TENANT]
    wanted, last_id = job_id(request), _last_id(request)
    if wanted is None:
        return await _nowhere(request, outlet)
    with parts.feed.subscribe(wanted) as live:  # before the history is read, so that nothing falls in between
        history = await parts.store.history(tenant, wanted, last_id or None)
        if history.record is None:
            return await _nowhere(request, outlet)
        if last_id and up_to_date(history.record, last_id):
            return web.Response(status=204)
        await outlet.start()
        stream = Stream(outlet, request.app[FRAMES], parts, tenant, wanted, partial(may_go_on, request))
        ended = await stream.begin(history, last_id)
        del history, last_id  # streams wait for long, in thousands
        if not ended:
            await stream.follow(live)
    return outlet.response


def _last_id(request: web.Request) -> str:
    """The last event seen: the browser's header when it reconnects, else the parameter of a new object."""
    query = request.query
    return request.headers.get("Last-Event-ID") or query.get("lastEventId") or query.get("last_event_id") or ""


async def _nowhere(request: web.Request, outlet: Outlet) -> web.StreamResponse:
    """The answer for a job that is not there; a client that has had it before is sent away for good."""
    if "text/event-stream" not in request.headers.get("Accept", "").lower():
        raise not_found()
    if _last_id(request) == frames.NOWHERE_ID:
        return web.Response(status=204)
    return await _only(outlet, frames.soon() + frames.nowhere(request.match_info["job_id"]))


async def _only(outlet: Outlet, data: bytes) -> web.StreamResponse:
    """A stream of just this."""
    await outlet.start()
    await outlet.write(data)
    return outlet.response


async def _interrupted(outlet: Outlet, reason: str) -> web.StreamResponse:
    """End a stream that cannot go on: before its first byte as busy, later with a time to wait."""
    try:
        if not outlet.response.prepared:
            return await _only(outlet, frames.busy(reason))
        await outlet.write(frames.soon())
    except (StalledError, ConnectionResetError):
        pass
    return outlet.response


async def heartbeats(app: web.Application) -> AsyncIterator[None]:
    """One ticker for all streams, for as long as the application runs."""
    ticker = asyncio.create_task(_tick(app[PARTS].feed, app[PARTS].pace.heartbeat_s), name="heartbeats")
    yield
    ticker.cancel()
    await asyncio.wait([ticker])


async def _tick(feed: Feed, every_s: float) -> None:
    clock = asyncio.get_running_loop().time
    due_at = clock()
    while True:
        due_at = max(due_at + every_s, clock())
        await asyncio.sleep(due_at - clock())
        await feed.signal_in_turns(Signal.HEARTBEAT, HEARTBEAT_PAUSE_S)
