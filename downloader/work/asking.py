"""One GET over a connection of aiohttp's, without the client around it.

aiohttp's client does for every request what ours never want: cookies, authentication, redirects, traces, bodies, a
clock of its own. That is a third of what a small file costs. So the connector is asked for a connection (it looks up,
dials, guards and pools), the request's few lines are written to it, and its own parser reads the answer. A request
through a proxy goes the usual way: it has another target and other headers.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp
from aiohttp.client_reqrep import ClientRequest, RequestInfo
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict, CIMultiDictProxy, MultiMapping
from yarl import URL

from downloader.work.connector import SWITCHING_PROTOCOLS, BoundedProtocol, GuardedConnector
from downloader.work.credentials import COMMON
from downloader.work.urls import Target

if TYPE_CHECKING:
    from aiohttp import StreamReader
    from aiohttp.connector import Connection

# What ends a line, or may not be in one (RFC 9110, 5.5).
_UNFIT = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Answer(Protocol):
    """The head of an answer, and the body behind it: as much as we use of aiohttp's ClientResponse."""

    status: int
    content: StreamReader

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """The header fields."""
        ...

    @property
    def connection(self) -> Connection | None:
        """Over which it comes; None when the body has ended."""
        ...

    def close(self) -> None:
        """Be done with it; a body that was not read to its end takes its connection with it."""
        ...


async def ask(session: aiohttp.ClientSession, target: Target, headers: MultiMapping[str]) -> Answer:
    """Ask `target` and give the answer when its head is there; raises aiohttp.ClientError, OSError and ValueError.

    A connection that breaks before it has answered is tried once more, as aiohttp does (RFC 9112, 9.3.1).
    """
    connector = session.connector
    if not isinstance(connector, GuardedConnector) or connector.is_proxied:
        return await session.get(target.wire_url(), headers=headers, allow_redirects=False)
    request = _request(target.scheme, target.host, target.port)
    head = f"GET {target.target} HTTP/1.1\r\nHost: {request.host_line}\r\n{_lines(headers)}\r\n".encode()
    try:
        return await _asked(connector, request, head, session.timeout)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
        return await _asked(connector, request, head, session.timeout)


class _Request(ClientRequest):
    """As much of a request as a connector looks at; it serves all that go to one origin."""

    def __init__(self, url: URL) -> None:  # not its parent's, which makes headers and a body
        self.url = self.original_url = url
        self.host_line = url.host_port_subcomponent
        self.headers = CIMultiDict()
        self.proxy = self.proxy_auth = self.proxy_headers = self.server_hostname = None
        self._ssl = True
        self._key = super().connection_key

    @property
    def connection_key(self) -> Any:
        """By what connections are pooled."""
        return self._key


@lru_cache(maxsize=1024)
def _request(scheme: str, host: str, port: int) -> _Request:
    return _Request(Target(scheme, host, port, "/", None).wire_url())


def _lines(headers: MultiMapping[str]) -> str:
    if headers is COMMON:
        return _COMMON_LINES
    for name, value in headers.items():
        if _UNFIT.search(name) or _UNFIT.search(value):
            raise ValueError("a header holds a control character")
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()])


_COMMON_LINES = "".join([f"{name}: {value}\r\n" for name, value in COMMON.items()])


async def _asked(connector: GuardedConnector, request: _Request, head: bytes, limits: aiohttp.ClientTimeout) -> _Answer:
    connection = await connector.connect(request, [], limits)
    try:
        protocol = _send(head, connection)
        while True:
            message, content = await protocol.read()
            if message.code // 100 != 1 or message.code == SWITCHING_PROTOCOLS:
                return _Answer(message, content, connection)
    except HttpProcessingError as error:
        connection.close()
        about = RequestInfo(request.url, "GET", CIMultiDictProxy(request.headers), request.url)
        raise aiohttp.ClientResponseError(about, (), status=error.code, message=error.message) from error
    except BaseException:
        connection.close()
        raise


def _send(head: bytes, connection: Connection) -> BoundedProtocol:
    """Write the request; gives what reads its answer."""
    protocol = connection.protocol
    if not isinstance(protocol, BoundedProtocol) or protocol.transport is None or protocol.transport.is_closing():
        raise aiohttp.ClientConnectionResetError("the connection is closing")
    protocol.expect()
    protocol.transport.write(head)
    return protocol


class _Answer:
    """An answer over a connection that goes back to the pool as soon as its body has come."""

    __slots__ = ("connection", "content", "headers", "status")

    def __init__(self, message: Any, content: StreamReader, connection: Connection) -> None:
        self.status: int = message.code
        self.headers: CIMultiDictProxy[str] = message.headers
        self.content = content
        self.connection: Connection | None = connection
        content.on_eof(self._ended)

    def _ended(self) -> None:
        connection = self.connection
        if connection is None or (connection.protocol is not None and connection.protocol.upgraded):
            return
        self.connection = None
        connection.release()

    def close(self) -> None:
        """Be done with it."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None
