"""The HTTP client sessions: guarded at the socket, without shared cookies, the environment's proxies or decoding.

Name look-ups run in their own threads with a limit of their own; aiohttp connects to several addresses by happy
eyeballs (RFC 8305), so a dead IPv6 path costs a quarter of a second.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.tracing import Trace

from downloader.config import SourcesSettings
from downloader.work.dial import current_dial
from downloader.work.guard import Guard

# 32 KiB for each header field and 512 of them: beyond, the answer is refused as `header_too_large`.
HEADER_BYTES = 32 * 1024
HEADERS_MAX = 512
INTERIM_MAX = 20
SWITCHING_PROTOCOLS = 101
READ_BYTES = 256 * 1024
KEEP_ALIVE_S = 15

Lookup = Callable[[str, int], list[tuple[Any, ...]]]


def system_lookup(host: str, port: int) -> list[tuple[Any, ...]]:
    """Ask the system's resolver; blocks, so it runs in the `lookup` threads."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)


class ThreadedLookup(AbstractResolver):
    """Resolves names in the given threads within `timeout_s`; every failure comes out as an OSError."""

    def __init__(self, pool: ThreadPoolExecutor, lookup: Lookup, timeout_s: float) -> None:
        self._pool = pool
        self._lookup = lookup
        self._timeout_s = timeout_s

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - both are asked for and tried
    ) -> list[ResolveResult]:
        """The addresses of `host`; the thread of a look-up that takes too long ends by itself."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                infos = await loop.run_in_executor(self._pool, self._lookup, host, port)
        except TimeoutError:
            raise socket.gaierror(socket.EAI_AGAIN, "the look-up took too long") from None
        except UnicodeError:
            raise socket.gaierror(socket.EAI_NONAME, "the name cannot be looked up") from None
        results = [_result(host, info) for info in infos if info[0] in (socket.AF_INET, socket.AF_INET6)]
        if not results:
            raise socket.gaierror(socket.EAI_NONAME, "the name has no address")
        return results

    async def close(self) -> None:
        """Nothing to close: the threads belong to the process."""


def _result(host: str, info: tuple[Any, ...]) -> ResolveResult:
    family, _, protocol, _, address = info
    return ResolveResult(
        hostname=host,
        # A scoped address is never public; its zone is left in so that the guard sees it.
        host=f"{address[0]}%{address[3]}" if len(address) > 3 and address[3] else str(address[0]),
        port=int(address[1]),
        family=family,
        proto=protocol,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )


class BoundedProtocol(ResponseHandler):
    """aiohttp's side of a connection, which takes only so many interim answers (RFC 9110, 15.2) to one request.

    aiohttp itself passes over them without end and without letting anything else run. After `expect` a body that has
    not come whole with its head waits until somebody says how it is to be received: `read_on`, or `lend`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._interim = 0
        self._is_expected = False

    def expect(self) -> None:
        """A request begins, of a client that knows no others than GET: its answer is read within our bounds."""
        self.set_response_params(
            read_until_eof=True,
            auto_decompress=False,
            read_bufsize=READ_BYTES,
            max_line_size=HEADER_BYTES,
            max_field_size=HEADER_BYTES,
            max_headers=HEADERS_MAX,
        )
        self._is_expected = True

    def data_received(self, data: bytes) -> None:
        """Take what has come; where that is the head that is expected, what follows it waits in the socket."""
        before = self._payload
        super().data_received(data)
        if not self._is_expected or self._payload is before or self._payload is None:
            return
        self._is_expected = False
        if not self._payload.is_eof():
            self._pause_transport_reading()

    def read_on(self) -> None:
        """Receive the body through the parser."""
        if not self._reading_paused:
            self._resume_transport_reading()

    @property
    def can_lend(self) -> bool:
        """Whether the rest of the body that is coming in may be received by another protocol."""
        is_at_rest = self._parser is not None and not (self._upgraded or self._reading_paused or self._buffer_paused)
        return is_at_rest and self._exception is None and self.is_connected()

    def lend(self, other: asyncio.BufferedProtocol) -> asyncio.Transport:
        """Give the connection to `other` for the rest of a body; it hands on what else happens, then `take_back`."""
        transport = self.transport
        if transport is None:
            raise RuntimeError("there is no connection to lend")
        _change_protocol(transport, other)
        transport.resume_reading()
        return transport

    def take_back(self) -> None:
        """The body has ended: the connection is free for the next request.

        What comes before that has no parser and stays in the tail, which makes aiohttp close the connection.
        """
        payload, self._payload, self._parser = self._payload, None, None
        if self.transport is not None:
            _change_protocol(self.transport, self)
        if payload is not None:
            payload.feed_eof()  # reads on, and gives the connection back to the pool

    async def read(self) -> Any:
        """The next head; BadHttpMessage when it is one interim answer too many."""
        message, payload = await super().read()
        if message.code // 100 != 1 or message.code == SWITCHING_PROTOCOLS:
            self._interim = 0
            return message, payload
        self._interim += 1
        if self._interim > INTERIM_MAX:
            raise BadHttpMessage("too many interim answers")
        return message, payload


def _change_protocol(transport: asyncio.Transport, protocol: asyncio.BaseProtocol) -> None:
    """Reading has to be at rest for this: uvloop chooses how it reads when it starts to."""
    transport.pause_reading()
    transport.set_protocol(protocol)


class GuardedConnector(aiohttp.TCPConnector):
    """A TCP connector that tells the request's dial when its connection is there."""

    def __init__(self, *, is_proxied: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.is_proxied = is_proxied
        factory: Callable[..., ResponseHandler] = BoundedProtocol
        self._factory = functools.partial(factory, loop=self._loop)

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own signature
    ) -> Connection:
        """Take a connection from the pool or make one."""
        dial = current_dial()
        dial.connected = False  # aiohttp asks once more by itself when a pooled connection turns out to be dead
        connection = await super().connect(req, traces, timeout)
        # What came over a pooled connection that nobody had asked for would be taken for the answer (RFC 9112, 9.5).
        while not dial.dialled and connection.protocol is not None and connection.protocol.should_close:
            connection.close()
            connection = await super().connect(req, traces, timeout)
        protocol = connection.protocol
        dial.connection_made(None if protocol is None else protocol.closed)
        return connection


def tls_context() -> ssl.SSLContext:
    """The system's trust store, verifying always; nothing in a request can change that."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(("http/1.1",))
    return context


def open_session(
    settings: SourcesSettings,
    guard: Guard,
    lookup: AbstractResolver,
    names_ttl_s: int,
    tls: ssl.SSLContext,
    proxy: str = "",
) -> aiohttp.ClientSession:
    """Make the session; the caller closes it. How many connections are open is the host gate's business.

    With a `proxy`, userinfo and all, every request goes there, and it is the one that looks names up.
    """
    connector = GuardedConnector(
        limit=0,
        ssl=tls,
        resolver=lookup,
        use_dns_cache=names_ttl_s > 0,
        ttl_dns_cache=names_ttl_s,
        socket_factory=guard.socket_factory,
        keepalive_timeout=KEEP_ALIVE_S,
        is_proxied=bool(proxy),
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        proxy=proxy or None,
        read_bufsize=READ_BYTES,
        max_line_size=HEADER_BYTES,
        max_field_size=HEADER_BYTES,
        max_headers=HEADERS_MAX,
        # Connecting has limits here (name, then TCP and TLS); the answer's head and body have their own clocks.
        timeout=aiohttp.ClientTimeout(
            total=None, connect=2 * settings.connect_timeout_s, sock_connect=settings.connect_timeout_s, sock_read=None
        ),
    )
