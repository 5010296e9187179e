"""Inner addresses in hundreds of spellings, asked for directly and by redirects.

Two count on their own: the canaries, which listen on both loopbacks at one port and would tell anybody their secret,
and the witness, who hears of every connect of the process. One origin may be asked; it redirects to wherever it is
told.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings

from downloader.config import SourcesSettings
from downloader.errors import SourceError
from downloader.jobs import Source
from downloader.work.connector import Lookup, tls_context
from downloader.work.fetch import Fetcher, Surroundings
from downloader.work.threads import threads
from tests.hostile.addresses import CANARIES, GOOD, NAMED, Form, forms
from tests.hostile.grammar import urls
from tests.hostile.witness import Witness, errand, watching
from tests.origins import Bin, Exchange, RawOrigin, raw_origin
from tests.servers import free_ports

SECRET = b"inner secrets"
STATUSES = (301, 302, 303, 307, 308)
# All that a refusal may be called; a Location that is nothing but a fragment leads to itself, too often.
_CODES = frozenset(
    (
        "bad_url bad_scheme blocked_address dns_failure redirect_invalid protocol_error connect_failed "
        "too_many_redirects"
    ).split()
)


@dataclass(slots=True)
class Yard:
    """The origin that may be asked, the canaries, the witness, and a fetcher among them."""

    fetcher: Fetcher
    origin: RawOrigin
    canaries: list[RawOrigin]
    witness: Witness
    locations: dict[str, bytes] = field(default_factory=dict)
    hops: int = 0

    @property
    def port(self) -> int:
        """The canaries' port."""
        return self.canaries[0].port

    @property
    def accepted(self) -> int:
        """Connections that a canary has taken."""
        return sum(canary.connections for canary in self.canaries)

    async def ask(self, url: str, what: str) -> tuple[str, bytes]:
        """Fetch a URL; gives the code, or `done`, and all bytes that came."""
        errand.set(what)
        sink = Bin()
        try:
            await self.fetcher.fetch(Source(0, 0, url), sink)
        except SourceError as fault:
            return fault.code, sink.data
        return "done", sink.data

    def sent_to(self, location: str, status: int, *, hops: int = 1) -> str:
        """A URL of the origin that leads to `location`, over `hops` redirects."""
        path = f"/{status}/{len(self.locations)}"
        self.locations[path] = location.encode("utf-8", "surrogatepass")
        return self.origin.url(path) if hops == 1 else self.sent_to(path, status, hops=hops - 1)

    async def answer(self, exchange: Exchange) -> None:
        """Say what the origin has to say: a redirect as it stands, its bytes unchecked, or a harmless file."""
        location = self.locations.get(exchange.target)
        if location is None:
            await exchange.answer("200 OK", {}, b"harmless")
            return
        self.hops += 1
        status = exchange.target.split("/")[1]
        await exchange.send(
            f"HTTP/1.1 {status} Go\r\nContent-Length: 0\r\nLocation: ".encode() + location + b"\r\n\r\n"
        )


@asynccontextmanager
async def yard(allow: Sequence[str] = (f"{GOOD}/32",), *, lookup: Lookup | None = None) -> AsyncIterator[Yard]:
    """Open everything; only `allow` may be reached, and every name leads inside."""

    async def no_pause(seconds: float) -> None:
        await asyncio.sleep(0)

    async def answer(exchange: Exchange) -> None:
        await made.answer(exchange)

    limits = SourcesSettings(allow_networks=list(allow), attempts=2, connect_timeout_s=1, idle_timeout_s=2)
    outside = Surroundings(tls=tls_context(), sleep=no_pause, names_ttl_s=0, lookup=lookup or looked_up)
    (port,) = free_ports(1)
    with threads() as pools, watching() as witness:
        async with (
            raw_origin(answer, GOOD) as origin,
            _canary(CANARIES[0], port) as four,
            _canary(CANARIES[1], port) as six,
            Fetcher.open(limits, pools, outside) as fetcher,
        ):
            made = Yard(fetcher, origin, [four, six], witness)
            yield made


@contextmanager
def standing_yard() -> Iterator[tuple[asyncio.Runner, Yard]]:
    """A yard and the runner of its loop, for stories that are no coroutines."""
    with asyncio.Runner() as runner:
        opened = yard()
        made = runner.run(opened.__aenter__())
        try:
            yield runner, made
        finally:
            runner.run(opened.__aexit__(None, None, None))


@asynccontextmanager
async def _canary(host: str, port: int) -> AsyncIterator[RawOrigin]:
    """A listener that would tell anybody its secret."""
    canary = RawOrigin(host, port)

    async def betray(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        canary.connections += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(SECRET), SECRET))
        writer.close()

    async with await asyncio.start_server(betray, host, port):
        yield canary


def looked_up(host: str, port: int) -> list[tuple[Any, ...]]:
    """The resolver of somebody who means harm: every name is an inner one."""
    addresses = NAMED.get(host.lower().removesuffix("."), CANARIES)
    return [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
        if ":" in address
        else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
        for address in addresses
    ]


@dataclass(slots=True)
class GuardFigures:
    """How much was tried, and what got through: `faults` has to be empty."""

    forms: int = 0
    urls: int = 0
    asked: int = 0
    hops: int = 0
    fuzzed: int = 0
    good_dials: int = 0
    accepted: int = 0
    inner_dials: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        ends = ", ".join(f"{count} {end}" for end, count in self.ends.most_common())
        return (
            f"guard: {self.forms} forms, {self.urls} with and without port, and {self.fuzzed} made up; "
            f"{self.asked} fetches ({self.hops} redirects): {self.inner_dials} dials inside, "
            f"{self.accepted} accepted by a canary, {self.good_dials} dials of the origin that may be asked\n  {ends}"
        )

    def count(self, made: Yard) -> None:
        """Add what both witnesses say of a yard."""
        inner = made.witness.outside(GOOD)
        self.hops += made.hops
        self.accepted += made.accepted
        self.inner_dials += len(inner)
        self.good_dials += len(made.witness.dials) - len(inner)
        self.faults += [f"dialled {address} for {what}" for address, what in inner]
        if made.accepted:
            self.faults.append(f"a canary took {made.accepted} connections")


def try_guard(chosen: Sequence[Form] | None = None, *, fuzzed: int = 0) -> GuardFigures:
    """Try all forms, or some, in all ways, and then URLs that Hypothesis makes up."""
    figures = GuardFigures()
    asyncio.run(_all_forms(forms() if chosen is None else chosen, figures))
    if fuzzed:
        _fuzz(fuzzed, figures)
    return figures


async def _all_forms(chosen: Sequence[Form], figures: GuardFigures) -> None:
    figures.forms = len(chosen)
    async with yard() as made:
        texts = {form.text.replace("{port}", port) for form in chosen for port in ("", f":{made.port}")}
        for text in sorted(texts):
            figures.urls += 1
            await try_url(made, text, figures)
        figures.count(made)


async def try_url(made: Yard, text: str, figures: GuardFigures) -> None:
    """Directly, as the Location of every redirect, as the second hop, and without its scheme."""
    ways = {"directly": text}
    ways |= {f"by {status}": made.sent_to(text, status) for status in STATUSES}
    ways["by two hops"] = made.sent_to(text, 302, hops=2)
    scheme, colon, rest = text.partition(":")
    if colon and scheme.lower() in ("http", "https"):
        ways["without a scheme"] = made.sent_to(rest, 307)
    for way, url in ways.items():
        code, data = await made.ask(url, f"{text!r} {way}")
        figures.asked += 1
        figures.ends[code] += 1
        if SECRET in data or (code != "done" and code not in _CODES):
            figures.faults.append(f"{text!r} {way}: {code}, {data[:40]!r}")


def _fuzz(examples: int, figures: GuardFigures) -> None:
    """Try made-up URLs in all ways; a URL that gets through is made as short as can be before it is told."""

    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(urls())
    def story(text: str) -> None:
        figures.fuzzed += 1
        nothing_gets_through(runner, made, text, figures)

    with standing_yard() as (runner, made):
        try:
            story()
        except AssertionError as error:
            figures.faults.append("; ".join([*getattr(error, "__notes__", []), str(error)]))
        figures.count(made)


def nothing_gets_through(runner: asyncio.Runner, made: Yard, text: str, figures: GuardFigures) -> None:
    """Try one URL in all ways; AssertionError when there was a dial, a byte or an unknown refusal."""
    faults, dials, accepted = len(figures.faults), len(made.witness.outside(GOOD)), made.accepted
    runner.run(try_url(made, text.replace("{port}", f":{made.port}"), figures))
    assert figures.faults[faults:] == []
    assert made.witness.outside(GOOD)[dials:] == [], text
    assert made.accepted == accepted, text
