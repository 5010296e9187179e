"""One client's connection: HTTP as aiohttp speaks it, with a limit on everything a client may take its time for.

aiohttp waits without a limit for the rest of a request's head, and for a client to read its answer. What it bounds
itself: 32 requests sent ahead, 128 header fields, the size of each line, 10 s for the rest of a body nobody wants.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http import HttpVersion10, HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import _ErrInfo

from downloader.web.middlewares import SECURITY_HEADERS
from downloader.web.problems import Problem, answer, from_http, to_body

LINE_BYTES = 16 * 1024
FULL_LOG_S = 60.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long and how much a client is waited for, in seconds and bytes.

    `head_s`: from its first byte, or from the connection's beginning, to the end of a request's head; a head fits into
    one or two packets. `idle_s`: between two requests; above the 60 s after which nginx gives up its own idle end.
    `send_s`: until an answer that is no stream has been read; streams have a limit of their own (`outlet.py`).
    `dead_s`: without a sign from the other end while something is on its way to it.
    `head_bytes`: all lines of a head together. `connections`: open at once, see `serve.py`.
    """

    head_s: float = 10.0
    idle_s: float = 75.0
    send_s: float = 120.0
    dead_s: float = 60.0
    head_bytes: int = 64 * 1024
    connections: int = 10_000


class Connections:
    """Makes the connections of one server and counts those that are open."""

    def __init__(self, server: web.Server, patience: Patience) -> None:
        self.patience = patience
        self._server = server
        self._open = 0
        self._told_at = float("-inf")

    def __call__(self) -> Connection:
        """Make the protocol of a connection that has just been accepted."""
        return Connection(self._server, self)

    def enter(self) -> bool:
        """Count one more; False when it is one too many."""
        self._open += 1
        if self._open <= self.patience.connections:
            return True
        if time.monotonic() - self._told_at > FULL_LOG_S:
            self._told_at = time.monotonic()
            log.warning("http.full", connections=self.patience.connections, remedy="raise the limit of open files")
        return False

    def leave(self) -> None:
        """Count one less."""
        self._open -= 1


class Connection(web.RequestHandler):
    """aiohttp's connection with our patience; whatever is no HTTP is answered by a problem and logged by its kind."""

    def __init__(self, server: web.Server, all_of_them: Connections) -> None:
        patience = all_of_them.patience
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=patience.idle_s,
            access_log=None,  # type: ignore[arg-type]  # middlewares.access_log knows the route and masks the query
            max_line_size=LINE_BYTES,
            max_field_size=LINE_BYTES,
        )
        self._all = all_of_them
        self._patience = patience
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._body: StreamReader = EMPTY_PAYLOAD

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first head; a connection too many is closed without a word, so that its client comes again.

        (An EventSource that reads a 503 never does, and nginx asks another replica.)
        """
        super().connection_made(transport)
        if not self._all.enter():
            self.force_close()
            return
        _give_up_on_dead_readers(transport, self._patience.dead_s)
        self._wait_for_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        self._all.leave()
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes in; those that belong to a head which is not complete are counted, and so is the time."""
        known, was_complete = self._request_count, self._body.is_eof()
        super().data_received(data)
        if self._request_count > known:
            self._refuse_more()
            self._body = self._messages[-1][1] if self._messages else EMPTY_PAYLOAD
            self._stop_waiting()
        elif data and was_complete and not self._messages:
            self._head_bytes += len(data)
            if self._head_bytes > self._patience.head_bytes:
                self._turn_away("invalid_request", f"The head may have {self._patience.head_bytes} bytes.")
            elif self._timer is None:
                self._wait_for_head()

    def _refuse_more(self) -> None:
        """Refuse what the parser takes although aiohttp cannot answer it well (see `_is_sound`)."""
        for index, (message, _) in enumerate(self._messages):
            if isinstance(message, RawRequestMessage) and not _is_sound(message):
                refused = _ErrInfo(status=400, exc=BadHttpMessage("version or Expect"), message="")
                self._messages[index] = (refused, EMPTY_PAYLOAD)

    def _wait_for_head(self) -> None:
        self._timer = self._loop.call_later(self._patience.head_s, self._head_is_late)

    def _stop_waiting(self) -> None:
        self._head_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _head_is_late(self) -> None:
        self._timer = None
        if self.transport is None:
            return
        if self._waiter is None or self._waiter.done():  # an answer is under way: it must not be cut
            self._wait_for_head()
        elif self._head_bytes:
            self._turn_away("request_timeout", f"The head must arrive within {self._patience.head_s:g} s.")
        else:
            self.force_close()

    def _turn_away(self, code: str, detail: str) -> None:
        """End the connection with a problem, unless something else is being answered on it."""
        is_idle = self._waiter is not None and not self._waiter.done()
        if is_idle and self.transport is not None:
            log.info("http.turned_away", code=code)
            self.transport.write(_raw(Problem(code, detail)))
        self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP; the parser's own words are not shown or logged, for they quote the request."""
        if status == HTTPStatus.BAD_REQUEST:
            log.info("http.malformed", reason=type(exc).__name__)
            what = f"a line is longer than {LINE_BYTES} bytes" if isinstance(exc, LineTooLong) else "see RFC 9112"
            problem = Problem("invalid_request", f"The head or the body's framing is not valid HTTP/1.1: {what}.")
        else:
            super().handle_error(request, status, exc, message)  # logs it
            problem = Problem("internal", "Something went wrong on our side.")
        response = web.Response(status=problem.status, body=to_body(problem, "", ""), headers=_HEADERS)
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log what went wrong with us; that what is left of a body cannot be decoded is the client's affair."""
        if isinstance(kw.get("exc_info"), HttpProcessingError | web.RequestPayloadError):
            log.info("http.malformed", reason=type(kw["exc_info"]).__name__)
        else:
            super().log_exception(*args, **kw)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the answer; a client that does not read it in time loses the connection.

        A refusal that was raised beside our middlewares (of an Expect header) is made a problem here.
        """
        if isinstance(resp, web.HTTPException) and isinstance(request, web.Request) and resp.status >= 400:
            resp = answer(request, from_http(resp, request))
        try:
            async with asyncio.timeout(self._patience.send_s):
                return await super().finish_response(request, resp, start_time)
        except TimeoutError:
            log.info("http.unread")
            if self.transport is not None:
                _reset(self.transport)
            return resp, True


_HEADERS = {**SECURITY_HEADERS, "Content-Type": "application/problem+json", "Cache-Control": "no-store"}


def _is_sound(message: RawRequestMessage) -> bool:
    """Whether aiohttp answers this well: 0.9 and 2.0 it answers in kind, other bytes in Expect by a 500."""
    return message.version in (HttpVersion10, HttpVersion11) and message.headers.get("Expect", "").isascii()


def _raw(problem: Problem) -> bytes:
    """The problem as the whole last answer of a connection whose request could not be read."""
    body = to_body(problem, "", "")
    headers = {**_HEADERS, "Content-Length": str(len(body)), "Connection": "close"}
    lines = [f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii") + body


def _reset(transport: asyncio.Transport) -> None:
    """End a connection at once, with all that waits to be sent: a mere close leaves that to the kernel to keep."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _give_up_on_dead_readers(transport: asyncio.BaseTransport, after_s: float) -> None:
    """Let the kernel end a connection whose other end takes nothing any more, also when we have closed our side."""
    option: Any = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux
    connection = transport.get_extra_info("socket")
    if option is not None and connection is not None:
        connection.setsockopt(socket.IPPROTO_TCP, option, int(after_s * 1000))
