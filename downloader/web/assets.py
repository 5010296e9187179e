"""The static files: the page's and the admin view's, and the module that other sites include.

They are read once, when the program starts, and asked for again with their ETag, so that a new version of the service
is seen at once. A file is served when it stands in one of the tables here; no name of a caller ever becomes a path.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources

from aiohttp import hdrs, web

from downloader.web.headers import etag_matches, quality

FRESH = "no-cache"  # kept, but asked for again with its ETag
# What a page of ours may load: its own files, and calls to the service it came from.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_MEDIA = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".ts": "text/plain",
}
# Any site may include these; what the module then calls is up to server.cors_origins.
_FOR_ALL = {hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*", "Cross-Origin-Resource-Policy": "cross-origin"}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is served, with the headers that are its own."""

    body: bytes
    media: str
    headers: Mapping[str, str] = field(default_factory=dict)


def text_of(name: str) -> str:
    """A file of the folder `page` as text."""
    return (resources.files("downloader.web") / "page" / name).read_text(encoding="utf-8")


def _asset(name: str, **headers: str) -> Asset:
    return Asset(text_of(name).encode(), _MEDIA[name[name.rindex(".") :]], headers)


ASSETS: Mapping[str, Asset] = {
    name: _asset(name)
    for name in (
        "curl.js",
        "dom.js",
        "files.js",
        "form.js",
        "format.js",
        "icon.svg",
        "job.js",
        "lists.js",
        "main.js",
        "page.css",
        "service.js",
        "storage.js",
        "admin.css",
        "admin.js",
    )
}
MODULE = _asset("download-job.js", **_FOR_ALL)
TYPES = _asset("download-job.d.ts", **_FOR_ALL)


async def asset(request: web.Request) -> web.Response:
    """A file that belongs to a page of ours; 404 for a name that stands in no table."""
    found = ASSETS.get(request.match_info["name"])
    if found is None:
        raise web.HTTPNotFound
    return served(request, found)


async def module(request: web.Request) -> web.Response:
    """The module that makes `<download-job>`, for any site."""
    return served(request, MODULE)


async def types(request: web.Request) -> web.Response:
    """The TypeScript declarations of the module."""
    return served(request, TYPES)


def served(request: web.Request, found: Asset) -> web.Response:
    """The file, packed for who takes that, and kept by the caller until it changes; 304 when the caller has it."""
    body, headers = found.body, {hdrs.CACHE_CONTROL: FRESH, **found.headers}
    headers[hdrs.VARY] = ", ".join(filter(None, (headers.get(hdrs.VARY), hdrs.ACCEPT_ENCODING)))
    if _takes_gzip(request):
        body, headers[hdrs.CONTENT_ENCODING] = _packed(found.body), "gzip"
    # Each form has a tag of its own (RFC 9110, section 8.8.3.3).
    headers[hdrs.ETAG] = etag = _tag(body)
    if etag_matches(request.headers.get(hdrs.IF_NONE_MATCH, ""), etag):
        headers.pop(hdrs.CONTENT_ENCODING, None)
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, content_type=found.media, charset="utf-8", headers=headers)


def _takes_gzip(request: web.Request) -> bool:
    """Whether the caller asks for gzip by name; none of the bytes is secret, so packing tells nothing."""
    return quality(request.headers.get(hdrs.ACCEPT_ENCODING, ""), "gzip") > 0


@lru_cache(128)
def _tag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


@lru_cache(64)
def _packed(body: bytes) -> bytes:
    return gzip.compress(body, mtime=0)
