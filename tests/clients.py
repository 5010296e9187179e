"""What stands around a client in a test: a relay that breaks what passes through it, and a terminal."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import termios
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from tests.s3faults import HOP_BY_HOP
from tests.test_cli import start

PIECE = 64 * 1024


@dataclass(frozen=True)
class Cut:
    """The connection breaks after so many bytes of the answer's body."""

    after: int


@dataclass(frozen=True)
class Stall:
    """Nothing comes after so many bytes of the answer's body, and the connection stays; 0: not even the head."""

    after: int


@dataclass(frozen=True)
class Say:
    """This answer in place of the real one; `chunked` does not say how long it is, `retry_after` is a header."""

    status: int
    body: bytes = b""
    content_type: str = "text/html"
    chunked: bool = False
    retry_after: str = ""


Fault = Cut | Stall | Say | None


@dataclass
class Relay:
    """What lies between a client and a server: passes requests on, but for the faults that wait for their turn.

    `paths` are those that the faults are for. `requests` are all that such a path was asked for, `last` is the latest
    one's address behind the relay, `sent` the bytes of bodies that went through.
    """

    target: str
    session: aiohttp.ClientSession
    paths: str = ""
    base: str = ""
    faults: deque[Fault] = field(default_factory=deque)
    always: Fault = None
    requests: list[CIMultiDict[str]] = field(default_factory=list)
    sent: int = 0
    last: URL = field(default_factory=URL)
    _stalled: list[web.Request] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Pass one request on, unless a fault says otherwise."""
        is_meant = self.paths in request.path
        fault = (self.faults.popleft() if self.faults else self.always) if is_meant else None
        if is_meant:
            self.requests.append(CIMultiDict(request.headers))
            self.last = URL(self.target + request.raw_path, encoded=True)
        if isinstance(fault, Say):
            answer = web.Response(status=fault.status, body=fault.body, content_type=fault.content_type)
            answer.headers.update({"Retry-After": fault.retry_after} if fault.retry_after else {})
            if fault.chunked:
                answer.enable_chunked_encoding()
            return answer
        if fault == Stall(0):
            await asyncio.Event().wait()
        url = URL(self.target + request.raw_path, encoded=True)
        headers = CIMultiDict(
            (name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP
        )
        async with self.session.request(
            request.method, url, headers=headers, data=await request.read(), allow_redirects=False
        ) as passed:
            return await self._passed(request, passed, fault, counts=is_meant)

    async def break_off(self) -> None:
        """End the connections that stall."""
        for request in self._stalled:
            if request.transport is not None:
                request.transport.close()
        self._stalled.clear()

    async def _passed(
        self, request: web.Request, answer: aiohttp.ClientResponse, fault: Fault, *, counts: bool
    ) -> web.StreamResponse:
        kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP]
        response = web.StreamResponse(status=answer.status, headers=CIMultiDict(kept))
        await response.prepare(request)
        left = fault.after if isinstance(fault, Cut | Stall) else 2**60
        async for chunk in answer.content.iter_any():
            await response.write(chunk[:left])
            self.sent += len(chunk[:left]) if counts else 0
            left -= len(chunk)
            if left <= 0 and isinstance(fault, Stall):
                self._stalled.append(request)
                await asyncio.Event().wait()
            if left <= 0:
                assert request.transport is not None
                request.transport.close()
                break
        return response


@asynccontextmanager
async def relaying(target: str, paths: str = "") -> AsyncIterator[Relay]:
    """Run a relay before `target` on a free port of the loopback."""
    timeout = aiohttp.ClientTimeout(total=None)
    skipped = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
    async with aiohttp.ClientSession(auto_decompress=False, timeout=timeout, skip_auto_headers=skipped) as session:
        relay = Relay(target, session, paths)
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", relay.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            relay.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield relay
        finally:
            await runner.cleanup()


@dataclass(frozen=True)
class Screen:
    """What a program left on a terminal: every byte that it wrote, and its status."""

    status: int
    written: str


async def in_terminal(*arguments: str, cwd: Path, columns: int = 100, rows: int = 30, **environment: Any) -> Screen:
    """Run the program with a terminal of this size as its standard error, to its end."""
    near, far = pty.openpty()
    fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = await start(*arguments, cwd=cwd, stderr=far, TERM="xterm-256color", **environment)
    os.close(far)
    reading = asyncio.create_task(asyncio.to_thread(_read, near))
    await process.communicate()
    written = await reading
    os.close(near)
    assert process.returncode is not None
    return Screen(process.returncode, written)


def _read(descriptor: int) -> str:
    seen = bytearray()
    with suppress(OSError):  # how Linux says that the far side has closed
        while piece := os.read(descriptor, PIECE):
            seen += piece
    return seen.decode()


async def fed(*arguments: str, text: str, cwd: Path, **environment: Any) -> tuple[int, bytes, str]:
    """Run the program with this on its standard input; gives its status, its output's bytes and what it said."""
    process = await start(*arguments, cwd=cwd, stdin=asyncio.subprocess.PIPE, **environment)
    out, said = await process.communicate(text.encode())
    assert process.returncode is not None
    return process.returncode, out, said.decode()
