"""A small HTTP proxy that notes what passes: whole requests by their absolute URL, and tunnels by CONNECT."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class HttpProxy:
    """A running proxy; `passed` are the request lines and headers it has seen, tunnels as CONNECT only."""

    reaches: str  # the address where every name leads
    wants: str = ""  # the Proxy-Authorization that it asks for
    port: int = 0
    passed: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def url(self, userinfo: str = "") -> str:
        """The proxy as it stands in the settings."""
        return f"http://{userinfo}{'@' if userinfo else ''}127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one request on, or a tunnel with all that goes through it."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, *rest = head.split("\r\n")
            headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in rest if each)}
            self.passed.append((line, headers))
            method, target, _ = line.split(" ")
            if headers.get("proxy-authorization", "") != self.wants:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
            elif method == "CONNECT":
                await self._tunnel(reader, writer, int(target.rpartition(":")[2]))
            else:
                await self._relay(writer, head)
        writer.close()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        upstream = await asyncio.open_connection(self.reaches, port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await _both_ways((reader, writer), upstream)

    async def _relay(self, writer: asyncio.StreamWriter, head: str) -> None:
        method, target, version = head.partition("\r\n")[0].split(" ")
        path = "/" + target.partition("://")[2].partition("/")[2]
        kept = [line for line in head.split("\r\n")[1:] if not line.lower().startswith("proxy-")]
        from_origin, to_origin = await asyncio.open_connection(self.reaches, urlsplit(target).port or 80)
        to_origin.write("\r\n".join([f"{method} {path} {version}", *kept]).encode())
        answer = await from_origin.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", answer, re.IGNORECASE)
        assert length is not None
        writer.write(answer + await from_origin.readexactly(int(length[1])))
        await writer.drain()
        to_origin.close()


async def _both_ways(
    one: tuple[asyncio.StreamReader, asyncio.StreamWriter], other: tuple[asyncio.StreamReader, asyncio.StreamWriter]
) -> None:
    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    await asyncio.gather(pour(one[0], other[1]), pour(other[0], one[1]))


@asynccontextmanager
async def http_proxy(reaches: str, wants: str = "") -> AsyncIterator[HttpProxy]:
    """Run a proxy on a free port of the loopback."""
    proxy = HttpProxy(reaches, wants)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    async with server:
        proxy.port = server.sockets[0].getsockname()[1]
        yield proxy
