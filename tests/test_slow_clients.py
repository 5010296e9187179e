"""Clients that take their time, on purpose or not: each is waited for a while, none for ever but streams."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from downloader.web.connection import Patience
from downloader.web.parts import Pace
from tests.servers import Redis
from tests.waiting import wait_until
from tests.web_front import Front, fronted

LIMIT_S = 10.0
HURRIED = Patience(head_s=0.4, idle_s=1.2, send_s=0.5, head_bytes=40_000, connections=20)
HEAD = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
BODY = json.dumps({"files": [{"url": "https://files.example/a"}]}).encode()


@dataclass
class Wire:
    """A connection of bytes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    got: bytearray = field(default_factory=bytearray)

    def send(self, data: bytes) -> None:
        """Send, if the other side still listens."""
        self.writer.write(data)

    async def rest(self) -> bytes:
        """Everything that comes until the service closes the connection."""
        async with asyncio.timeout(LIMIT_S):
            try:
                while piece := await self.reader.read(65_536):
                    self.got += piece
            except ConnectionResetError:
                pass
        return bytes(self.got)

    async def answer(self) -> tuple[int, bytes]:
        """One answer with a Content-Length."""
        async with asyncio.timeout(LIMIT_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            return int(head.split()[1]), await self.reader.readexactly(length)


@asynccontextmanager
async def wire(front: Front) -> AsyncIterator[Wire]:
    """Connect."""
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def front(valkey: Redis, **options: Any) -> AsyncIterator[Front]:
    """The web side with a prefix of its own."""
    async with fronted(valkey.url, redis={"prefix": f"t{secrets.token_hex(6)}"}, **options) as served:
        yield served


def problem(raw: bytes) -> dict[str, Any]:
    """The problem in an answer after which the connection ended."""
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower()
    assert b"x-content-type-options: nosniff" in head.lower()
    parsed = json.loads(body)
    assert int(head.split()[1]) == parsed["status"]
    return dict(parsed)


def post(length: int) -> bytes:
    """The head of a POST."""
    lines = [b"POST /v1/download/initiate HTTP/1.1", b"Host: localhost", b"Content-Type: application/json"]
    return b"\r\n".join([*lines, b"Content-Length: %d" % length, b"", b""])


async def drip(connection: Wire, data: bytes, every_s: float) -> None:
    """Send byte by byte."""
    for byte in data:
        connection.send(bytes([byte]))
        await asyncio.sleep(every_s)  # the story is about time itself


async def test_a_head_has_its_time(valkey: Redis) -> None:
    """No byte, half a head, one that drips: closed or 408, in time; an answered client may be idle for longer."""
    async with (
        front(valkey, patience=HURRIED) as served,
        wire(served) as silent,
        wire(served) as half,
        wire(served) as dripping,
        wire(served) as idle,
    ):
        half.send(HEAD)
        idle.send(HEAD + b"\r\n")
        assert (await idle.answer())[0] == 200
        dripped = asyncio.create_task(drip(dripping, HEAD * 3, 0.05))
        assert await silent.rest() == b""
        assert problem(await half.rest())["code"] == "request_timeout"
        assert problem(await dripping.rest())["code"] == "request_timeout"
        dripped.cancel()
        idle.send(HEAD + b"\r\n")
        assert (await idle.answer())[0] == 200
        assert await idle.rest() == b""


async def test_a_body_has_a_time_of_its_own(valkey: Redis) -> None:
    """A body that takes longer than a head may is taken in, and the connection serves the next call."""
    async with front(valkey, patience=HURRIED) as served, wire(served) as slow:
        slow.send(post(len(BODY)))
        await drip(slow, BODY, 1.5 * HURRIED.head_s / len(BODY))
        assert (await slow.answer())[0] == 202
        await asyncio.sleep(1.5 * HURRIED.head_s)  # nothing of it is counted to the next head
        slow.send(HEAD + b"\r\n")
        assert (await slow.answer())[0] == 200


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-Much: " + b"y" * 10_000 + b"\r\n", "40000 bytes"),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", "a line is longer than 16384 bytes"),
        (HEAD + b"A: b\r\n" * 200 + b"\r\n", "RFC 9112"),
        (b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n", "RFC 9112"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "RFC 9112"),
    ],
    ids=["large head", "long line", "many fields", "no HTTP", "TLS"],
)
async def test_what_is_no_http_gets_a_problem(valkey: Redis, sent: bytes, says: str) -> None:
    """Whatever the parser refuses is answered as every other error is, quotes nothing, and ends the connection."""
    async with front(valkey, patience=HURRIED) as served, wire(served) as strange:
        for _ in range(1 if sent.endswith(b"\r\n\r\n") or sent[0] == 22 else 5):
            strange.send(sent)
            sent = sent.rpartition(b"localhost\r\n")[2]
        told = problem(await strange.rest())
        assert (told["status"], told["code"]) == (400, "invalid_request")
        assert says in told["detail"]


async def test_a_stream_takes_as_long_as_it_takes(valkey: Redis) -> None:
    """An event stream outlives every limit, also when its client sends half a request after it."""
    async with front(valkey, patience=HURRIED, pace=Pace(heartbeat_s=0.1)) as served, wire(served) as stream:
        job_id = await served.api.submit(["https://files.example/a"])
        stream.send(f"GET /v1/download/subscribe/{job_id} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        async with asyncio.timeout(LIMIT_S):
            for beat in range(20):
                await stream.reader.readuntil(b": still here")
                if beat == 1:
                    stream.send(HEAD)
        claim = await served.claimed()
        await served.complete(claim)
        async with asyncio.timeout(LIMIT_S):
            await stream.reader.readuntil(b"event: complete")


async def test_there_is_an_end_to_connections(valkey: Redis) -> None:
    """One connection too many is closed without an answer, so that an EventSource comes again; then there is room."""
    few = Patience(connections=2)
    async with front(valkey, patience=few) as served, wire(served) as first:
        first.send(HEAD + b"\r\n")
        assert (await first.answer())[0] == 200
        async with wire(served) as second:
            second.send(HEAD + b"\r\n")
            assert (await second.answer())[0] == 200
            async with wire(served) as third:
                assert await third.rest() == b""
        await wait_until(lambda: answered(served))


async def answered(served: Front) -> bool:
    """Whether a new connection is answered."""
    async with wire(served) as another:
        another.send(HEAD + b"Connection: close\r\n\r\n")
        return b" 200 " in await another.rest()


async def test_who_does_not_read_is_left(valkey: Redis) -> None:
    """A client that asks for much and reads nothing loses its connection, and with it what was to be sent."""
    async with front(valkey, patience=HURRIED) as served:
        job_id = await served.api.submit([f"https://files.example/{number}" for number in range(1000)])
        ask = f"GET /v1/download/{job_id}/files?limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * 60
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.settimeout(0)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(deaf, ("127.0.0.1", served.port))
            await loop.sock_sendall(deaf, ask)
            # Reset, though bytes are there that were never read: the service has given up.
            await wait_until(lambda: deaf.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 104)


async def test_slow_large_bodies_share_a_room(valkey: Redis) -> None:
    """Many large bodies that never end hold no more than four may; one more is 503, and small calls go on."""
    most = 400_000
    async with front(valkey, server={"max_body_bytes": most}) as served:
        async with AsyncExitStack() as stack:
            slow = [await stack.enter_async_context(wire(served)) for _ in range(5)]
            for one in slow:
                one.send(post(most) + b" " * (most - 1))
            answers = [asyncio.create_task(one.answer()) for one in slow]
            done, waiting = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
            ((status, body),) = [answer.result() for answer in done]
            assert (status, json.loads(body)["code"]) == (503, "unavailable")
            assert (await served.api.initiate(["https://files.example/a"])).status == 202
            for answer in waiting:
                answer.cancel()
        async with wire(served) as later:  # the room is given back when their clients leave
            later.send(post(most) + b" " * (most - len(BODY)) + BODY)
            assert (await later.answer())[0] == 202
