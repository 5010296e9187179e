"""What serves the documentation: the OpenAPI document, the page made of it, and a page for every code."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from aiohttp import hdrs, web

from downloader import __version__
from downloader.config import Settings
from downloader.web.assets import FRESH
from downloader.web.contract import codes, docs, examples, markup
from downloader.web.contract.document import PROBLEM, document
from downloader.web.contract.schemas import Schema
from downloader.web.front import base_url
from downloader.web.headers import etag_matches, quality
from downloader.web.reading import PARSER
from downloader.web.render import encoded
from downloader.web.route import Route
from downloader.web.shapes import CodeObject

# Where the service's address comes into the page, which is made once for all.
_HERE = "%here%"


@dataclass(frozen=True)
class Contract:
    """The documentation of an application's routes, made when it is first asked for."""

    routes: Sequence[Route]
    settings: Settings

    @cached_property
    def document(self) -> Schema:
        """The OpenAPI document."""
        return document(self.routes, self.settings, __version__)

    @cached_property
    def encoded(self) -> bytes:
        """The document as JSON."""
        return encoded(self.document)

    @cached_property
    def _page(self) -> str:
        return docs.page(self.document, _HERE)

    @property
    def is_made(self) -> bool:
        """Whether all of it is there."""
        return {"encoded", "_page"} <= vars(self).keys()

    def make(self) -> None:
        """Make all of it: a good tenth of a second of computing."""
        _ = self.encoded, self._page

    def page(self, base: str) -> str:
        """The document as a page whose calls reach the service at `base`."""
        return self._page.replace(_HERE, markup.escaped(base))

    def readable(self) -> str:
        """The document as JSON for people and version control."""
        return markup.indented(self.document) + "\n"


CONTRACT = web.AppKey("contract", Contract)


async def openapi(request: web.Request) -> web.Response:
    """The OpenAPI document; 304 when the caller has it."""
    return _kept(request, (await _made(request)).encoded, "application/json")


async def show(request: web.Request) -> web.Response:
    """The documentation as a page; 304 when the caller has it."""
    return _kept(request, (await _made(request)).page(base_url(request)).encode(), "text/html")


async def _made(request: web.Request) -> Contract:
    """The documentation, made beside the event loop when it is first asked for."""
    contract = request.app[CONTRACT]
    if not contract.is_made:
        await asyncio.get_running_loop().run_in_executor(request.app[PARSER], contract.make)
    return contract


def _kept(request: web.Request, body: bytes, content_type: str) -> web.Response:
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {hdrs.ETAG: etag, hdrs.CACHE_CONTROL: FRESH, "Content-Security-Policy": markup.POLICY}
    if etag_matches(request.headers.get(hdrs.IF_NONE_MATCH, ""), etag):
        return web.Response(status=304, headers=headers)
    charset = "utf-8" if content_type == "text/html" else None
    return web.Response(body=body, content_type=content_type, charset=charset, headers=headers)


async def explain(request: web.Request) -> web.Response:
    """What a code means and what to do, which is where a problem's `type` leads; 404 for no code of ours."""
    code = codes.of(request.match_info["code"])
    if code is None:
        raise web.HTTPNotFound
    headers = {hdrs.VARY: hdrs.ACCEPT, hdrs.CACHE_CONTROL: FRESH, "Content-Security-Policy": markup.POLICY}
    accept = request.headers.get(hdrs.ACCEPT, "*/*")
    if quality(accept, "text/html") > quality(accept, "application/json"):
        return web.Response(text=_code_page(code), content_type="text/html", headers=headers)
    body: CodeObject = {
        "code": code.name,
        "kinds": list(code.kinds),
        "status": code.status,
        "title": code.title,
        "meaning": code.meaning,
        "remedy": code.remedy,
    }
    return web.Response(body=encoded(body), content_type="application/json", headers=headers)


def _code_page(code: codes.Code) -> str:
    number = f" <small>{code.status}</small>" if code.status else ""
    parts = [
        f"<h1>{markup.escaped(code.title)}{number}</h1>",
        f"<p><code>{markup.escaped(code.name)}</code>, {markup.escaped(_carriers(code))}</p>",
        "<h2>What it means</h2>",
        markup.prose(code.meaning),
        "<h2>What to do</h2>",
        markup.prose(code.remedy),
        "<h2>What it looks like</h2>",
        *(_example(code, kind) for kind in code.kinds),
        '<footer><a href="/docs#codes">All codes</a>. <a href="/docs">Documentation</a>.</footer>',
    ]
    return markup.page(f"{code.name}: downloader", "<main>\n" + "\n".join(parts) + "\n</main>")


def _carriers(code: codes.Code) -> str:
    said = {"problem": "the code of an answer", "job": "the code of a job", "file": "the code of a missing file"}
    return " and ".join(said[kind] for kind in code.kinds)


def _example(code: codes.Code, kind: codes.Kind) -> str:
    match kind:
        case "problem":
            body = examples.problem(code.name, code.status or 0, code.title, code.meaning)
            head = f"HTTP/1.1 {code.status}\nContent-Type: {PROBLEM}\n\n"
            return markup.code(head + markup.indented(body))
        case "job":
            job = {"status": code.job_status, "error": code.meaning, "errorCode": code.name}
            return markup.code(markup.indented(job))
        case "file":
            name = "http_status:404" if code.name == "http_status" else code.name
            return markup.code(markup.indented({"status": "failed", "error": {"code": name, "message": "..."}}))
