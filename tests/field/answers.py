"""Sources that misbehave, each a script for `tests.origins.raw_origin`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.origins import Exchange, Script, content

BODY = content("field", 200_000)
ETAG = {"ETag": '"one"'}


def answer(headers: dict[str, str] | None = None, body: bytes = BODY, status: str = "200 OK") -> Script:
    """A whole answer."""

    async def script(exchange: Exchange) -> None:
        await exchange.answer(status, headers, body)

    return script


def verbatim(data: bytes, end: Callable[[Exchange], None] = Exchange.hang_up) -> Script:
    """These bytes and no others, then the end of the connection."""

    async def script(exchange: Exchange) -> None:
        await exchange.send(data)
        end(exchange)

    return script


def headed(lines: bytes, body: bytes = BODY) -> Script:
    """A good answer with these header lines as they are."""
    return verbatim(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s" % (len(body), lines, body))


def cut(
    after: int,
    headers: dict[str, str] | None = None,
    body: bytes = BODY,
    end: Callable[[Exchange], None] = Exchange.hang_up,
) -> Script:
    """`after` bytes of a body that is announced as a whole."""

    async def script(exchange: Exchange) -> None:
        await exchange.answer("200 OK", {"Content-Length": str(len(body))} | (headers or {}), body[:after])
        if after:
            await asyncio.sleep(0.2)  # else the end overtakes what was sent, in a busy service too
        end(exchange)

    return script


def in_turn(*scripts: Script) -> Script:
    """The first request gets the first script, the next the next, all others the last."""

    async def script(exchange: Exchange) -> None:
        await scripts[min(exchange.number, len(scripts)) - 1](exchange)

    return script


def part(first: int, last: int, *, headers: dict[str, str] | None = None, total: int = len(BODY)) -> Script:
    """A 206 with the bytes from `first` to `last`."""
    placed = {"Content-Range": f"bytes {first}-{last}/{total}"} | ETAG | (headers or {})
    return answer(placed, BODY[first : last + 1], "206 Partial Content")


def if_asked(rest: Script, whole: Script) -> Script:
    """`rest` for a request with a Range, else `whole`."""

    async def script(exchange: Exchange) -> None:
        await (rest if exchange.header("Range") else whole)(exchange)

    return script


def redirect(location: str | None, status: str = "302 Found", headers: dict[str, str] | None = None) -> Script:
    """A redirect, perhaps without saying where to."""
    return answer((headers or {}) | ({} if location is None else {"Location": location}), b"", status)


def by_path(routes: dict[str, Script], otherwise: Script) -> Script:
    """A script for each request target."""

    async def script(exchange: Exchange) -> None:
        await routes.get(exchange.target, otherwise)(exchange)

    return script


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n", headers: bytes = b"") -> Script:
    """A chunked answer; the connection is closed after it."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%s\r\n" % headers
    return verbatim(head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + end)


def paced(pieces: int, pause_s: float, body: bytes = BODY, first_s: float = 0.0) -> Script:
    """A whole answer in `pieces` with pauses between them."""

    async def script(exchange: Exchange) -> None:
        await asyncio.sleep(first_s)
        await exchange.answer("200 OK", {"Content-Length": str(len(body))})
        step = -(-len(body) // pieces)
        for start in range(0, len(body), step):
            await exchange.send(body[start : start + step])
            await asyncio.sleep(pause_s)

    return script


async def silent(exchange: Exchange) -> None:
    """No answer at all."""
    await asyncio.sleep(60)
