"""A relay before a real S3 store that gives chosen answers in its place, or breaks the connection."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

ERROR = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>made up</Message></Error>'
CODES = {403: "AccessDenied", 404: "NoSuchUpload", 500: "InternalError", 503: "SlowDown"}
IN_ITS_PLACE: dict[str | None, tuple[int, str]] = {
    "gone": (404, "NoSuchUpload"),
    "lost-error-body": (200, "InternalError"),
}
# They belong to one connection, and `Expect` has been answered here.
HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "expect"})


@dataclass(frozen=True, slots=True)
class Call:
    """One request: the S3 operation, its part number (0 if none), and how often this very one has come."""

    operation: str
    number: int
    time: int


# What becomes of a call: None passes it on; a number is that status with the error that goes with it. "reset" breaks
# the connection in the middle of the body, and "error-body" is a 200 with an Error, both without any effect. The others
# take effect first: "lost" breaks the connection, "gone" answers NoSuchUpload, "lost-error-body" a 200 with an Error.
Fault = Callable[[Call], int | str | None]


@dataclass(slots=True)
class Relay:
    """The store as its callers see it; `fault` may be changed at any time, `calls` are all so far."""

    store_url: str
    session: aiohttp.ClientSession
    endpoint_url: str = ""
    fault: Fault = lambda call: None
    calls: list[Call] = field(default_factory=list)

    def made(self, operation: str) -> list[Call]:
        """The calls of one operation."""
        return [call for call in self.calls if call.operation == operation]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Pass one request on, unless the fault says otherwise."""
        call = self._call(request)
        self.calls.append(call)
        fault = self.fault(call)
        if fault == "reset":
            await request.content.readexactly(min(request.content_length or 0, 256 * 1024))
            return _reset(request)
        body = await request.read()
        if isinstance(fault, int):
            return _error(fault, CODES[fault])
        if fault == "error-body":
            return _error(200, "InternalError")
        answer = await self._passed_on(request, body)
        if fault == "lost":
            return _reset(request)
        return _error(*IN_ITS_PLACE[fault]) if fault in IN_ITS_PLACE else answer

    async def _passed_on(self, request: web.Request, body: bytes) -> web.Response:
        url = URL(self.store_url + request.raw_path, encoded=True)  # as it was signed, and with the Host that was
        headers = _end_to_end(request.headers)
        async with self.session.request(
            request.method, url, headers=headers, data=io.BytesIO(body) if body else None, allow_redirects=False
        ) as answer:
            data = await answer.read()
            return web.Response(status=answer.status, body=data, headers=_end_to_end(answer.headers))

    def _call(self, request: web.Request) -> Call:
        operation, number = _operation(request), int(request.query.get("partNumber", 0))
        probing = "/.probe/" in request.path
        time = sum((each.operation, each.number) == (operation, number) for each in self.calls) + 1
        return Call(f"Probe{operation}" if probing else operation, number, time)


def _operation(request: web.Request) -> str:
    query, key = request.query, request.match_info.get("key", "")
    if not key:
        return {"HEAD": "HeadBucket", "PUT": "CreateBucket", "GET": "ListUploads"}[request.method]
    if "uploads" in query:
        return "CreateUpload"
    if "uploadId" in query:
        return {"PUT": "UploadPart", "POST": "Complete", "DELETE": "Abort", "GET": "ListParts"}[request.method]
    return {"PUT": "Put", "GET": "Get", "HEAD": "Head", "DELETE": "Delete"}[request.method]


def _end_to_end(headers: CIMultiDict[str] | aiohttp.typedefs.LooseHeaders) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in CIMultiDict(headers).items() if name.lower() not in HOP_BY_HOP)


def _reset(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def _error(status: int, code: str) -> web.Response:
    return web.Response(status=status, text=ERROR.format(code=code), content_type="application/xml")


@asynccontextmanager
async def relaying(store_url: str) -> AsyncIterator[Relay]:
    """Run a relay before the store on a free port of the loopback address."""
    timeout = aiohttp.ClientTimeout(total=60)
    skipped = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
    async with aiohttp.ClientSession(auto_decompress=False, timeout=timeout, skip_auto_headers=skipped) as session:
        relay = Relay(store_url, session)
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{bucket}", relay.handle)
        app.router.add_route("*", "/{bucket}/{key:.*}", relay.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            relay.endpoint_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield relay
        finally:
            await runner.cleanup()
