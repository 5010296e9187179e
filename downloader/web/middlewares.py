"""What happens around every call: its id, its line in the log, its security and CORS headers.

What only looks at a call on its way in is a plain function that passes the handler's own awaitable on: it is not
there any more while the call goes on, and of event streams thousands go on at once.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable
from http import HTTPStatus
from urllib.parse import parse_qsl, urlencode

import structlog
from aiohttp import hdrs, web

from downloader.web import headers
from downloader.web.address import caller_address
from downloader.web.limits import CHARGE, rate_headers
from downloader.web.parts import HELD_S, PARTS, REQUEST_ID, Handler
from downloader.web.render import BASE

CLIENT_GONE = 499
SHOWN_PARAMETERS = frozenset({"limit", "after", "files", "status", "lastEventId", "last_event_id"})
SHOWN_CHARS = 64
QUIET_ROUTES = frozenset({"/livez", "/readyz", "/health", "/metrics"})
TRACED_METHODS = frozenset({hdrs.METH_POST, hdrs.METH_DELETE})
STREAMING_SINCE = web.RequestKey("streaming_since", float)

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}
SERVER = "downloader"
CORS_ALLOWED = (
    "Authorization, Content-Type, If-None-Match, Last-Event-ID, Idempotency-Key, X-Idempotency-Key, Prefer, "
    "X-Request-Id, traceparent"
)
CORS_EXPOSED = (
    "X-Request-Id, Location, ETag, Link, Retry-After, Idempotency-Replayed, Preference-Applied, "
    "RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset"
)
CORS_METHODS = "GET, HEAD, POST, DELETE, OPTIONS"
PREFLIGHT_S = 600

log = structlog.get_logger(__name__)


@web.middleware
def request_ids(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
    """Give the call its id, the caller's own if it is sane, and bind it to every log line of the call.

    A call is a task of its own, with a context that ends with it.
    """
    request[REQUEST_ID] = headers.request_id(request.headers)
    structlog.contextvars.bind_contextvars(request_id=request[REQUEST_ID])
    return handler(request)


@web.middleware
def traced(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
    """Tell the story of each call that changes something, going on from its caller's; those that look tell none."""
    route = _route(request)
    if request.method not in TRACED_METHODS or not route.startswith(BASE):
        return handler(request)
    return _told(request, handler, route)


async def _told(request: web.Request, handler: Handler, route: str) -> web.StreamResponse:
    attributes = {"http.request.method": request.method, "http.route": route}
    parent = headers.traceparent(request.headers)
    tracer = request.app[PARTS].observer.tracer
    with tracer.span(f"{request.method} {route}", attributes, kind="server", parent=parent) as span:
        response = await handler(request)
        span.note("http.response.status_code", response.status)
        if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            span.fail(str(response.status))
        return response


@web.middleware
async def access_log(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count each call and write its line, when it has been answered; for a stream that is its end."""
    begun, client = time.monotonic(), caller_address(request)
    response: web.StreamResponse | None = None
    try:
        response = await handler(request)
    finally:  # without a response the client has left, and the call was cancelled
        now, status = time.monotonic(), response.status if response else CLIENT_GONE
        _count_call(request, status, now, begun)
        _log_call(request, status, now - begun, client)
    return response


def _count_call(request: web.Request, status: int, now_s: float, begun_s: float) -> None:
    meter = request.app[PARTS].observer.meter
    if STREAMING_SINCE in request:
        meter.stream_closed(now_s - request[STREAMING_SINCE])
    else:
        meter.answered(request.method, _route(request), status, now_s - begun_s - request.get(HELD_S, 0.0))


def _log_call(request: web.Request, status: int, took_s: float, client: str) -> None:
    route = _route(request)
    write = log.debug if route in QUIET_ROUTES else log.info
    write(
        "http.request",
        method=request.method,
        route=route,
        job_id=request.match_info.get("job_id", "")[:SHOWN_CHARS] or None,
        query=masked_query(request.query_string),
        status=status,
        ms=round(took_s * 1000, 1),
        client=client,
    )


def _route(request: web.Request) -> str:
    """The route's pattern instead of the path, so that calls to many jobs count as one kind."""
    resource = request.match_info.route.resource
    return resource.canonical if resource else "(none)"


def masked_query(query: str) -> str | None:
    """The query as it may be logged: values of parameters that we do not know are masked, for they may be secret."""
    if not query:
        return None
    pairs = parse_qsl(query[:1024], keep_blank_values=True)
    return urlencode(
        [(name[:SHOWN_CHARS], value[:SHOWN_CHARS] if name in SHOWN_PARAMETERS else "***") for name, value in pairs],
        safe="*",
    )


@web.middleware
def preflight(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
    """Answer a browser that asks whether a page of another origin may call (CORS preflight)."""
    if request.method == hdrs.METH_OPTIONS and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers:
        return _preflight(request)
    return handler(request)


async def _preflight(request: web.Request) -> web.Response:
    return web.Response(status=HTTPStatus.NO_CONTENT, headers=_preflight_headers(request))


def _preflight_headers(request: web.Request) -> dict[str, str]:
    if _allowed_origin(request) is None:
        return {}
    return {
        hdrs.ACCESS_CONTROL_ALLOW_METHODS: CORS_METHODS,
        hdrs.ACCESS_CONTROL_ALLOW_HEADERS: CORS_ALLOWED,
        hdrs.ACCESS_CONTROL_MAX_AGE: str(PREFLIGHT_S),
    }


def _allowed_origin(request: web.Request) -> str | None:
    """What Access-Control-Allow-Origin may say; no credentials are involved, so any origin may be named by `*`."""
    allowed = request.app[PARTS].settings.server.cors_origins
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None or "*" in allowed:
        return "*" if "*" in allowed else None
    return origin if origin in allowed else None


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add the id, the security and the CORS headers to a response that is about to start, streams included."""
    if response.content_type == "text/event-stream":
        request[STREAMING_SINCE] = time.monotonic()
        request.app[PARTS].observer.meter.stream_opened()
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers[hdrs.SERVER] = SERVER  # aiohttp has put its own and Python's version there
    if CHARGE in request and "RateLimit-Limit" not in response.headers:  # a refusal tells of the budget that is spent
        response.headers.update(rate_headers(request[CHARGE]))
    response.headers["X-Request-Id"] = request.get(REQUEST_ID) or headers.request_id(request.headers)
    if not request.app[PARTS].settings.server.cors_origins:
        return
    response.headers.add(hdrs.VARY, hdrs.ORIGIN)
    if origin := _allowed_origin(request):
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = CORS_EXPOSED
