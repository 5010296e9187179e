"""B: bodies that are short, endless, coded or changed on the way."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from typing import Any

from tests.field.answers import (
    BODY,
    ETAG,
    answer,
    chunked,
    cut,
    in_turn,
    verbatim,
)
from tests.field.bench import MIB, Bench
from tests.field.case import WHOLE, Case, Given, Seen, Story, with_requests
from tests.field.host import HOST
from tests.origins import Exchange, Script, content, raw_origin
from tests.servers import resident_bytes

SIZE = len(BODY)


CUT_AT = 80_000


LARGE = content("large", 6 * MIB)


def _short() -> tuple[Given, ...]:
    reset = Exchange.reset
    return (
        Given("20000 announced, 12000 sent, FIN", cut(12_000, body=BODY[:20_000]), "truncated"),
        Given("headers only, FIN", cut(0), "truncated"),
        Given("headers only, RST", cut(0, end=reset), "truncated"),
        Given("some bytes, RST", cut(12_000, end=reset), "truncated"),
        Given("one byte missing", cut(SIZE - 1), "truncated"),
        Given("one of one byte missing", cut(0, body=b"x"), "truncated"),
        Given("short first, whole then", in_turn(cut(12_000), answer())),
        Given(
            "short twice, whole then",
            in_turn(cut(1), cut(CUT_AT), answer()),
            f"{WHOLE}, 3 requests",
            look=with_requests,
        ),
        Given("reset first, whole then", in_turn(cut(12_000, end=reset), answer())),
        Given("closed before the answer, whole then", in_turn(verbatim(b""), answer())),
        Given("short always: tried within bounds", cut(5), "truncated, 3 requests", look=with_requests),
        Given("cut within the head", verbatim(b"HTTP/1.1 200 OK\r\nContent-Le"), "protocol_error | truncated"),
    )


def _ends() -> tuple[Given | Story, ...]:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    old = b"HTTP/1.0 200 OK\r\n\r\n" + BODY
    return (
        Given("one full chunk, no end", chunked(BODY, end=b""), "truncated"),
        Given("a chunk that promises more", verbatim(head + b"ffff\r\nonly this"), "truncated"),
        Given("cut within a chunk's size", verbatim(head + b"5\r\nhello\r\nff"), "truncated | protocol_error"),
        Given("'0' and then the end", chunked(BODY, end=b"0\r\n"), "truncated"),
        Given("cut within the trailer", chunked(BODY, end=b"0\r\nX-Sum: a"), "truncated"),
        Given("no chunk at all", chunked(end=b""), "truncated"),
        Given("many chunks and the end", chunked(*(BODY[at : at + 1000] for at in range(0, SIZE, 1000)))),
        Given("chunks of one byte", chunked(*(bytes([byte]) for byte in BODY[:3000])), body=BODY[:3000]),
        Given("chunk extensions and a trailer", chunked(BODY, end=b"0;a=b\r\nX-Sum: a\r\n\r\n")),
        Given("no end first, whole then", in_turn(chunked(BODY[:5000], end=b""), answer())),
        Given("HTTP/1.0 without a length", verbatim(old)),
        Given("HTTP/1.1 without a length", verbatim(b"HTTP/1.1 200 OK\r\n\r\n" + BODY)),
        Given(
            "half of it without a length, RST", _reset_later(b"HTTP/1.1 200 OK\r\n\r\n" + BODY[:100_000]), "truncated"
        ),
        Given("nothing at all, without a length", verbatim(b"HTTP/1.1 200 OK\r\n\r\n"), body=b""),
        Given("it is told that this length was not verified", verbatim(old), "whole, verified: False", look=_verified),
        Given("and that this one was", answer(), "whole, verified: True", look=_verified),
        Given("a chunked one too", chunked(BODY), "whole, verified: True", look=_verified),
        Given("one that was resumed", in_turn(cut(9, ETAG), answer(ETAG)), "whole, verified: True", look=_verified),
        Given(
            "one whose chunks failed and that then ended by closing",
            in_turn(chunked(BODY[:9], end=b""), verbatim(old)),
            "whole, verified: False",
            look=_verified,
        ),
        Story("events and manifest tell it too", "False, True and False, True", _told_everywhere),
    )


def _reset_later(data: bytes) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.send(data)
        await asyncio.sleep(0.05)
        exchange.reset()

    return script


def _verified(seen: Seen) -> str:
    return f"{seen.outcome}, verified: {seen.file['lengthVerified']}"


async def _told_everywhere(bench: Bench) -> str:
    """Of a file that ends by closing and one with a length: what the events and the manifest say."""
    bare = verbatim(b"HTTP/1.0 200 OK\r\n\r\n" + BODY)
    async with raw_origin(bare, HOST) as origin, raw_origin(answer(), HOST) as usual:
        done = await bench.job([origin.url("/a.bin"), usual.url("/b.bin")], options={"manifest": True})
    assert done.zip is not None
    changes = [each for frame in done.frames if frame.event == "files" for each in _files_of(frame.data)]
    shown = {each["index"]: each["lengthVerified"] for each in changes if each["status"] == "done"}
    listed = [each["lengthVerified"] for each in json.loads(done.zip.read("manifest.json"))["files"]]
    return f"{shown.get(0)}, {shown.get(1)} and {listed[0]}, {listed[1]}"


def _files_of(data: Any) -> list[dict[str, Any]]:
    return list(data["files"] if isinstance(data, dict) else data)


CSV = b"a,b,c\n" * 10_000


TAR = gzip.compress(CSV)


def _raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def _coded(path: str, headers: dict[str, str], wire: bytes, wanted: bytes, what: str) -> tuple[Given, Given]:
    """With and without an announced length."""
    lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items()).encode()
    return (
        Given(f"{what}, with a length", answer(headers, wire), path=path, body=wanted, look=_asked_for_identity),
        Given(f"{what}, chunked", chunked(*([wire] if wire else []), headers=lines), path=path, body=wanted),
    )


def _asked_for_identity(seen: Seen) -> str:
    asked = seen.origin.exchanges[0].header("Accept-Encoding")
    return seen.outcome if asked == "identity" else f"asked for {asked}"


def _codings() -> tuple[Given, ...]:
    coded = {"Content-Encoding": "gzip"}
    return (
        *_coded("/x.csv", coded, TAR, CSV, "csv coded though identity was asked for"),
        *_coded("/x.tar.gz", coded | {"Content-Type": "application/x-tar"}, TAR, TAR, "tar.gz called coded, x-tar"),
        *_coded("/x.tar.gz", {}, TAR, TAR, "tar.gz without coding"),
        *_coded("/x.tgz", coded | {"Content-Type": "application/gzip"}, TAR, TAR, "tgz called coded, gzip"),
        *_coded("/x.csv", {"Content-Encoding": "x-gzip"}, TAR, CSV, "x-gzip"),
        *_coded("/x.csv", {"Content-Encoding": "GZIP"}, TAR, CSV, "GZIP"),
        *_coded("/x.csv", {"Content-Encoding": "identity"}, CSV, CSV, "identity"),
        *_coded("/x.csv", {"Content-Encoding": "deflate"}, zlib.compress(CSV), CSV, "deflate"),
        *_coded("/x.csv", {"Content-Encoding": "deflate"}, _raw_deflate(CSV), CSV, "raw deflate"),
        *_coded("/x.csv", coded, TAR + TAR, CSV + CSV, "two members"),
        *_coded("/empty.csv", coded, b"", b"", "an empty body called gzip"),
        *_coded("/empty.csv", coded, gzip.compress(b""), b"", "gzip of nothing"),
        Given("coded, cut", answer(coded, TAR[:-20]), "truncated", "/x.csv"),
        Given(
            "coded, broken within",
            answer(coded, TAR[:50] + b"\xff" * 20 + TAR[70:]),
            "bad_encoding | truncated",
            "/x.csv",
        ),
        Given("not gzip at all", answer(coded, b"plain"), "bad_encoding", "/x.csv"),
        Given("br, unasked", answer({"Content-Encoding": "br"}, b"abc"), "bad_encoding", "/x.csv"),
        Given("two layers", answer({"Content-Encoding": "gzip, gzip"}, gzip.compress(TAR)), "bad_encoding", "/x.csv"),
        Given("a word that is no coding", answer({"Content-Encoding": "foo"}), "bad_encoding", "/x.csv"),
        Given(
            "coded and cut first, whole then", in_turn(cut(99, coded, TAR), answer(coded, TAR)), path="/x.csv", body=CSV
        ),
    )


def _deflated_bomb() -> bytes:
    """192 MiB of zeros as one deflate stream: a block that stands alone, again and again."""
    packer = zlib.compressobj(wbits=-15)
    block = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x78\x01" + block * 192


BOMB = gzip.compress(bytes(MIB)) * 192  # members of one file, as `cat` makes them


DEFLATE_BOMB = _deflated_bomb()


def _bombs() -> tuple[Given | Story, ...]:
    coded = {"Content-Encoding": "gzip"}
    lines = b"Content-Encoding: gzip\r\n"
    return (
        Given("190 KB of gzip that are 192 MiB", answer(coded, BOMB), "too_large", "/x.csv"),
        Given("the same, chunked", chunked(BOMB, headers=lines), "too_large", "/x.csv"),
        Given("the same as deflate", answer({"Content-Encoding": "deflate"}, DEFLATE_BOMB), "too_large", "/x.csv"),
        Given("a .gz that is the file stays packed", answer(coded, BOMB), path="/x.gz", body=BOMB),
        Given("1 TB announced", answer({"Content-Length": str(10**12)}, b"x"), "too_large"),
        Given("one byte more than allowed announced", answer({"Content-Length": str(64 * MIB + 1)}, b"x"), "too_large"),
        Given("a length of 30 digits", answer({"Content-Length": "9" * 30}, b"x"), "too_large | protocol_error"),
        Given("65 MiB without a length", _endless, "too_large"),
        Story("memory while bombs are refused", "below 64 MiB", _memory_of_bombs, alone=True, tries=2),
    )


async def _endless(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        await exchange.send(bytes(MIB))


async def _memory_of_bombs(bench: Bench) -> str:
    service = await bench.service()
    async with raw_origin(answer({"Content-Encoding": "gzip"}, BOMB), HOST) as origin:
        await bench.job([origin.url("/warm.csv")])
        before = resident_bytes(service.process.pid)
        job = asyncio.create_task(bench.job([origin.url(f"/{number}.csv") for number in range(8)]))
        most = before
        while not job.done():
            most = max(most, resident_bytes(service.process.pid))
            await asyncio.sleep(0.02)
        codes = set((await job).codes().split(", "))
    if codes != {"too_large"}:
        return str(codes)
    grown = (most - before) // MIB
    return "below 64 MiB" if grown < 64 else f"{grown} MiB"


def _deaths() -> tuple[Given, ...]:
    """The first attempt dies after so many bytes; the second sends all, knowing no ranges."""
    small = tuple(
        Given(
            f"200 KB, {'ETag' if headers else 'no validator'}, dies at {after}",
            in_turn(cut(after, headers), answer(headers)),
        )
        for after in (0, 1, 64 * 1024, SIZE - 1)
        for headers in ({}, ETAG)
    )
    large = tuple(
        Given(f"6 MiB, dies at {after}", in_turn(cut(after, ETAG, LARGE), answer(ETAG, LARGE)), body=LARGE)
        for after in (1, 64 * 1024, 5 * MIB + 1, len(LARGE) - 1)
    )
    thrice = Given(
        "dies later each time", in_turn(cut(1000), cut(2000), answer()), f"{WHOLE}, 3 requests", look=with_requests
    )
    open_end = Given("chunked, dies, then whole", in_turn(chunked(BODY[:CUT_AT], end=b""), chunked(BODY)))
    return (*small, *large, thrice, open_end)


CASES: tuple[Case, ...] = (
    Case("B01", "the body is shorter than announced", _short()),
    Case("B03", "chunked without an end; no length at all", _ends()),
    Case("B05", "coded answers; .gz that is the file", _codings()),
    Case("B08", "decompression bombs and endless files", _bombs()),
    Case("B32", "an attempt dies in the middle", _deaths()),
)
