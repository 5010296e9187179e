"""A large body, received straight into blocks of our own: nothing copies it between the socket and the archive's part.

aiohttp's way costs two copies, the loop's and the parser's, and hands out a piece for each read of the socket. A body
of known length that is not coded and not chunked needs no parser: its connection is taken over for just so many bytes
and given back for the next request. The blocks are never written to again once they are handed out.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
from collections import deque

import aiohttp

from downloader.work.answers import body_length
from downloader.work.asking import Answer
from downloader.work.connector import BoundedProtocol

# A block is a batch of the cache and one hop to the thread that digests it.
BLOCK_BYTES = 512 * 1024
# Less is received by the usual way: taking over and giving back costs about as much as copying this.
LEAST_BYTES = 512 * 1024
# So many full blocks may wait before the socket is left alone.
_WAITING_MAX = 2
# What has come is handed out after this time, though its block is not full: progress, and what a resume goes on from.
_HAND_OUT_S = 0.1


def new_block(size: int) -> bytearray:
    """A block with anything in it: zeroing one that is about to be filled costs as much as copying it once more."""
    return _uninitialised(None, size) if _uninitialised else bytearray(size)


_uninitialised = None
if sys.implementation.name == "cpython":
    # "Create a new bytearray object from string and its length"; without a string nothing is written (C API).
    _uninitialised = ctypes.pythonapi.PyByteArray_FromStringAndSize
    _uninitialised.argtypes, _uninitialised.restype = [ctypes.c_char_p, ctypes.c_ssize_t], ctypes.py_object


class Receiver(asyncio.BufferedProtocol):
    """The protocol of a connection while one body comes in; takes the rest of it, and nothing for anybody else.

    `read` hands the bytes out in order. A connection that is lost first gives what had come, then ClientPayloadError.
    """

    def __init__(self, handler: BoundedProtocol, start: bytes, left: int, length: int | None) -> None:
        """`start` is what has come of the body already, `left` the number of bytes that are to come.

        `length` is what is known of the whole file's.
        """
        self.length = length
        self.taken = 0
        self._loop = asyncio.get_running_loop()
        self._handler = handler
        self._transport = handler.lend(self)
        self._left = left
        self._block = memoryview(b"")
        self._given = self._filled = 0
        self._ready: deque[memoryview] = deque([memoryview(start)] if start else ())
        self._waiter: asyncio.Future[None] | None = None
        self._fault: BaseException | None = None
        self._is_paused = False
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    def of(cls, response: Answer, length: int | None) -> Receiver | None:
        """Take over what is left of the answer's body; None when it must, or may as well, come the usual way."""
        announced, content = body_length(response.headers), response.content
        handler = None if response.connection is None else response.connection.protocol
        if announced is None or announced - content.total_bytes < LEAST_BYTES:
            return None
        if not isinstance(handler, BoundedProtocol) or not handler.can_lend or content.exception() is not None:
            return None
        return cls(handler, content.read_nowait(), announced - content.total_bytes, length)

    # The consumer's side

    @property
    def is_ready(self) -> bool:
        """Whether `read` would not wait."""
        return bool(self._ready) or self._fault is not None or not self._left

    @property
    def is_at_end(self) -> bool:
        """Whether all has come and was handed out."""
        return not self._left and not self._ready

    async def read(self) -> memoryview:
        """The next bytes, a whole block where they come fast; empty at the end."""
        while not self._ready:
            if self._fault is not None:
                raise aiohttp.ClientPayloadError("the connection was lost") from self._fault
            if not self._left:
                return memoryview(b"")
            self._waiter = self._loop.create_future()
            self._hand_out_soon()
            try:
                await self._waiter
            finally:
                self._waiter = None
        piece = self._ready.popleft()
        self.taken += len(piece)
        if self._is_paused and self._left:
            self._is_paused = False
            self._transport.resume_reading()
        return piece

    def rest(self) -> bytes:
        """What has come and was not handed out, for who waits no more."""
        self._hand_out()
        rest = b"".join(self._ready)
        self._ready.clear()
        return rest

    # The transport's side

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - what the loop would like is less than we have
        """Where the next bytes go: room for the body, and for one byte more that nobody should send."""
        if self._filled == len(self._block):
            self._block = memoryview(new_block(BLOCK_BYTES if self._left > BLOCK_BYTES else self._left + 1))
            self._given = self._filled = 0
        return self._block[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes have come."""
        if nbytes > self._left:
            nbytes = self._left
            self._handler.force_close()  # what follows would be taken for the next answer (RFC 9112, 9.5)
        self._filled += nbytes
        self._left -= nbytes
        if not self._left:
            self._hand_out()
            self._stop_timer()
            self._handler.take_back()
        elif self._filled == len(self._block):
            self._hand_out()
            if len(self._ready) >= _WAITING_MAX:
                self._is_paused = True
                self._transport.pause_reading()
        else:
            self._hand_out_soon()

    def eof_received(self) -> bool | None:
        """The source will send no more; the transport closes itself, and `connection_lost` says the rest."""
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended before the body."""
        self._fault = exc or ConnectionResetError("closed")
        self._hand_out()
        self._stop_timer()
        self._wake()
        self._handler.connection_lost(exc)

    def pause_writing(self) -> None:
        """The request is still on its way out."""
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        """The request goes on."""
        self._handler.resume_writing()

    def _hand_out_soon(self) -> None:
        """See to it that who waits gets what has come, though its block may not become full for long."""
        if self._timer is None and self._waiter is not None and self._filled > self._given:
            self._timer = self._loop.call_later(_HAND_OUT_S, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        if self._waiter is not None:
            self._hand_out()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _hand_out(self) -> None:
        if self._filled > self._given:
            self._ready.append(self._block[self._given : self._filled])
            self._given = self._filled
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
