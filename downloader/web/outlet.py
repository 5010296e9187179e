"""The writing end of one event stream, with a limit on how long its client may stall."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import NoReturn

from aiohttp import hdrs, web

SEND_BUFFER_BYTES = 128 * 1024
VANISHED_MS = 30_000
# A transport that holds less than this never asks its writers to wait (64 KiB, in asyncio and uvloop).
UNPAUSED_BYTES = 32 * 1024
# Fewer bytes are copied faster than sent in pieces.
COPIED_BYTES = 4096
STREAM_HEADERS: Mapping[str, str] = {
    hdrs.CONTENT_TYPE: "text/event-stream; charset=utf-8",
    hdrs.CACHE_CONTROL: "no-store, no-transform",
    "X-Accel-Buffering": "no",
}


class StalledError(Exception):
    """The client has taken nothing for too long; its connection is cut, and it may resume by its last id."""


class Outlet:
    """Writes whole frames; what the client does not take waits in the socket and in one small buffer.

    aiohttp sends the head and the end, and the frames go past it to the transport: it would copy each of them for
    each client, to put the chunk's length before it. What waits for slow clients is the same bytes for all of them.
    """

    __slots__ = ("_chunked", "_request", "_stall_s", "_taken", "_taken_at", "_written", "response")

    def __init__(self, request: web.Request, stall_s: float) -> None:
        self.response = web.StreamResponse(headers=STREAM_HEADERS)
        self._request = request
        self._stall_s = stall_s
        self._written = self._taken = 0
        self._taken_at = 0.0
        self._chunked = False

    async def start(self) -> None:
        """Send the headers and set the socket's limits; what an idle stream has no more use for is dropped."""
        _limit_socket(self._request.transport)
        await self.response.prepare(self._request)
        self._chunked = self.response.headers.get(hdrs.TRANSFER_ENCODING) == "chunked"
        self.response.headers.clear()  # with all the names that were made for them: 2 KiB
        # The time between two requests is not running; it begins anew when this one ends.
        self._request.protocol.keep_alive(val=True)

    async def write(self, data: bytes) -> None:
        """Send whole frames in one write; StalledError when the client stalls, ConnectionResetError when it is gone."""
        waiting = self._check_progress()
        self._written += len(data)
        self._send(data)
        if waiting + len(data) > UNPAUSED_BYTES:
            try:
                async with asyncio.timeout(self._stall_s):
                    await self._request.writer.drain()
            except TimeoutError as error:
                self._cut(error)

    def _send(self, data: bytes) -> None:
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        if not self._chunked:
            transport.write(data)
        elif len(data) < COPIED_BYTES:
            transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            transport.writelines((b"%x\r\n" % len(data), data, b"\r\n"))

    def _check_progress(self) -> int:
        """Notice a client that takes nothing although so little is sent that no write ever has to wait.

        Gives how many bytes wait to be taken.
        """
        transport, now = self._request.transport, asyncio.get_running_loop().time()
        waiting = transport.get_write_buffer_size() if transport else 0
        taken = self._written - waiting
        if waiting == 0 or taken > self._taken:
            self._taken, self._taken_at = taken, now
        elif now - self._taken_at > self._stall_s:
            self._cut(None)
        return waiting

    def _cut(self, cause: Exception | None) -> NoReturn:
        if self._request.transport is not None:
            self._request.transport.abort()
        raise StalledError from cause


def _limit_socket(transport: asyncio.Transport | None) -> None:
    """Keep little in the kernel for a slow client, and let it notice in 30 s one that vanished without a word."""
    connection = transport.get_extra_info("socket") if transport else None
    if connection is None:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    if hasattr(socket, "TCP_USER_TIMEOUT") and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, VANISHED_MS)
