"""The writing end of one event stream, with a limit on how long its client may stall."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping

from aiohttp import hdrs, web

SEND_BUFFER_BYTES = 128 * 1024
VANISHED_MS = 30_000
STREAM_HEADERS: Mapping[str, str] = {
    hdrs.CONTENT_TYPE: "text/event-stream; charset=utf-8",
    hdrs.CACHE_CONTROL: "no-store, no-transform",
    "X-Accel-Buffering": "no",
}


class StalledError(Exception):
    """The client has taken nothing for too long; its connection is cut, and it may resume by its last id."""


class Outlet:
    """Writes whole frames; what the client does not take waits in the socket and in one small buffer."""

    def __init__(self, request: web.Request, stall_s: float) -> None:
        self.response = web.StreamResponse(headers=STREAM_HEADERS)
        self._request = request
        self._stall_s = stall_s
        self._written = self._taken = 0
        self._taken_at = 0.0

    async def start(self) -> None:
        """Send the headers (with the first frame) and set the socket's limits."""
        _limit_socket(self._request.transport)
        await self.response.prepare(self._request)

    async def write(self, data: bytes) -> None:
        """Send whole frames in one write; StalledError when the client stalls, ConnectionResetError when it is gone."""
        self._check_progress()
        self._written += len(data)
        try:
            async with asyncio.timeout(self._stall_s):
                await self.response.write(data)
        except TimeoutError as error:
            self._cut(error)

    def _check_progress(self) -> None:
        """Notice a client that takes nothing although so little is sent that no write ever has to wait."""
        transport, now = self._request.transport, asyncio.get_running_loop().time()
        waiting = transport.get_write_buffer_size() if transport else 0
        taken = self._written - waiting
        if waiting == 0 or taken > self._taken:
            self._taken, self._taken_at = taken, now
        elif now - self._taken_at > self._stall_s:
            self._cut(None)

    def _cut(self, cause: Exception | None) -> None:
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
