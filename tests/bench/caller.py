"""A client that takes next to nothing itself: one prepared request, sent over connections that are kept."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Sequence
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: (\d+)")
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Caller:
    """Posts one JSON body again and again; a connection is opened for who finds none free."""

    def __init__(self, base: str, path: str, body: bytes) -> None:
        url = urlsplit(base)
        self._host, self._port = url.hostname, url.port
        head = f"POST {path} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/json\r\n"
        self._message = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        self._free: deque[Connection] = deque()

    async def post(self, expected: int) -> None:
        """Call once; AssertionError when the answer has another status."""
        reader, writer = self._free.pop() if self._free else await asyncio.open_connection(self._host, self._port)
        writer.write(self._message)
        head = await reader.readuntil(b"\r\n\r\n")
        found: Sequence[bytes] = _LENGTH.findall(head)
        rest = await reader.readexactly(int(found[0]))
        assert head.startswith(f"HTTP/1.1 {expected} ".encode()), head + rest
        self._free.append((reader, writer))

    def close(self) -> None:
        """Close all connections."""
        for _, writer in self._free:
            writer.close()
