"""A source that fails at random: one request in five meets one of its moods, the same for a seed, a file and a try.

Files are of all sizes up to 300 kB; a third has an ETag, a third a date, a third nothing to resume by. All bytes of
bodies that it writes are counted, those of broken ones too.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from weakref import WeakSet

from tests.origins import Exchange, RawOrigin, content, raw_origin

RATE = 0.2
_DATES = {"Date": "Wed, 25 Nov 2026 12:00:00 GMT", "Last-Modified": "Sun, 06 Nov 1994 08:49:37 GMT"}
_DRIP_S = 0.05


@dataclass(frozen=True)
class SentFile:
    """One file: its path, and how many bytes it has."""

    number: int
    size: int

    @property
    def path(self) -> str:
        """Where it lies."""
        return f"/moody/{self.number}/file-{self.number}.bin"

    @cached_property
    def data(self) -> bytes:
        """Its bytes."""
        return content(self.path, self.size)

    @property
    def validators(self) -> dict[str, str]:
        """What it may be resumed by."""
        return ({"ETag": f'"{self.number}"'}, _DATES, {})[self.number % 3]


@dataclass
class Moody:
    """The source: its files, and what has happened so far."""

    files: list[SentFile]
    seed: int
    rate: float = RATE
    origin: RawOrigin = field(default_factory=lambda: RawOrigin(""))
    body_bytes: int = 0
    requests: int = 0
    resumed: int = 0
    moods: Counter[str] = field(default_factory=Counter)
    _tries: Counter[str] = field(default_factory=Counter)
    _known: WeakSet[asyncio.StreamWriter] = field(default_factory=WeakSet)

    @property
    def needed_bytes(self) -> int:
        """What would have to be sent if nothing failed."""
        return sum(file.size for file in self.files)

    async def serve(self, exchange: Exchange) -> None:
        """Answer as the mood is."""
        file = self.files[int(exchange.target.split("/")[2])]
        rng = self._chance(exchange.target)
        start = _range_start(exchange, file)
        self.requests += 1
        self.resumed += start > 0
        if rng.random() >= self.rate:
            await self._body(exchange, file, start)
            return
        name, act = rng.choice(_RANGE_MOODS if start and rng.random() < 0.8 else _MOODS)
        self.moods[name] += 1
        await act(self, exchange, file, start, rng)

    def _chance(self, target: str) -> random.Random:
        """Depends on the file and how often it was asked for, not on who was faster."""
        self._tries[target] += 1
        return random.Random(f"{self.seed} {target} {self._tries[target]}")

    async def _body(self, exchange: Exchange, file: SentFile, start: int, end: int | None = None) -> None:
        """The file from `start` on; `end` is where it breaks off."""
        await exchange.send(_head(file, start))
        await self._write(exchange, file.data[start:end])

    async def _write(self, exchange: Exchange, data: bytes) -> None:
        self.body_bytes += len(data)
        await exchange.send(data)

    # The moods

    async def _reset_before_head(self, exchange: Exchange, file: SentFile, start: int, rng: random.Random) -> None:
        exchange.reset()

    async def _reset_in_body(self, exchange: Exchange, file: SentFile, start: int, rng: random.Random) -> None:
        await self._body(exchange, file, start, rng.randrange(start, file.size))
        exchange.reset()

    async def _cut_in_body(self, exchange: Exchange, file: SentFile, start: int, rng: random.Random) -> None:
        await self._body(exchange, file, start, rng.randrange(start, file.size))
        exchange.hang_up()

    async def _too_many(self, exchange: Exchange, file: SentFile, start: int, rng: random.Random) -> None:
        await exchange.answer("429 Too Many Requests", {"Retry-After": rng.choice("01")}, b"slow down")

    async def _unavailable(self, exchange: Exchange, file: SentFile, start: int, rng: random.Random) -> None:
        await exchange.answer(
            "503 Service Unavailable", {"Retry-After": rng.choice(["", "0", "1"])}, b"<html>busy</html>"
        )

    async def _drip(self, exchange: Exchange, file: SentFile, start: int, rng: random.Random) -> None:
        """All of it, in its own time."""
        await exchange.send(_head(file, start))
        step = max(1, (file.size - start) // 10)
        for at in range(start, file.size, step):
            await self._write(exchange, file.data[at : at + step])
            await asyncio.sleep(_DRIP_S)

    async def _deaf_connection(self, exchange: Exchange, file: SentFile, start: int, rng: random.Random) -> None:
        """A kept connection is closed when it is used again; a new one as soon as it has served."""
        if exchange.writer not in self._known:
            await self._body(exchange, file, start)
        exchange.hang_up()

    async def _ignored_range(self, exchange: Exchange, file: SentFile, start: int, rng: random.Random) -> None:
        await self._body(exchange, file, 0)

    async def _other_range(self, exchange: Exchange, file: SentFile, start: int, rng: random.Random) -> None:
        """A 206 of the right version that begins somewhere else than was asked for, and says so."""
        other = rng.choice([place for place in (0, start - 1, start + 1) if 0 <= place < file.size])
        await exchange.send(_head(file, other, partial=True))
        await self._write(exchange, file.data[other:])

    async def _nameless_range(self, exchange: Exchange, file: SentFile, start: int, rng: random.Random) -> None:
        """A 206 that does not say which range it is."""
        data = file.data[start:]
        self.body_bytes += len(data)
        await exchange.answer("206 Partial Content", file.validators, data)

    async def _other_version(self, exchange: Exchange, file: SentFile, start: int, rng: random.Random) -> None:
        """A 206 of what claims to be another version: its bytes must not be joined to those of the first."""
        lying = SentFile(file.number + 1, file.size)
        await exchange.send(_head(lying, start, partial=True))
        await self._write(exchange, bytes(file.size - start))


Act = Callable[[Moody, Exchange, SentFile, int, random.Random], Awaitable[None]]

_MOODS: list[tuple[str, Act]] = [
    ("reset before the head", Moody._reset_before_head),  # noqa: SLF001 - they are its own
    ("reset in the body", Moody._reset_in_body),  # noqa: SLF001
    ("closed in the body", Moody._cut_in_body),  # noqa: SLF001
    ("429", Moody._too_many),  # noqa: SLF001
    ("503", Moody._unavailable),  # noqa: SLF001
    # Twice, so that more is resumed.
    ("reset in the body", Moody._reset_in_body),  # noqa: SLF001
    ("closed in the body", Moody._cut_in_body),  # noqa: SLF001
    ("slow drip", Moody._drip),  # noqa: SLF001
    ("kept connection closed", Moody._deaf_connection),  # noqa: SLF001
]
_RANGE_MOODS: list[tuple[str, Act]] = [
    ("Range ignored", Moody._ignored_range),  # noqa: SLF001
    ("206 from elsewhere", Moody._other_range),  # noqa: SLF001
    ("206 without its range", Moody._nameless_range),  # noqa: SLF001
    ("206 of another version", Moody._other_version),  # noqa: SLF001
]


def _range_start(exchange: Exchange, file: SentFile) -> int:
    """Where a resumed transfer wants to go on; 0 when all is wanted, or If-Range names another version."""
    wanted = exchange.header("Range")
    known = (file.validators.get("ETag"), file.validators.get("Last-Modified"))
    if wanted is None or exchange.header("If-Range") not in known:
        return 0
    return int(wanted.removeprefix("bytes=").removesuffix("-"))


def _head(file: SentFile, start: int, *, partial: bool = False) -> bytes:
    fields = {"Content-Length": str(file.size - start), **file.validators}
    status = "200 OK"
    if start or partial:
        status = "206 Partial Content"
        fields["Content-Range"] = f"bytes {start}-{file.size - 1}/{file.size}"
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode()


def sent_files(count: int, seed: int) -> list[SentFile]:
    """Files of all sizes, none empty: many small ones, some of up to 300 kB."""
    rng = random.Random(seed)
    limits = [1000, 20_000, 20_000, 65_536, 300_000]
    return [SentFile(number, rng.randint(1, rng.choice(limits))) for number in range(count)]


@asynccontextmanager
async def moody(count: int, seed: int, host: str, rate: float = RATE) -> AsyncIterator[Moody]:
    """Run it with `count` files."""
    made = Moody(sent_files(count, seed), seed, rate)

    async def serve(exchange: Exchange) -> None:
        await made.serve(exchange)
        made._known.add(exchange.writer)  # noqa: SLF001 - from now on a request on it is one on a kept connection

    async with raw_origin(serve, host) as made.origin:
        yield made
