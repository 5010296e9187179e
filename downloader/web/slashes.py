"""Callers whose base URL ends with a slash: base + path then has two, and means the same."""

from __future__ import annotations

from collections.abc import Awaitable
from http import HTTPStatus

from aiohttp import hdrs, web

from downloader.web.parts import Handler


@web.middleware
def one_slash(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
    """Lead from `//v1/...` to `/v1/...`, method and body kept; never to another host, for the path begins with one."""
    target = request.rel_url.raw_path_qs
    if request.match_info.http_exception is None or not target.startswith("//"):
        return handler(request)
    return _led("/" + target.lstrip("/\\"))


async def _led(location: str) -> web.Response:
    return web.Response(status=HTTPStatus.PERMANENT_REDIRECT, headers={hdrs.LOCATION: location})
