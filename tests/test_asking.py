"""Requests without aiohttp's client: the same on the wire as with it, and limits that share one timer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDict

from downloader.config import SourcesSettings
from downloader.work.asking import Answer, ask
from downloader.work.connector import GuardedConnector, ThreadedLookup, open_session, tls_context
from downloader.work.credentials import COMMON
from downloader.work.deadlines import Deadlines, Limit
from downloader.work.dial import begin_dial
from downloader.work.guard import Guard
from downloader.work.threads import threads
from downloader.work.urls import parse
from tests.origins import Exchange, RawOrigin, raw_origin

TLS = tls_context()
WAYS = pytest.mark.parametrize("is_ours", [True, False], ids=["ours", "aiohttp"])


def here(_: str, port: int) -> list[tuple[Any, ...]]:
    """Every name is this machine's."""
    return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))]


@asynccontextmanager
async def session(*, is_ours: bool = True) -> AsyncIterator[aiohttp.ClientSession]:
    """A session to loopback; asked by our way or, as one with a proxy is, by aiohttp's."""
    guard = Guard(["127.0.0.0/8", "::1/128"])
    with threads() as pools:
        lookup = ThreadedLookup(pools.lookup, here, 2)
        async with open_session(SourcesSettings(), guard, lookup, 10, TLS) as opened:
            connector = opened.connector
            assert isinstance(connector, GuardedConnector)
            connector.is_proxied = not is_ours
            yield opened


async def asked(opened: aiohttp.ClientSession, url: str, headers: Any = COMMON) -> Answer:
    """The answer's head, within two seconds."""
    with Limit(Deadlines(2)) as limit:
        begin_dial(limit)
        return await ask(opened, parse(url), headers)


async def small(exchange: Exchange) -> None:
    """An answer that is one packet."""
    await exchange.answer("200 OK", {"X-Way": "same"}, b"whole")


async def seen(url: str, headers: Any, *, is_ours: bool) -> tuple[str, list[tuple[str, str]]]:
    """What a server sees of a request; `{}` in the URL is its address."""
    async with raw_origin(small) as origin, session(is_ours=is_ours) as opened:
        answer = await asked(opened, url.format(f"127.0.0.1:{origin.port}", port=origin.port), headers)
        assert (answer.status, answer.headers["X-Way"]) == (200, "same")
        assert await answer.content.readany() == b"whole"
        answer.close()
    (exchange,) = origin.exchanges
    host = (exchange.header("Host") or "").rpartition(":")[0]
    return exchange.target, [("Host", host), *(pair for pair in exchange.headers if pair[0] != "Host")]


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("http://{}", COMMON),
        ("http://{}/a%2fb//c?x=1&y=%zz", COMMON),
        ("http://{}/f?#part", COMMON),
        ("http://SOME.Host.:{port}/f", COMMON),
        ("http://{}/\u00e4 b", CIMultiDict([*COMMON.items(), ("X-Some", "\u00fcber"), ("X-Some", "other")])),
    ],
)
async def test_the_request_is_the_one_that_aiohttp_would_send(url: str, headers: Any) -> None:
    """Target, headers and their order are the same."""
    assert await seen(url, headers, is_ours=True) == await seen(url, headers, is_ours=False)


async def test_an_address_in_brackets_is_named_as_such() -> None:
    """A host that is an IPv6 address."""
    async with raw_origin(small, "::1") as origin, session() as opened:
        (await asked(opened, origin.url())).close()
    assert origin.exchanges[0].header("Host") == f"[::1]:{origin.port}"


@WAYS
@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\0", "a\x7f"])
async def test_no_header_can_become_two(value: str, *, is_ours: bool) -> None:
    """A control character in a header never leaves the house."""
    async with raw_origin(small) as origin, session(is_ours=is_ours) as opened:
        with pytest.raises(ValueError, match="control character"):
            await asked(opened, origin.url(), CIMultiDict([*COMMON.items(), ("X-Some", value)]))
    assert not origin.exchanges


async def _hang_up(exchange: Exchange) -> None:
    exchange.hang_up()


async def _nonsense(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 two hundred\r\n\r\n")


@WAYS
async def test_a_connection_without_an_answer_is_tried_once_more(*, is_ours: bool) -> None:
    """A server that closes before it answers is asked twice, one that answers with nonsense once."""
    async with session(is_ours=is_ours) as opened:
        async with raw_origin(_hang_up) as origin:
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await asked(opened, origin.url())
        assert len(origin.exchanges) == 2
        async with raw_origin(_nonsense) as origin:
            with pytest.raises(aiohttp.ClientResponseError):
                await asked(opened, origin.url())
        assert len(origin.exchanges) == 1


@WAYS
async def test_a_connection_is_used_again_only_when_its_body_was_read(*, is_ours: bool) -> None:
    """Three whole answers come over one connection; one that is closed before its end takes its connection along."""

    async def script(exchange: Exchange) -> None:
        if exchange.target == "/long":
            await exchange.answer("200 OK", {"Content-Length": "1000000"}, b"only a beginning")
        else:
            await small(exchange)

    async def take(origin: RawOrigin, path: str) -> int:
        answer = await asked(opened, origin.url(path))
        if path != "/long":
            assert await answer.content.readany() == b"whole"
        answer.close()
        return origin.connections

    async with raw_origin(script) as origin, session(is_ours=is_ours) as opened:
        used = [await take(origin, path) for path in ("/a", "/b", "/c", "/long", "/d")]
    assert used == [1, 1, 1, 1, 2]


# Limits


async def begun(deadlines: Deadlines, work_s: float) -> None:
    """Work under a limit that is started."""
    with Limit(deadlines) as limit:
        limit.start()
        await asyncio.sleep(work_s)


async def test_a_limit_runs_from_its_start() -> None:
    """Before it is started it never runs out; then it does, in time, and as a timeout."""
    deadlines, clock = Deadlines(0.1), asyncio.get_running_loop().time
    with Limit(deadlines):
        await asyncio.sleep(0.2)
    since = clock()
    with pytest.raises(TimeoutError):
        await begun(deadlines, 5)
    assert 0.09 <= clock() - since < 2


async def test_many_limits_end_each_in_its_own_time() -> None:
    """Those that are stopped or started anew do not hold the others up."""
    deadlines, clock = Deadlines(0.2), asyncio.get_running_loop().time
    began = clock()

    async def wait(begin_s: float, work_s: float, *, again: bool = False) -> float | None:
        await asyncio.sleep(begin_s)
        try:
            with Limit(deadlines) as limit:
                limit.start()
                if again:
                    await asyncio.sleep(0.15)
                    limit.start()
                await asyncio.sleep(work_s)
        except TimeoutError:
            return clock() - began
        return None

    ended = await asyncio.gather(wait(0, 0.01), wait(0, 9), wait(0, 9, again=True), wait(0.1, 9), wait(0.12, 0.05))
    assert ended[0] is ended[4] is None
    times = [moment for moment in ended if moment is not None]
    assert [round(moment, 1) for moment in (times[0], times[2], times[1])] == pytest.approx([0.2, 0.3, 0.35], abs=0.12)
    assert times[0] < times[2] < times[1]


async def test_who_is_cancelled_is_cancelled() -> None:
    """A cancellation from outside is no timeout."""
    task = asyncio.create_task(begun(Deadlines(5), 9))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
