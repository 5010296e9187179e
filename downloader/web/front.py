"""The front page: what the service does and how to call it here, for people as HTML, for programs as JSON."""

from __future__ import annotations

import html
import re
from importlib import metadata
from string import Template

from aiohttp import hdrs, web

from downloader.web.address import is_trusted, peer_address
from downloader.web.assets import POLICY, Asset, served, text_of
from downloader.web.headers import quality
from downloader.web.parts import PARTS
from downloader.web.render import BASE, encoded

_HOST = re.compile(r"[A-Za-z0-9.:_\[\]-]{1,255}")
_LINKS = {
    "initiate": f"{BASE}/initiate",
    "status": f"{BASE}/status/{{jobId}}",
    "subscribe": f"{BASE}/subscribe/{{jobId}}",
    "download": f"{BASE}/{{jobId}}",
    "files": f"{BASE}/{{jobId}}/files",
    "cancel": f"{BASE}/{{jobId}}/cancel",
    "health": "/health",
    "docs": "/docs",
    "openapi": "/openapi.json",
}


def _version() -> str:
    try:
        return metadata.version("downloader")
    except metadata.PackageNotFoundError:  # run from a source tree
        return "development"


VERSION = _version()
_PAGE = Template(text_of("index.html"))
_HEADERS = {"Content-Security-Policy": POLICY, hdrs.VARY: hdrs.ACCEPT}


async def show(request: web.Request) -> web.Response:
    """The page, or a small service document for who prefers JSON; 304 when the caller has it."""
    accept = request.headers.get(hdrs.ACCEPT, "*/*")
    if quality(accept, "application/json") > quality(accept, "text/html"):
        body = encoded({"name": "downloader", "version": VERSION, "links": _LINKS})
        return web.Response(body=body, content_type="application/json", headers={hdrs.VARY: hdrs.ACCEPT})
    text = _PAGE.substitute(base=html.escape(base_url(request)), version=html.escape(VERSION))
    return served(request, Asset(text.encode(), "text/html", _HEADERS))


def base_url(request: web.Request) -> str:
    """The address that reaches this service: the configured one, else the one this very call has used."""
    server = request.app[PARTS].settings.server
    if server.public_url:
        return server.public_url.rstrip("/")
    scheme = request.scheme
    if is_trusted(peer_address(request), server.trusted_proxies):
        scheme = "https" if request.headers.get("X-Forwarded-Proto", "").strip().lower() == "https" else scheme
    host = request.host if _HOST.fullmatch(request.host) else f"{server.host}:{server.port}"
    return f"{scheme}://{host}"
