"""Fetching from origins that behave as real ones do: badly."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import socket
import ssl
import subprocess
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from downloader.config import SourcesSettings
from downloader.errors import SourceChangedError, SourceError
from downloader.jobs import Source
from downloader.work import coding
from downloader.work.connector import tls_context
from downloader.work.fetch import Fetcher, Offer, Surroundings
from downloader.work.threads import threads
from tests.origins import Bin, Exchange, RawOrigin, content, files_origin, raw_origin

BODY = content("body", 200_000)
TLS = tls_context()
ETAG = {"ETag": '"one"'}


def settings(**changes: Any) -> SourcesSettings:
    """Loopback allowed, short limits."""
    return SourcesSettings(
        **{
            "allow_networks": ["127.0.0.0/8", "::1/128"],
            "connect_timeout_s": 2,
            "idle_timeout_s": 2,
            "attempts": 3,
            "min_bytes_per_s": 0,
            **changes,
        }
    )


class Clock:
    """Pauses that pass at once and are remembered."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)


@asynccontextmanager
async def fetching(
    clock: Clock | None = None, outside: Surroundings | None = None, **changes: Any
) -> AsyncIterator[Fetcher]:
    """A fetcher that does not really pause between attempts."""
    quick = outside or Surroundings(tls=TLS, sleep=(clock or Clock()).sleep, jitter=lambda: 0.0)
    with threads() as pools:
        async with Fetcher.open(settings(**changes), pools, quick) as fetcher:
            yield fetcher


def source(url: str, **fields: Any) -> Source:
    """A source."""
    return Source(0, 0, url, **fields)


async def get(
    script: Callable[[Exchange], Any], path: str = "/f.bin", sink: Bin | None = None, **changes: Any
) -> tuple[Bin, RawOrigin]:
    """Fetch one file from a raw origin."""
    sink = sink or Bin()
    async with raw_origin(script) as origin, fetching(**changes) as fetcher:
        await fetcher.fetch(source(origin.url(path)), sink)
    return sink, origin


async def code_of(script: Callable[[Exchange], Any], path: str = "/f.bin", **changes: Any) -> str:
    """The code that a fetch from a raw origin fails with."""
    with pytest.raises(SourceError) as caught:
        await get(script, path, **changes)
    assert "127.0.0.1" not in caught.value.message
    return caught.value.code


# Whole files


async def test_files_arrive_whole() -> None:
    """Known length, chunked and empty bodies arrive as they are, and the offer says what is known."""
    async with files_origin() as base, fetching() as fetcher:
        for path, size, known in (
            ("/file/300000/a.bin", 300_000, True),
            ("/chunked/300000", 300_000, False),
            ("/file/0", 0, True),
        ):
            sink = Bin()
            await fetcher.fetch(source(base + path), sink)
            assert sink.data == content(path, size)
            assert sink.offers[0].length == (size if known else None)  # type: ignore[attr-defined]


async def test_offer_tells_type_name_and_time() -> None:
    """The offer holds the bare media type, the disposition's name and the date."""

    async def script(exchange: Exchange) -> None:
        await exchange.answer(
            "200 OK",
            {
                "Content-Type": "Text/CSV; charset=utf-8",
                "Content-Disposition": "attachment; filename*=UTF-8''%e2%82%ac.csv",
                "Last-Modified": "Sun, 06 Nov 1994 08:49:37 GMT",
            },
            b"a",
        )

    sink, _ = await get(script)
    assert sink.offers == [Offer(1, "text/csv", "€.csv", datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC))]


@pytest.mark.parametrize(
    "date", ["0", "-1", "", "garbage", "Mon, 01 Foo 0001 00:00:00 GMT", "Fri, 31 Feb 2020 99:99:99 GMT"]
)
async def test_bad_dates_never_fail_a_file(date: str) -> None:
    """A Last-Modified that makes no sense is no date."""

    async def script(exchange: Exchange) -> None:
        await exchange.answer("200 OK", {"Last-Modified": date}, b"a")

    sink, _ = await get(script)
    assert sink.offers[0].last_modified is None  # type: ignore[attr-defined]


async def test_body_that_ends_by_closing_is_taken_but_not_verified() -> None:
    """HTTP/1.0 style: nothing can be checked, and the offer says so."""

    async def script(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.0 200 OK\r\n\r\n" + BODY)
        exchange.hang_up()

    sink, _ = await get(script)
    assert sink.data == BODY
    assert sink.offers[0].length_verified is False  # type: ignore[attr-defined]


async def test_reset_is_not_the_end_of_a_body_without_a_length() -> None:
    """A body that only ends with its connection is whole when the server closed that, and cut when it broke."""

    async def script(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\n\r\n" + BODY[: 100_000 if exchange.number == 1 else None])
        if exchange.number == 1:
            await arrived.wait()
            exchange.reset()
        else:
            exchange.hang_up()

    arrived = asyncio.Event()
    sink = Bin()
    taken = sink.write

    async def write(chunk: bytes | memoryview) -> None:
        await taken(chunk)
        if sink.position == 100_000:
            arrived.set()

    sink.write = write  # type: ignore[method-assign]
    _, origin = await get(script, sink=sink)
    assert sink.data == BODY
    assert len(origin.exchanges) == 2


async def test_only_one_get_is_sent() -> None:
    """One-time links: no HEAD, no probe."""

    async def script(exchange: Exchange) -> None:
        await exchange.answer("200 OK" if exchange.number == 1 else "410 Gone", {}, b"once")

    sink, origin = await get(script)
    assert sink.data == b"once"
    assert len(origin.exchanges) == 1


# Length


SHORT = {
    "short": lambda e: e.answer("200 OK", {"Content-Length": "20000"}, BODY[:12000]),
    "nothing": lambda e: e.answer("200 OK", {"Content-Length": "20000"}),
    "one chunk": lambda e: e.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n"),
    "chunk promises more": lambda e: e.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabcde"),
    "trailer": lambda e: e.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n"),
}


@pytest.mark.parametrize("end", ["hang_up", "reset"])
@pytest.mark.parametrize("how", SHORT)
async def test_short_bodies_are_truncated(how: str, end: str) -> None:
    """Whatever way a body is cut, it is never taken for the file."""

    async def script(exchange: Exchange) -> None:
        await SHORT[how](exchange)
        await asyncio.sleep(0.05)
        getattr(exchange, end)()

    assert await code_of(script) == "truncated"


async def test_short_once_then_whole() -> None:
    """A cut without a validator starts anew and nothing of the first try is kept."""

    async def script(exchange: Exchange) -> None:
        if exchange.number == 1:
            await exchange.answer("200 OK", {"Content-Length": str(len(BODY))}, BODY[:150_000])
            exchange.hang_up()
        else:
            await exchange.answer("200 OK", {}, BODY)

    sink, origin = await get(script)
    assert sink.data == BODY
    assert origin.exchanges[1].header("Range") is None


async def test_interim_answers_without_end_are_a_protocol_error() -> None:
    """A few are passed over, a flood of them ends at once and lets everything else run meanwhile."""

    async def flood(exchange: Exchange) -> None:
        while True:
            await exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)

    async with asyncio.timeout(10):
        assert await code_of(flood) == "protocol_error"


async def test_garbled_chunks_are_a_protocol_error() -> None:
    """A chunk size that is no number is not a short file."""

    async def script(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\nzz\r\n")
        await asyncio.sleep(0.1)
        exchange.hang_up()

    assert await code_of(script) == "protocol_error"


async def test_slow_consumer_loses_nothing() -> None:
    """A source that sends all and closes at once, read slowly: aiohttp 3.14.0 to 3.14.3 called that truncated."""
    body = content("large", 8_000_000)

    async def script(exchange: Exchange) -> None:
        await exchange.answer("200 OK", {}, body)
        exchange.hang_up()

    sink, _ = await get(script, sink=Bin(wait_s=0.02))
    assert hashlib.sha256(sink.data).digest() == hashlib.sha256(body).digest()


# Resuming


def cut_then(second: Callable[[Exchange], Any], first: dict[str, str], at: int = 80_000) -> Callable[[Exchange], Any]:
    """Cut the first answer, answer by `second` once, then whole."""

    async def script(exchange: Exchange) -> None:
        if exchange.number == 1:
            await exchange.answer("200 OK", first | {"Content-Length": str(len(BODY))}, BODY[:at])
            exchange.hang_up()
        elif exchange.number == 2:
            await second(exchange)
        else:
            await exchange.answer("200 OK", first, BODY)

    return script


def partial(exchange: Exchange, start: int, end: int | None = None, body: bytes = BODY, etag: str = '"one"') -> Any:
    """A 206."""
    stop = len(body) if end is None else end
    placed = f"bytes {start}-{stop - 1}/{len(body)}"
    return exchange.answer("206 Partial Content", {"ETag": etag, "Content-Range": placed}, body[start:stop])


RESUMES = {
    "206 as asked": lambda e: partial(e, 80_000),
    "200 of the same": lambda e: e.answer("200 OK", ETAG, BODY),
    "206 from the start": lambda e: partial(e, 0),
    "206 too early": lambda e: partial(e, 80_000 - 4096),
    "206 without a range": lambda e: e.answer("206 Partial Content", ETAG, BODY[80_000:]),
    "206 shorter than the rest": lambda e: partial(e, 80_000, 120_000),
    "206 of another version": lambda e: partial(e, 80_000, etag='"two"'),
    "206 without etag": lambda e: partial(e, 80_000, etag=""),
    "206 of another length": lambda e: partial(e, 80_000, body=BODY + b"x"),
    "416": lambda e: e.answer("416 Range Not Satisfiable", {}),
    "503": lambda e: e.answer("503 Unavailable", {}),
}


@pytest.mark.parametrize("how", RESUMES)
async def test_resume_gives_the_very_same_bytes(how: str) -> None:
    """Whatever the second answer is, the file is the file."""
    sink, origin = await get(cut_then(RESUMES[how], ETAG))
    assert sink.data == BODY
    assert origin.exchanges[1].header("Range") == "bytes=80000-"
    assert origin.exchanges[1].header("If-Range") == '"one"'
    if how in ("206 as asked", "200 of the same"):
        assert (len(origin.exchanges), sink.restarts) == (2, 0)
    if how == "503":
        assert origin.exchanges[2].header("Range") == "bytes=80000-"


@pytest.mark.parametrize("cut_at", [0, 1, 65_536, 199_999])
async def test_full_answer_after_a_cut_is_never_appended(cut_at: int) -> None:
    """A source without ranges and validators: the second answer replaces the first."""
    sink, origin = await get(cut_then(lambda e: e.answer("200 OK", {}, BODY), {}, cut_at))
    assert sink.data == BODY
    assert all(exchange.header("Range") is None for exchange in origin.exchanges)


CHUNKED = {"ETag": '"one"', "Transfer-Encoding": "chunked", "Content-Length": ""}


def chunked(data: bytes) -> bytes:
    """One chunk and the end."""
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)


@pytest.mark.parametrize("how", ["200 that is shorter", "206 that names no total"])
async def test_file_of_unknown_length_is_never_cut_by_its_second_answer(how: str) -> None:
    """A chunked file is cut; the same version then comes shorter, or from the middle to an end that nobody names."""

    async def script(exchange: Exchange) -> None:
        if exchange.number == 1:
            await exchange.answer("200 OK", CHUNKED, b"%x\r\n%b\r\n" % (80_000, BODY[:80_000]))
            exchange.hang_up()
        elif exchange.header("Range") and "206" in how:
            placed = CHUNKED | {"Content-Range": "bytes 80000-99999/*"}
            await exchange.answer("206 Partial Content", placed, chunked(BODY[80_000:100_000]))
        elif exchange.header("Range"):
            await exchange.answer("200 OK", CHUNKED, chunked(BODY[:70_000]))
        else:
            await exchange.answer("200 OK", CHUNKED, chunked(BODY))

    sink = Bin()
    try:
        await get(script, sink=sink)
    except SourceError as error:
        assert error.code == "truncated"
    else:
        assert sink.data == BODY


async def test_changed_file_is_version_two_entirely() -> None:
    """A source that ignores If-Range and continues with another version: never a mix."""
    other = content("other", len(BODY))

    async def script(exchange: Exchange) -> None:
        if exchange.number == 1:
            await exchange.answer("200 OK", ETAG | {"Content-Length": str(len(BODY))}, BODY[:80_000])
            exchange.hang_up()
        elif exchange.header("Range"):
            await partial(exchange, 80_000, body=other, etag='"two"')
        else:
            await exchange.answer("200 OK", {"ETag": '"two"'}, other)

    sink, _ = await get(script)
    assert sink.data == other


@pytest.mark.parametrize(("age_s", "is_strong"), [(3600, True), (10, False)])
async def test_only_a_settled_date_is_a_validator(age_s: int, is_strong: bool) -> None:
    """Last-Modified counts when it lies a minute before Date; a weak ETag never does."""
    now = datetime.now(UTC)
    headers = {
        "ETag": 'W/"one"',
        "Date": format_datetime(now, usegmt=True),
        "Last-Modified": format_datetime(now - timedelta(seconds=age_s), usegmt=True),
    }
    sink, origin = await get(cut_then(lambda e: e.answer("200 OK", headers, BODY), headers))
    assert sink.data == BODY
    assert (origin.exchanges[1].header("If-Range") == headers["Last-Modified"]) is is_strong


# Statuses


@pytest.mark.parametrize(
    ("status", "headers", "code"),
    [
        ("206 Partial", {"Content-Range": "bytes 0-4/100"}, "unexpected_status"),
        ("206 Partial", {}, "unexpected_status"),
        ("204 No Content", {"Content-Length": ""}, "unexpected_status"),
        ("205 Reset", {}, "unexpected_status"),
        ("202 Accepted", {}, "unexpected_status"),
        ("201 Created", {}, "unexpected_status"),
        ("304 Not Modified", {"Content-Length": ""}, "unexpected_status"),
        ("300 Choices", {}, "unexpected_status"),
        ("404 Not Found", {}, "http_status:404"),
        ("410 Gone", {}, "http_status:410"),
        ("401 Unauthorized", {}, "http_status:401"),
        ("403 Forbidden", {}, "http_status:403"),
    ],
)
async def test_statuses_that_are_no_file(status: str, headers: dict[str, str], code: str) -> None:
    """Only 200, 203 and a whole 206 are a file; a permanent no is asked once, and the next file comes."""

    async def script(exchange: Exchange) -> None:
        if exchange.target == "/good":
            await exchange.answer("200 OK", {}, b"good")
        else:
            await exchange.answer(status, headers, b"" if headers.get("Content-Length") == "" else b"abcde")

    async with raw_origin(script) as origin, fetching() as fetcher:
        with pytest.raises(SourceError) as caught:
            await fetcher.fetch(source(origin.url()), Bin())
        assert caught.value.code == code
        assert len(origin.exchanges) == 1
        sink = Bin()
        await fetcher.fetch(source(origin.url("/good")), sink)
        assert sink.data == b"good"


@pytest.mark.parametrize("status", ["203 Non-Authoritative", "206 Partial"])
async def test_statuses_that_are_the_file(status: str) -> None:
    """203 and a 206 of everything are the file."""
    sink, _ = await get(lambda e: e.answer(status, {"Content-Range": "bytes 0-4/5"}, b"abcde"))
    assert sink.data == b"abcde"


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_transient_statuses_are_tried_again_within_bounds(status: int) -> None:
    """They get their attempts with growing pauses, then their code."""
    clock = Clock()
    async with raw_origin(lambda e: e.answer(f"{status} No", {})) as origin, fetching(clock) as fetcher:
        with pytest.raises(SourceError) as caught:
            await fetcher.fetch(source(origin.url()), Bin())
    assert caught.value.code == f"http_status:{status}"
    assert len(origin.exchanges) == 3
    assert clock.pauses == [0.125, 0.25]


async def test_retry_after_in_both_forms() -> None:
    """Seconds and dates are waited for; a past date is no wait."""
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=31), usegmt=True)
    past = "Sun, 06 Nov 1994 08:49:37 GMT"
    answers = [("429 Slow", "2"), ("503 Busy", soon), ("503 Busy", past)]

    async def script(exchange: Exchange) -> None:
        if exchange.number <= len(answers):
            status, value = answers[exchange.number - 1]
            await exchange.answer(status, {"Retry-After": value})
        else:
            await exchange.answer("200 OK", {}, b"ok")

    clock = Clock()
    sink = Bin()
    async with raw_origin(script) as origin, fetching(clock, attempts=5) as fetcher:
        await fetcher.fetch(source(origin.url()), sink)
    assert sink.data == b"ok"
    assert clock.pauses[0] == 2
    assert 28 < clock.pauses[1] <= 31
    assert clock.pauses[2] == 0


async def test_too_long_a_retry_after_is_a_no() -> None:
    """Nobody waits an hour for one file."""
    clock = Clock()
    async with (
        raw_origin(lambda e: e.answer("429 Slow", {"Retry-After": "3600"})) as origin,
        fetching(clock) as fetcher,
    ):
        with pytest.raises(SourceError) as caught:
            await fetcher.fetch(source(origin.url()), Bin())
    assert (caught.value.code, clock.pauses, len(origin.exchanges)) == ("http_status:429", [], 1)


# Redirects


@pytest.mark.parametrize("target", ["/p?sig=a%2Fb%40c%2B%3D&x=a+b&y=%7E", "/a%2fb/../c;v=1?", "/%zz?q=%C3%A9&=&&"])
async def test_targets_go_out_byte_for_byte(target: str) -> None:
    """The first URL and two chained redirects send exactly the given target."""

    async def script(exchange: Exchange) -> None:
        if exchange.number < 3:
            await exchange.answer("302 Found", {"Location": f"http://{exchange.header('Host')}{target}"})
        else:
            await exchange.answer("200 OK", {}, b"ok")

    _, origin = await get(script, target)
    assert [exchange.target for exchange in origin.exchanges] == [target] * 3


async def test_only_illegal_characters_are_encoded() -> None:
    """Blanks and letters outside of ASCII are percent-encoded, fragments stay here."""
    _, origin = await get(lambda e: e.answer("200 OK", {}, b"ok"), '/a b"é%20\\?x=|#frag')
    assert origin.exchanges[0].target == "/a%20b%22%C3%A9%20%5C?x=%7C"


async def test_location_in_latin_1_is_sent_as_its_bytes() -> None:
    """A raw 0xE9 in Location goes out as %E9."""

    async def script(exchange: Exchange) -> None:
        if exchange.number == 1:
            await exchange.answer("302 Found", {"Location": "/caf\udce9"})
        else:
            await exchange.answer("200 OK", {}, b"ok")

    _, origin = await get(script)
    assert origin.exchanges[1].target == "/caf%E9"


@pytest.mark.parametrize(
    ("location", "code"),
    [
        (None, "redirect_invalid"),
        ("", "redirect_invalid"),
        ("http://", "redirect_invalid"),
        ("http:/x", "redirect_invalid"),
        ("https:///x", "redirect_invalid"),
        ("/f.bin", "too_many_redirects"),
        ("#frag", "too_many_redirects"),
        ("http://[::1", "bad_url"),
        ("http://a..b/", "bad_url"),
        ("file:///etc/passwd", "bad_scheme"),
        ("FILE:/etc/passwd", "bad_scheme"),
        ("ftp://h/x", "bad_scheme"),
        ("data:text/plain,hi", "bad_scheme"),
        ("javascript:1", "bad_scheme"),
        ("about:blank", "bad_scheme"),
    ],
)
async def test_redirects_that_lead_nowhere(location: str | None, code: str) -> None:
    """They fail by name, with at most one request more than there may be redirects."""
    requests = 0

    async def script(exchange: Exchange) -> None:
        nonlocal requests
        requests += 1
        head = "" if location is None else f"Location: {location}\r\n"
        await exchange.send(f"HTTP/1.1 302 Found\r\n{head}Content-Length: 0\r\n\r\n".encode())

    assert await code_of(script) == code
    assert requests == (6 if code == "too_many_redirects" else 1)


async def test_no_redirects_when_none_are_allowed() -> None:
    """max_redirects 0 means none, not any number."""
    assert await code_of(lambda e: e.answer("302 Found", {"Location": "/x"}), max_redirects=0) == "too_many_redirects"


@pytest.mark.parametrize(
    ("location", "target"),
    [("../x?y", "/a/x?y"), ("x", "/a/b/x"), ("?q", "/a/b/c?q"), ("/abs", "/abs"), ("//{host}/o", "/o")],
)
async def test_relative_locations(location: str, target: str) -> None:
    """RFC 3986, 5.2."""

    async def script(exchange: Exchange) -> None:
        if exchange.number == 1:
            await exchange.answer("307 Go", {"Location": location.format(host=exchange.header("Host"))})
        else:
            await exchange.answer("200 OK", {}, b"ok")

    _, origin = await get(script, "/a/b/c?d")
    assert origin.exchanges[1].target == target


async def test_cookies_live_for_one_chain() -> None:
    """A site that redirects to itself until its cookie comes back works; the next file starts without it."""

    async def script(exchange: Exchange) -> None:
        if "seen=1" in (exchange.header("Cookie") or ""):
            await exchange.answer("200 OK", {}, b"ok")
        else:
            await exchange.answer("302 Found", {"Location": exchange.target, "Set-Cookie": "seen=1; Path=/"})

    async with raw_origin(script) as origin, fetching() as fetcher:
        for _ in range(2):
            sink = Bin()
            await fetcher.fetch(source(origin.url(), headers=(("Cookie", "mine=2"),)), sink)
            assert sink.data == b"ok"
    assert [exchange.header("Cookie") for exchange in origin.exchanges] == ["mine=2", "mine=2; seen=1"] * 2


SECRETS = (
    ("Authorization", "Bearer s3cr3t"),
    ("Authorization", "Bearer s3cr3t"),
    ("Cookie", "s3cr3t=1"),
    ("X-Api-Key", "s3cr3t"),
)


async def test_credentials_stay_with_their_origin() -> None:
    """Kept on the same origin, dropped for good on the way to another port, all copies of them."""

    async def other(exchange: Exchange) -> None:
        await exchange.answer("302 Found", {"Location": first.url("/back")})

    async def script(exchange: Exchange) -> None:
        if exchange.target == "/start":
            await exchange.answer("302 Found", {"Location": "/same"})
        elif exchange.target == "/same":
            await exchange.answer("302 Found", {"Location": second.url("/x")})
        else:
            await exchange.answer("200 OK", {}, b"ok")

    async with raw_origin(script) as first, raw_origin(other) as second, fetching() as fetcher:
        await fetcher.fetch(source(first.url("/start"), headers=SECRETS), Bin())
    told = [sum("s3cr3t" in value for _, value in exchange.headers) for exchange in first.exchanges + second.exchanges]
    assert told == [4, 4, 0, 0]


async def test_userinfo_is_basic_auth_for_its_origin() -> None:
    """It is never sent as part of the target nor to another port."""

    async def script(exchange: Exchange) -> None:
        if exchange.target == "/start":
            await exchange.answer("302 Found", {"Location": "/same"})
        else:
            await exchange.answer("302 Found", {"Location": second.url("/x")})

    ending = raw_origin(lambda e: e.answer("200 OK", {}, b"ok"))
    async with raw_origin(script) as first, ending as second, fetching() as fetcher:
        await fetcher.fetch(source(first.url("/start").replace("//", "//u:p%40ss@")), Bin())
    assert [exchange.header("Authorization") for exchange in first.exchanges] == ["Basic dTpwQHNz"] * 2
    assert second.exchanges[0].header("Authorization") is None


@pytest.mark.parametrize(
    "header", [("Host", "x"), ("Range", "bytes=0-1"), ("A b", "c"), ("A", "b\r\nC: d"), ("A", "\udce9")]
)
async def test_headers_that_cannot_be_sent(header: tuple[str, str]) -> None:
    """They fail by name before anything is asked; the value is not repeated."""
    async with raw_origin(lambda e: e.answer("200 OK", {}, b"ok")) as origin, fetching() as fetcher:
        with pytest.raises(SourceError) as caught:
            await fetcher.fetch(source(origin.url(), headers=(header,)), Bin())
    assert (caught.value.code, origin.connections) == ("bad_header", 0)


async def test_identity_is_asked_for_whatever_the_caller_pastes() -> None:
    """Accept-Encoding and Connection are ours."""
    async with raw_origin(lambda e: e.answer("200 OK", {}, b"ok")) as origin, fetching() as fetcher:
        pasted = (("accept-encoding", "gzip, br"), ("Connection", "close"), ("User-Agent", "Mozilla"))
        await fetcher.fetch(source(origin.url(), headers=pasted), Bin())
    sent = [(name.lower(), value) for name, value in origin.exchanges[0].headers]
    assert ("accept-encoding", "identity") in sent
    assert ("user-agent", "Mozilla") in sent
    assert len([name for name, _ in sent if name in ("accept-encoding", "user-agent")]) == 2


async def test_no_secret_comes_out_in_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Userinfo, query and headers are in no message, no chain and no log line, however the fetch fails."""

    async def script(exchange: Exchange) -> None:
        if exchange.target.startswith("/403"):
            await exchange.answer("403 Forbidden", {})
        elif exchange.target.startswith("/garbage"):
            await exchange.send(b"SIGSIG nonsense\r\n\r\n")
            exchange.hang_up()
        elif exchange.target.startswith("/loop"):
            await exchange.answer("302 Found", {"Location": "/loop?X-Amz-Signature=SIGSIG"})
        else:
            await asyncio.sleep(1)

    async with raw_origin(script) as origin, fetching(idle_timeout_s=0.2, attempts=2) as fetcher:
        for path in ("/403", "/garbage", "/loop", "/silent"):
            url = origin.url(path + "?X-Amz-Signature=SIGSIG#s3cr3t").replace("//", "//u:s3cr3t@")
            with pytest.raises(SourceError) as caught:
                await fetcher.fetch(source(url, headers=(("X-Key", "s3cr3t"),)), Bin())
            shown = f"{caught.value!r} {caught.value.message} {caught.value.__cause__!r} {caught.value.__context__!r}"
            assert "s3cr3t" not in shown
            assert "SIGSIG" not in shown
    printed = capsys.readouterr()
    assert "s3cr3t" not in printed.out + printed.err
    assert "SIGSIG" not in printed.out + printed.err


# Codings


CSV = b"a,b,c\n" * 10_000
TAR = gzip.compress(CSV)


def raw_deflate(data: bytes) -> bytes:
    """Deflate without zlib's wrapping."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


CODED = {
    "csv, gzip": ("/x.csv", {"Content-Encoding": "gzip"}, TAR, CSV),
    "csv, x-gzip": ("/x.csv", {"Content-Encoding": "x-gzip"}, TAR, CSV),
    "csv, two members": ("/x.csv", {"Content-Encoding": "gzip"}, TAR + TAR, CSV + CSV),
    "csv, padding after": ("/x.csv", {"Content-Encoding": "gzip"}, TAR + bytes(5000), CSV),
    "csv, deflate": ("/x.csv", {"Content-Encoding": "deflate"}, zlib.compress(CSV), CSV),
    "csv, raw deflate": ("/x.csv", {"Content-Encoding": "deflate"}, raw_deflate(CSV), CSV),
    "csv, a charset": ("/x.csv", {"Content-Encoding": "utf-8"}, CSV, CSV),
    "csv, nothing in it": ("/x.csv", {"Content-Encoding": "gzip"}, b"", b""),
    "tar.gz, coding is the file": (
        "/x.tar.gz",
        {"Content-Encoding": "gzip", "Content-Type": "application/x-tar"},
        TAR,
        TAR,
    ),
    "tar.gz, no coding": ("/x.tar.gz", {}, TAR, TAR),
    "tgz, any type": ("/x.tgz?a=b", {"Content-Encoding": "gzip", "Content-Type": "text/csv"}, TAR, TAR),
    "no name, gzip type": ("/x", {"Content-Encoding": "gzip", "Content-Type": "application/gzip"}, TAR, TAR),
    "tar.gz, coded once more": ("/x.tar.gz", {"Content-Encoding": "gzip"}, gzip.compress(TAR), TAR),
    "disposition, gz": (
        "/x",
        {"Content-Encoding": "gzip", "Content-Disposition": "attachment; filename=a.gz"},
        TAR,
        TAR,
    ),
}


@pytest.mark.parametrize("has_length", [True, False])
@pytest.mark.parametrize("how", CODED)
async def test_coded_answers_are_decoded_once_unless_they_are_the_file(how: str, has_length: bool) -> None:
    """x.csv holds csv, x.tar.gz still is a gzip file."""
    path, headers, wire, wanted = CODED[how]

    async def script(exchange: Exchange) -> None:
        if has_length:
            await exchange.answer("200 OK", headers, wire)
        else:
            chunks = (
                b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (wire[:7], wire[7:]) if part) + b"0\r\n\r\n"
            )
            await exchange.answer("200 OK", headers | {"Content-Length": "", "Transfer-Encoding": "chunked"}, chunks)

    sink, origin = await get(script, path)
    assert sink.data == wanted
    assert origin.exchanges[0].header("Accept-Encoding") == "identity"
    assert len(origin.exchanges) == 1


@pytest.mark.parametrize(
    ("headers", "body", "code"),
    [
        ({"Content-Encoding": "br"}, b"abc", "bad_encoding"),
        ({"Content-Encoding": "gzip, gzip"}, TAR, "bad_encoding"),
        ({"Content-Encoding": "gzip"}, b"this is no gzip", "bad_encoding"),
        ({"Content-Encoding": "gzip"}, TAR[:-20], "truncated"),
    ],
)
async def test_codings_that_cannot_be_undone(headers: dict[str, str], body: bytes, code: str) -> None:
    """They fail by name."""
    assert await code_of(lambda e: e.answer("200 OK", headers, body), "/x.csv") == code


async def test_bomb_comes_in_small_pieces_and_stops_with_the_sink() -> None:
    """A megabyte that would become a gigabyte: the sink says no long before."""
    bomb = gzip.compress(bytes(64 * 1024 * 1024))

    class Small(Bin):
        async def write(self, chunk: bytes | memoryview) -> None:
            assert len(chunk) <= 256 * 1024
            self.position += len(chunk)
            if self.position > 1_000_000:
                raise SourceError("too_large", "no", transient=True)

    sink = Small()
    assert (
        await code_of(lambda e: e.answer("200 OK", {"Content-Encoding": "gzip"}, bomb), "/x.csv", sink=sink)
        == "too_large"
    )
    assert sink.position < 1_300_000


@pytest.mark.parametrize("wbits", [31, 15, -15])
def test_last_piece_may_be_a_full_one(wbits: int) -> None:
    """The decoder may have taken all input while output is still to come: raw deflate has nothing behind its data."""
    for size in range(coding.PIECE_BYTES, coding.PIECE_BYTES + 60):
        packer = zlib.compressobj(9, wbits=wbits)
        packed = packer.compress(bytes(size)) + packer.flush()
        decoder = coding.Decoder("gzip" if wbits == 31 else "deflate")
        assert (sum(map(len, decoder.pieces(packed))), decoder.is_complete) == (size, True)


async def test_no_padding_after_gzip_costs_memory_or_time() -> None:
    """What follows the last member is dropped, however much it is."""
    body = gzip.compress(b"small") + b"x" * 5_000_000
    sink, _ = await get(lambda e: e.answer("200 OK", {"Content-Encoding": "gzip"}, body), "/x.csv")
    assert sink.data == b"small"


# The sink


async def test_what_the_sink_refuses_is_final() -> None:
    """A SourceError of the sink comes out as it is and nothing is asked again."""

    class Refusing(Bin):
        async def opened(self, offer: object) -> None:
            raise SourceChangedError

    async with raw_origin(lambda e: e.answer("200 OK", {}, BODY)) as origin, fetching() as fetcher:
        with pytest.raises(SourceChangedError):
            await fetcher.fetch(source(origin.url()), Refusing())
    assert len(origin.exchanges) == 1


@pytest.mark.slow
async def test_source_that_we_held_up_loses_no_attempt() -> None:
    """A source that gives up while the sink lets it wait is asked again free of charge."""

    class Slow(Bin):
        async def write(self, chunk: bytes | memoryview) -> None:
            await super().write(chunk)
            if not self.restarts:
                await asyncio.sleep(2.1)

    async def script(exchange: Exchange) -> None:
        if exchange.number == 1:
            await exchange.answer("200 OK", {"Content-Length": str(len(BODY))}, BODY[:1000])
            exchange.hang_up()
        else:
            await exchange.answer("200 OK", {}, BODY)

    sink, _ = await get(script, sink=Slow(), attempts=1)
    assert sink.data == BODY


@pytest.mark.slow
async def test_steady_back_pressure_is_no_excuse_for_a_broken_source() -> None:
    """A source that always breaks off is given up after its attempts, however slowly the sink takes its bytes."""
    body = b"x" * 44_000

    async def script(exchange: Exchange) -> None:
        await exchange.answer("200 OK", {"Content-Length": str(len(body) + 1)}, b"")
        for start in range(0, len(body), 1000):
            await exchange.send(body[start : start + 1000])
            await asyncio.sleep(0.05)
        exchange.hang_up()

    sink = Bin(wait_s=0.05)
    with pytest.raises(SourceError) as failed:
        await get(script, sink=sink, attempts=1)
    assert failed.value.code == "truncated"
    assert sink.restarts == 0


async def test_waiting_for_the_sink_is_not_the_sources_silence() -> None:
    """The sink may pause for longer than the idle limit while the source is ready."""

    class Pausing(Bin):
        async def opened(self, offer: object) -> None:
            await asyncio.sleep(0.6)

    sink, origin = await get(lambda e: e.answer("200 OK", {}, BODY), sink=Pausing(wait_s=0.3), idle_timeout_s=0.2)
    assert sink.data == BODY
    assert len(origin.exchanges) == 1


async def test_cancelling_closes_the_connection() -> None:
    """A cancelled fetch leaves no socket open at the source."""
    gone = asyncio.Event()
    begun = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        try:
            await exchange.answer("200 OK", {"Content-Length": "9999999999"})
            while True:
                await exchange.send(bytes(1000))
                begun.set()
                await asyncio.sleep(0.01)
        finally:
            gone.set()

    async with raw_origin(script) as origin, fetching() as fetcher:
        task = asyncio.create_task(fetcher.fetch(source(origin.url()), Bin()))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(2):
            await gone.wait()


# Time and connections


async def test_steady_source_is_not_cut() -> None:
    """A source that keeps sending may take many times the idle limit."""
    async with files_origin() as base, fetching(idle_timeout_s=0.3) as fetcher:
        sink = Bin()
        await fetcher.fetch(source(base + "/slow/10000?delay=0.1&pieces=10"), sink)
    assert sink.data == content("/slow/10000", 10_000)


@pytest.mark.parametrize("where", ["answer", "head", "body"])
async def test_silent_source_times_out(where: str) -> None:
    """Before the answer, within its head, within its body."""

    async def script(exchange: Exchange) -> None:
        if where == "head":
            for _ in range(20):
                await exchange.send(b"HTTP/1.1 200 OK\r\n" if _ == 0 else b"X: y\r\n")
                await asyncio.sleep(0.1)
        if where == "body":
            await exchange.answer("200 OK", {"Content-Length": "100"}, b"abc")
        await asyncio.sleep(3)

    loop = asyncio.get_running_loop()
    since = loop.time()
    assert await code_of(script, idle_timeout_s=0.3, attempts=2) == "timeout"
    assert loop.time() - since < 2


async def test_dribbling_source_is_too_slow() -> None:
    """Bytes that come one by one keep no connection for ever."""

    async def script(exchange: Exchange) -> None:
        await exchange.answer("200 OK", {"Content-Length": "100000"})
        while True:
            await exchange.send(b"x")
            await asyncio.sleep(0.02)

    assert await code_of(script, idle_timeout_s=0.3, attempts=1, min_bytes_per_s=1000) == "too_slow"


@pytest.mark.parametrize("delay_s", [0.0, 0.02])
async def test_stale_connections_cost_no_attempt(delay_s: float) -> None:
    """A server that says keep-alive and closes after each answer, at once or a little later."""
    closing: list[asyncio.Task[None]] = []

    async def script(exchange: Exchange) -> None:
        await exchange.answer("200 OK", {"Connection": "keep-alive"}, b"ok")

        async def close() -> None:
            await asyncio.sleep(delay_s)
            exchange.hang_up()

        closing.append(asyncio.create_task(close()))
        if not delay_s:
            await closing[-1]

    async with raw_origin(script) as origin, fetching(attempts=1) as fetcher:
        for number in range(60):
            sink = Bin()
            await fetcher.fetch(source(origin.url()), sink)
            assert sink.data == b"ok"
            await asyncio.sleep(number % 4 * 0.01)


async def test_many_stale_connections_at_once() -> None:
    """A whole pool that died while idle costs no attempt either."""

    async def script(exchange: Exchange) -> None:
        if exchange.target == "/warm":
            await asyncio.sleep(0.1)
            await exchange.answer("200 OK", {}, b"ok")
        elif exchange.number <= 16:
            exchange.reset()
        else:
            await exchange.answer("200 OK", {}, b"ok")

    async with raw_origin(script) as origin, fetching(attempts=1) as fetcher:
        await asyncio.gather(*(fetcher.fetch(source(origin.url("/warm")), Bin()) for _ in range(8)))
        await asyncio.gather(*(fetcher.fetch(source(origin.url("/x")), Bin()) for _ in range(4)))


async def test_file_that_waits_for_us_keeps_nobody_out() -> None:
    """The only place at the host goes to the file that the waiting one waits for."""
    begun, arrived = asyncio.Event(), asyncio.Event()

    class Waiting(Bin):
        async def write(self, chunk: bytes | memoryview) -> None:
            begun.set()
            await arrived.wait()
            await super().write(chunk)

    waiting, wanted = Waiting(), Bin()
    async with files_origin() as base, fetching(per_host=1) as fetcher, asyncio.timeout(20):
        first = asyncio.create_task(fetcher.fetch(source(base + "/file/100000"), waiting))
        await begun.wait()
        await fetcher.fetch(source(base + "/file/200000"), wanted)
        arrived.set()
        await first
    assert (len(waiting.data), len(wanted.data)) == (100_000, 200_000)


async def test_hosts_are_not_flooded() -> None:
    """No more connections to one host than per_host, over all fetches."""
    open_now = most = 0

    async def script(exchange: Exchange) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0.02)
        open_now -= 1
        await exchange.answer("200 OK", {}, b"ok")

    async with raw_origin(script) as origin, fetching(per_host=3) as fetcher:
        await asyncio.gather(*(fetcher.fetch(source(origin.url()), Bin()) for _ in range(20)))
        assert most == 3
        assert origin.connections <= 4


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Csp: " + b"x" * 9000 + b"\r\n\r\nok", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + b"X-A: b\r\n" * 200 + b"\r\nok", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Csp: " + b"x" * 40000 + b"\r\n\r\nok", "header_too_large"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + b"X-A: b\r\n" * 2000 + b"\r\nok", "header_too_large"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "protocol_error"),
        (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x80\x00\x04", "protocol_error"),
        (b"", "protocol_error"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", "protocol_error"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok", "protocol_error"),
    ],
)
async def test_heads_that_are_large_or_no_http(answer: bytes, code: str | None) -> None:
    """Up to 32 KiB a field works; what is beyond or no HTTP fails by name, never as a status of the source."""

    async def script(exchange: Exchange) -> None:
        await exchange.send(answer)
        await asyncio.sleep(0.05)
        exchange.hang_up()

    if code is None:
        sink, _ = await get(script)
        assert sink.data == b"ok"
    else:
        assert await code_of(script) == code


@pytest.mark.parametrize("line", [b"X-A: a\x01b", b"X-XSS-Protection=1;", b"X A: b", b"X-Latin: caf\xe9"])
async def test_dirty_headers_work_or_fail_by_name(line: bytes) -> None:
    """Either way no other exception comes out."""

    async def script(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + line + b"\r\n\r\nok")
        await asyncio.sleep(0.05)
        exchange.hang_up()

    try:
        sink, _ = await get(script)
    except SourceError as fault:
        assert fault.code == "protocol_error"
    else:
        assert sink.data == b"ok"


async def test_dead_ipv6_costs_little() -> None:
    """A name with a closed IPv6 address and a live IPv4 one works within two seconds."""
    async with raw_origin(lambda e: e.answer("200 OK", {}, b"ok")) as origin:

        def lookup(host: str, port: int) -> list[tuple[Any, ...]]:
            return [
                (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
            ]

        async with fetching(outside=Surroundings(lookup=lookup, tls=TLS)) as fetcher, asyncio.timeout(2):
            await fetcher.fetch(source(f"http://dual.test:{origin.port}/"), Bin())


async def test_refused_connection() -> None:
    """Nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    async with fetching() as fetcher:
        with pytest.raises(SourceError) as caught:
            await fetcher.fetch(source(f"http://127.0.0.1:{port}/"), Bin())
    assert caught.value.code == "connect_failed"


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA with an intermediate, and leaves with their faults, made by openssl."""
    folder = tmp_path_factory.mktemp("tls")

    def run(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    def issue(name: str, issuer: str, extensions: str, *more: str) -> None:
        (folder / f"{name}.ext").write_text(extensions)
        run(
            "req",
            "-new",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.csr",
            "-subj",
            f"/CN={name}",
        )
        signing = (
            ("-signkey", f"{name}.key")
            if issuer == name
            else ("-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key", "-CAcreateserial")
        )
        run(
            "x509",
            "-req",
            "-in",
            f"{name}.csr",
            *signing,
            "-extfile",
            f"{name}.ext",
            "-out",
            f"{name}.pem",
            *(more or ("-days", "2")),
        )

    issuing = "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\n"
    issue("root", "root", issuing)
    issue("middle", "root", issuing)
    issue("good", "middle", "subjectAltName=IP:127.0.0.1\n")
    issue("other", "middle", "subjectAltName=DNS:elsewhere.test\n")
    issue("self", "self", "subjectAltName=IP:127.0.0.1\n")
    issue("expired", "middle", "subjectAltName=IP:127.0.0.1\n", "-days", "-1")
    for name in ("good", "other", "expired"):
        (folder / f"{name}-chain.pem").write_text(
            (folder / f"{name}.pem").read_text() + (folder / "middle.pem").read_text()
        )
    return folder


@pytest.mark.parametrize(
    ("chain", "key", "reason"),
    [
        ("good-chain.pem", "good.key", None),
        ("good.pem", "good.key", "incomplete"),
        ("other-chain.pem", "other.key", "for another"),
        ("self.pem", "self.key", "self-signed"),
        ("expired-chain.pem", "expired.key", "expired"),
    ],
)
async def test_certificates(authority: Path, chain: str, key: str, reason: str | None) -> None:
    """A full chain works; what is wrong with the others is named, and nothing is sent to them."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(authority / chain, authority / key)
    outside = Surroundings(tls=ssl.create_default_context(cafile=authority / "root.pem"), sleep=Clock().sleep)
    async with (
        raw_origin(lambda e: e.answer("200 OK", {}, b"ok"), ssl=serving) as origin,
        fetching(outside=outside) as fetcher,
    ):
        sink = Bin()
        if reason is None:
            await fetcher.fetch(source(origin.url()), sink)
            assert sink.data == b"ok"
            return
        with pytest.raises(SourceError) as caught:
            await fetcher.fetch(source(origin.url()), sink)
        assert caught.value.code == "tls_verify"
        assert reason in caught.value.message
        assert not origin.exchanges


async def test_no_tls_at_all() -> None:
    """Https to a port that speaks plain HTTP."""

    async def script(exchange: Exchange) -> None:
        await exchange.answer("400 Bad Request", {})

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server, fetching() as fetcher:
        with pytest.raises(SourceError) as caught:
            await fetcher.fetch(source(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"), Bin())
    assert caught.value.code == "tls_verify"
    assert "does not speak TLS" in caught.value.message
