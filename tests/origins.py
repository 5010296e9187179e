"""Origins for tests: a raw server that says exactly what it is told, and a well-behaved one with files by path.

The bytes of a file follow from its path, so a test can compute its digest without asking: `content("/file/1000")`.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache

from aiohttp import web

PIECE_BYTES = 256 * 1024


@lru_cache(maxsize=256)
def content(path: str, size: int) -> bytes:
    """`size` bytes that do not compress and follow from `path`."""
    return hashlib.shake_128(path.encode()).digest(size)


@dataclass
class Exchange:
    """One request as the raw server saw it, and the connection to answer on."""

    number: int
    target: str
    headers: list[tuple[str, str]]
    writer: asyncio.StreamWriter

    def header(self, name: str) -> str | None:
        """The first value of a header, or None."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    async def send(self, data: bytes) -> None:
        """Write bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, status: str, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        """Write an answer with a right Content-Length unless `headers` has another."""
        fields = {"Content-Length": str(len(body))} | (headers or {})
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
        await self.send(f"HTTP/1.1 {status}\r\n{head}\r\n".encode("utf-8", "surrogateescape") + body)

    def hang_up(self) -> None:
        """Close the connection."""
        self.writer.close()

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Exchange], Awaitable[None]]


@dataclass
class RawOrigin:
    """A listening raw server: its address and the requests it has read."""

    host: str
    port: int = 0
    scheme: str = "http"
    connections: int = 0
    exchanges: list[Exchange] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def url(self, path: str = "/f.bin") -> str:
        """The URL of `path` here."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{path}"


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, list[tuple[str, str]]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = [(line.partition(":")[0], line.partition(":")[2].strip()) for line in head[1:] if line]
    return head[0].split(" ")[1], headers


@asynccontextmanager
async def raw_origin(script: Script, host: str = "127.0.0.1", **server: object) -> AsyncIterator[RawOrigin]:
    """Serve `script`, called once per request until it closes the connection; `server` goes to `start_server`."""
    origin = RawOrigin(host, scheme="https" if "ssl" in server else "http")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        origin.connections += 1
        try:
            while not writer.is_closing():
                target, headers = await _read_request(reader)
                exchange = Exchange(len(origin.exchanges) + 1, target, headers, writer)
                origin.exchanges.append(exchange)
                origin.times.append(asyncio.get_running_loop().time())
                await script(exchange)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, host, 0, **server)  # type: ignore[arg-type]
    async with listening:
        origin.port = listening.sockets[0].getsockname()[1]
        yield origin


def _span(request: web.Request, size: int) -> slice | None:
    wanted = request.http_range
    return None if wanted.start is None and wanted.stop is None else slice(*wanted.indices(size)[:2])


async def _file(request: web.Request) -> web.StreamResponse:
    """`/file/{size}`: with a strong ETag; ranges are honoured."""
    size = int(request.match_info["size"])
    etag = f'"{size}"'
    span = _span(request, size) if request.headers.get("If-Range", etag) == etag else None
    body = content(request.path, size)
    if span is None:
        return web.Response(body=body, headers={"ETag": etag})
    placed = f"bytes {span.start}-{span.stop - 1}/{size}"
    return web.Response(status=206, body=body[span], headers={"ETag": etag, "Content-Range": placed})


async def _chunked(request: web.Request) -> web.StreamResponse:
    """`/chunked/{size}`: no length is announced."""
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    body = content(request.path, int(request.match_info["size"]))
    for start in range(0, len(body), PIECE_BYTES):
        await response.write(body[start : start + PIECE_BYTES])
    return response


async def _slow(request: web.Request) -> web.StreamResponse:
    """`/slow/{size}?delay={s}&pieces={n}`: waits before the answer and between its pieces."""
    size, delay_s = (int(request.match_info["size"]), float(request.query.get("delay", "0.1")))
    step = max(1, size // int(request.query.get("pieces", "1")))
    body = content(request.path, size)
    await asyncio.sleep(delay_s)
    response = web.StreamResponse(headers={"Content-Length": str(size)})
    await response.prepare(request)
    for start in range(0, size, step):
        await response.write(body[start : start + step])
        await asyncio.sleep(delay_s)
    return response


async def _cut(request: web.Request) -> web.StreamResponse:
    """`/cut/{size}?after={n}`: always breaks off after `n` bytes, without a validator."""
    size, after = int(request.match_info["size"]), int(request.query.get("after", "0"))
    response = web.StreamResponse(headers={"Content-Length": str(size)})
    await response.prepare(request)
    await response.write(content(request.path, size)[:after])
    assert request.transport is not None
    request.transport.close()
    return response


async def _status(request: web.Request) -> web.StreamResponse:
    """`/status/{code}`: an empty answer with this status."""
    return web.Response(status=int(request.match_info["code"]))


async def _redirect(request: web.Request) -> web.StreamResponse:
    """`/redirect?to={url}&status={code}`: one hop."""
    return web.Response(status=int(request.query.get("status", "302")), headers={"Location": request.query["to"]})


def files_app() -> web.Application:
    """The well-behaved origin and its few vices."""
    app = web.Application()
    app.router.add_get("/file/{size}{rest:.*}", _file)
    app.router.add_get("/chunked/{size}{rest:.*}", _chunked)
    app.router.add_get("/slow/{size}{rest:.*}", _slow)
    app.router.add_get("/cut/{size}{rest:.*}", _cut)
    app.router.add_get("/status/{code}{rest:.*}", _status)
    app.router.add_get("/redirect", _redirect)
    return app


@asynccontextmanager
async def files_origin(host: str = "127.0.0.1") -> AsyncIterator[str]:
    """Serve `files_app` and yield its base URL."""
    runner = web.AppRunner(files_app(), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, 0)
        await site.start()
        yield f"http://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class Bin:
    """A sink in memory; it may wait, and counts how often it was opened and restarted."""

    def __init__(self, wait_s: float = 0.0) -> None:
        self.chunks: list[bytes] = []
        self.offers: list[object] = []
        self.restarts = 0
        self.position = 0
        self._wait_s = wait_s

    async def opened(self, offer: object) -> None:
        """Take note."""
        self.offers.append(offer)

    async def write(self, chunk: bytes | memoryview) -> None:
        """Keep the bytes."""
        if self._wait_s:
            await asyncio.sleep(self._wait_s)
        self.chunks.append(bytes(chunk))
        self.position += len(chunk)

    async def restart(self) -> None:
        """Throw all away."""
        self.restarts += 1
        self.chunks, self.position = [], 0

    @property
    def data(self) -> bytes:
        """All that was kept."""
        return b"".join(self.chunks)
