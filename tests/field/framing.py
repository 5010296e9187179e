"""B: further answers of the same kinds as the collection's: lengths, chunks, codings and heads."""

from __future__ import annotations

import asyncio
import gzip
import struct
import zlib

from tests.field.answers import BODY, ETAG, answer, by_path, chunked, in_turn, part, verbatim
from tests.field.bench import Bench
from tests.field.bodies import CSV, CUT_AT, SIZE, TAR
from tests.field.case import WHOLE, Case, Given, Story, with_requests
from tests.field.host import HOST
from tests.origins import Exchange, Script, raw_origin

HELLO = b"hello"
OK = b"HTTP/1.1 200 OK\r\n"
GARBLED = "protocol_error"
EITHER = f"{WHOLE} | {GARBLED}"


def _raw(what: str, head: bytes, sent: bytes, expected: str = WHOLE, body: bytes = HELLO) -> Given:
    """These header lines and this body, then the end of the connection."""
    return Given(what, verbatim(OK + head + b"\r\n" + sent), expected, body=body)


def _lengths() -> tuple[Given, ...]:
    return (
        _raw("the same length twice", b"Content-Length: 5\r\nContent-Length: 5\r\n", HELLO, EITHER),
        _raw("5, 5", b"Content-Length: 5, 5\r\n", HELLO, EITHER),
        _raw("5, 6", b"Content-Length: 5, 6\r\n", b"hello!", GARBLED),
        _raw("+5", b"Content-Length: +5\r\n", HELLO, GARBLED),
        _raw("5_0", b"Content-Length: 5_0\r\n", HELLO * 10, GARBLED, HELLO * 10),
        _raw("0x5", b"Content-Length: 0x5\r\n", HELLO, GARBLED),
        _raw("5.0", b"Content-Length: 5.0\r\n", HELLO, GARBLED),
        _raw("5 bytes", b"Content-Length: 5 bytes\r\n", HELLO, GARBLED),
        _raw("Arabic digits", "Content-Length: ٥\r\n".encode(), HELLO, GARBLED),
        _raw("leading zeros", b"Content-Length: 0000000005\r\n", HELLO, EITHER),
        _raw("blanks around", b"Content-Length: \t 5 \t\r\n", HELLO, EITHER),
        _raw("nothing", b"Content-Length:\r\n", HELLO, f"{EITHER} | truncated"),
        _raw("beyond 64 bits", b"Content-Length: 18446744073709551621\r\n", HELLO, f"{GARBLED} | too_large"),
        _raw("longer than announced", b"Content-Length: 5\r\n", b"hello and more", EITHER),
    )


def _both() -> tuple[Given, ...]:
    chunks = b"5\r\nhello\r\n0\r\n\r\n"
    coded = gzip.compress(CSV)
    packed = b"%x\r\n%s\r\n0\r\n\r\n" % (len(coded), coded)
    unpacked = f"{EITHER} | bad_encoding"
    return (
        _raw("chunked, a length before", b"Content-Length: 15\r\nTransfer-Encoding: chunked\r\n", chunks, EITHER),
        _raw("chunked, a length behind", b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", chunks, EITHER),
        _raw("chunked, a false length", b"Transfer-Encoding: chunked\r\nContent-Length: 9\r\n", chunks, EITHER),
        _raw("CHUNKED", b"Transfer-Encoding: CHUNKED\r\n", chunks),
        _raw("chunked with blanks", b"Transfer-Encoding: \t chunked \r\n", chunks, EITHER),
        _raw("chunked twice", b"Transfer-Encoding: chunked, chunked\r\n", chunks, f"{EITHER} | bad_encoding"),
        _raw(
            "two lines chunked",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            chunks,
            f"{EITHER} | bad_encoding",
        ),
        _raw("xchunked", b"Transfer-Encoding: xchunked\r\n", chunks, f"{GARBLED} | bad_encoding"),
        _raw("chunked, identity", b"Transfer-Encoding: chunked, identity\r\n", chunks, f"{EITHER} | bad_encoding"),
        _raw("identity and a length", b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n", HELLO, EITHER),
        _raw("gzip, chunked", b"Transfer-Encoding: gzip, chunked\r\n", packed, unpacked, CSV),
        _raw("gzip alone", b"Transfer-Encoding: gzip\r\n", coded, unpacked, CSV),
        _raw(
            "gzip and chunked in two lines",
            b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
            packed,
            unpacked,
            CSV,
        ),
        Given(
            "HTTP/1.0 and chunked",
            verbatim(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks),
            EITHER,
            body=HELLO,
        ),
        Given(
            "chunked, coded and the end missing",
            chunked(coded, end=b"", headers=b"Content-Encoding: gzip\r\n"),
            "truncated",
            "/x.csv",
            CSV,
        ),
    )


def _chunk(what: str, sent: bytes, expected: str = WHOLE) -> Given:
    return _raw(what, b"Transfer-Encoding: chunked\r\n", sent, expected)


def _chunks() -> tuple[Given, ...]:
    end = b"0\r\n\r\n"
    broken = f"{GARBLED} | truncated"
    return (
        _chunk("sizes with leading zeros", b"0000005\r\nhello\r\n000\r\n\r\n"),
        _chunk("a blank after the size", b"5 \r\nhello\r\n" + end, EITHER),
        _chunk("an extension in quotes", b'5;a="b;c"\r\nhello\r\n' + end),
        _chunk("an extension without a value", b"5;a\r\nhello\r\n0;z\r\n\r\n"),
        _chunk(
            "an extension of 100 KB", b"5;a=" + b"x" * 100_000 + b"\r\nhello\r\n" + end, f"{EITHER} | header_too_large"
        ),
        _chunk("a size with 0x", b"0x5\r\nhello\r\n" + end, broken),
        _chunk("a size with +", b"+5\r\nhello\r\n" + end, broken),
        _chunk("a negative size", b"-5\r\nhello\r\n" + end, broken),
        _chunk("a size with _", b"0_5\r\nhello\r\n" + end, broken),
        _chunk("an empty size", b"\r\nhello\r\n" + end, broken),
        _chunk("a size beyond 64 bits", b"ffffffffffffffff1\r\nhello\r\n" + end, f"{broken} | too_large"),
        _chunk("a size of 16 digits", b"7fffffffffffffff\r\nhello", f"{broken} | too_large"),
        _chunk("more data than the size", b"5\r\nhello!\r\n" + end, broken),
        _chunk("less data than the size", b"5\r\nhel\r\n" + end, broken),
        _chunk("line feeds alone", b"5\nhello\n0\n\n", f"{WHOLE} | {broken}"),
        _chunk("a trailer that names a length", b"5\r\nhello\r\n0\r\nContent-Length: 99\r\n\r\n", EITHER),
        _chunk("a trailer that names a coding", b"5\r\nhello\r\n0\r\nContent-Encoding: gzip\r\n\r\n", EITHER),
        _chunk("a trailer without a colon", b"5\r\nhello\r\n0\r\nnonsense\r\n\r\n", EITHER),
        _chunk(
            "a trailer of 100 KB",
            b"5\r\nhello\r\n0\r\nA: " + b"x" * 100_000 + b"\r\n\r\n",
            f"{EITHER} | header_too_large",
        ),
        _chunk("bytes after the end", b"5\r\nhello\r\n" + end + b"garbage", EITHER),
    )


def _after_it(what: str, extra: bytes, *, late: bool = False) -> Story:
    """Bytes that follow an answer on a connection that is kept are never taken for the answer to the next file."""

    async def tell(bench: Bench) -> str:
        sent = asyncio.Event()

        async def generous(exchange: Exchange) -> None:
            await exchange.send(OK + b"Content-Length: 5\r\n\r\nhello" + (b"" if late else extra))
            await asyncio.sleep(0.1 if late else 0)
            await exchange.send(extra if late else b"")
            sent.set()

        async with raw_origin(by_path({"/first": generous}, answer()), HOST) as origin:
            first = await bench.job([origin.url("/first")])
            await sent.wait()
            await asyncio.sleep(0.05)
            done = await bench.job([origin.url(f"/{number}") for number in range(3)])
        assert first.data(0) in (HELLO, None), "the first file"
        good = sum(done.data(at) == BODY for at in range(3))
        return f"{good} whole"

    return Story(what, "3 whole", tell)


def _coded(
    what: str, headers: dict[str, str], wire: bytes, expected: str = WHOLE, path: str = "/x.csv", body: bytes = CSV
) -> Given:
    return Given(what, answer(headers, wire), expected, path, body)


def _with_trailer(crc: int, size: int) -> bytes:
    return TAR[:-8] + struct.pack("<II", crc & 0xFFFFFFFF, size)


def _with_fields() -> bytes:
    """A gzip member with a name, a comment and an extra field."""
    return b"\x1f\x8b\x08\x1c" + TAR[4:10] + b"\x04\x00ABCD" + b"name.csv\0" + b"comment\0" + TAR[10:]


def _codings() -> tuple[Given, ...]:
    coded = {"Content-Encoding": "gzip"}
    bad, unsure = "bad_encoding", f"{WHOLE} | bad_encoding"
    rest = f"Content-Length: {len(TAR)}\r\n"
    twice = rest.encode() + b"Content-Encoding: gzip\r\nContent-Encoding: %s\r\n"
    zlibbed = zlib.compress(CSV)
    return (
        _coded("gzip, then zeros", coded, TAR + bytes(512)),
        _coded("gzip, then garbage", coded, TAR + b"garbage", unsure),
        _coded("gzip, then half a member", coded, TAR + TAR[:30], "truncated | bad_encoding"),
        _coded("gzip with a wrong CRC", coded, _with_trailer(zlib.crc32(CSV) ^ 1, len(CSV)), bad),
        _coded("gzip with a wrong size", coded, _with_trailer(zlib.crc32(CSV), len(CSV) + 1), bad),
        _coded("gzip without its last byte", coded, TAR[:-1], "truncated"),
        _coded("gzip without its trailer", coded, TAR[:-8], "truncated"),
        _coded("the head of a gzip and nothing else", coded, TAR[:10], "truncated"),
        _coded("one byte of a gzip", coded, TAR[:1], "truncated | bad_encoding"),
        _coded("gzip with all its fields", coded, _with_fields()),
        _coded("gzip after an empty member", coded, gzip.compress(b"") + TAR),
        _coded("gzip before an empty member", coded, TAR + gzip.compress(b"")),
        _coded("gzip at level 0", coded, gzip.compress(CSV, 0)),
        _coded("gzip;q=1", {"Content-Encoding": "gzip;q=1"}, TAR, unsure),
        _coded("identity, gzip", {"Content-Encoding": "identity, gzip"}, TAR),
        _coded("gzip, identity", {"Content-Encoding": "gzip, identity"}, TAR),
        _coded("',gzip,'", {"Content-Encoding": ",gzip,"}, TAR, unsure),
        _coded("gzip and deflate", {"Content-Encoding": "deflate, gzip"}, gzip.compress(zlibbed), unsure),
        Given("gzip in two lines, one layer", verbatim(OK + twice % b"gzip" + b"\r\n" + TAR), unsure, "/x.csv", CSV),
        Given(
            "gzip in two lines, two layers",
            verbatim(OK + _twice(gzip.compress(TAR)) + gzip.compress(TAR)),
            unsure,
            "/x.csv",
            CSV,
        ),
        Given(
            "gzip and identity in two lines", verbatim(OK + twice % b"identity" + b"\r\n" + TAR), unsure, "/x.csv", CSV
        ),
        _coded("deflate with a wrong sum", {"Content-Encoding": "deflate"}, zlibbed[:-4] + b"abcd", bad),
        _coded("deflate without its sum", {"Content-Encoding": "deflate"}, zlibbed[:-4], "truncated"),
        _coded("deflate, then garbage", {"Content-Encoding": "deflate"}, zlibbed + b"garbage", unsure),
        _coded("deflate that is gzip", {"Content-Encoding": "deflate"}, TAR, unsure),
        _coded("gzip that is deflate", coded, zlibbed, unsure),
        _coded("zstd, unasked", {"Content-Encoding": "zstd"}, b"\x28\xb5\x2f\xfd" + CSV, bad),
        _coded("compress, unasked", {"Content-Encoding": "compress"}, b"\x1f\x9d\x90" + CSV, bad),
        _coded("utf-8 for a coding", {"Content-Encoding": "utf-8"}, CSV),
        _coded("aws-chunked left by a store", {"Content-Encoding": "aws-chunked"}, CSV),
        _coded("a .br called br", {"Content-Encoding": "br"}, BODY, path="/x.br", body=BODY),
        _coded("a .zst called zstd", {"Content-Encoding": "zstd"}, BODY, path="/x.tar.zst", body=BODY),
        _coded(
            "a .gz by the disposition's name",
            coded | {"Content-Disposition": "attachment; filename=a.csv.gz"},
            TAR,
            path="/get/1",
            body=TAR,
        ),
        _coded("a .gz by the request's query only", coded, TAR, path="/get?file=a.csv.gz", body=CSV),
        _coded("a .gz gzipped once more", coded, gzip.compress(TAR), path="/x.csv.gz", body=TAR),
        _coded("an empty .gz", coded, b"", path="/e.gz", body=b""),
        _coded(
            "coded, the length is the decoded one",
            coded | {"Content-Length": str(len(CSV))},
            TAR,
            f"timeout | truncated | {WHOLE}",
        ),
        Given(
            "coded, every chunk a byte",
            chunked(*(TAR[at : at + 1] for at in range(len(TAR))), headers=b"Content-Encoding: gzip\r\n"),
            path="/x.csv",
            body=CSV,
        ),
        Given(
            "coded and without a length, cut",
            verbatim(OK + b"Content-Encoding: gzip\r\n\r\n" + TAR[:100]),
            "truncated",
            "/x.csv",
            CSV,
        ),
        Given(
            "coded, 206 of the whole",
            answer(coded | {"Content-Range": f"bytes 0-{len(TAR) - 1}/{len(TAR)}"}, TAR, "206 Partial Content"),
            f"{WHOLE} | unexpected_status",
            "/x.csv",
            CSV,
        ),
        Given(
            "coded and cut, with an ETag: the rest is not asked for",
            in_turn(headed_cut(TAR, 40, b'Content-Encoding: gzip\r\nETag: "one"\r\n'), answer(coded | ETAG, TAR)),
            f"{WHOLE}, 2 requests",
            "/x.csv",
            CSV,
            look=with_requests,
        ),
        Given(
            "plain and cut, the rest comes coded",
            in_turn(
                headed_cut(BODY, CUT_AT, b'ETag: "one"\r\n'),
                part(CUT_AT, SIZE - 1, headers={"Content-Encoding": "gzip"}),
                answer(ETAG),
            ),
        ),
    )


def _twice(wire: bytes) -> bytes:
    return b"Content-Length: %d\r\nContent-Encoding: gzip\r\nContent-Encoding: gzip\r\n\r\n" % len(wire)


def headed_cut(body: bytes, after: int, lines: bytes) -> Script:
    """`after` bytes of an answer with these header lines."""
    return verbatim(OK + b"Content-Length: %d\r\n%s\r\n%s" % (len(body), lines, body[:after]))


def _heads() -> tuple[Given, ...]:
    length = b"Content-Length: 5\r\n\r\nhello"
    lines: tuple[tuple[str, bytes, str], ...] = (
        ("HTTP/1.2", b"HTTP/1.2 200 OK\r\n", EITHER),
        ("HTTP/2.0", b"HTTP/2.0 200 OK\r\n", EITHER),
        ("HTTP/2", b"HTTP/2 200 OK\r\n", EITHER),
        ("HTTP/1.10", b"HTTP/1.10 200 OK\r\n", EITHER),
        ("http/1.1", b"http/1.1 200 OK\r\n", EITHER),
        ("ICY", b"ICY 200 OK\r\n", EITHER),
        ("two blanks", b"HTTP/1.1  200  OK\r\n", EITHER),
        ("a tab", b"HTTP/1.1\t200\tOK\r\n", EITHER),
        ("200OK", b"HTTP/1.1 200OK\r\n", GARBLED),
        ("0200", b"HTTP/1.1 0200 OK\r\n", GARBLED),
        ("2000", b"HTTP/1.1 2000 OK\r\n", f"{GARBLED} | unexpected_status"),
        ("-200", b"HTTP/1.1 -200 OK\r\n", GARBLED),
        ("+200", b"HTTP/1.1 +200 OK\r\n", GARBLED),
        ("200 in Arabic", "HTTP/1.1 ٢٠٠ OK\r\n".encode(), GARBLED),
        ("no status", b"HTTP/1.1\r\n", GARBLED),
        ("000", b"HTTP/1.1 000 OK\r\n", f"{GARBLED} | unexpected_status"),
        ("a reason in Latin-1", b"HTTP/1.1 200 D'accord \xe9\r\n", EITHER),
        ("a reason in UTF-8", "HTTP/1.1 200 好\r\n".encode(), EITHER),
        ("a reason with a NUL", b"HTTP/1.1 200 O\0K\r\n", EITHER),
        ("a reason of 20 KB", b"HTTP/1.1 200 " + b"x" * 20_000 + b"\r\n", f"{EITHER} | header_too_large"),
        ("a reason of 200 KB", b"HTTP/1.1 200 " + b"x" * 200_000 + b"\r\n", f"{GARBLED} | header_too_large"),
        ("an empty line before", b"\r\nHTTP/1.1 200 OK\r\n", EITHER),
        ("blanks before", b"  HTTP/1.1 200 OK\r\n", EITHER),
        ("a BOM before", b"\xef\xbb\xbfHTTP/1.1 200 OK\r\n", EITHER),
        ("a line feed in a name", OK + b"X\nA: b\r\n", EITHER),
        ("a carriage return in a value", OK + b"X: a\rb\r\n", EITHER),
        ("a DEL", OK + b"X: a\x7fb\r\n", EITHER),
        ("a blank before the first header", OK + b" X: b\r\n", EITHER),
        ("nothing but a colon", OK + b":\r\n", EITHER),
        ("a name in UTF-8", OK + "Ü: b\r\n".encode(), EITHER),
        (
            "20 headers of 20 KB",
            OK + b"".join(b"X-%d: %s\r\n" % (at, b"y" * 20_000) for at in range(20)),
            f"{WHOLE} | header_too_large",
        ),
        ("500 times the same cookie", OK + b"Set-Cookie: a=b\r\n" * 500, f"{WHOLE} | header_too_large"),
        ("a broken cookie", OK + b"Set-Cookie: \xff;;==;a b=c; Path\r\n", EITHER),
        ("a Date that is none", OK + b"Date: tomorrow\r\n", WHOLE),
        ("an Upgrade that nobody wants", OK + b"Upgrade: h2c, h2\r\nConnection: Upgrade, close\r\n", EITHER),
        ("Connection: nonsense", OK + b"Connection: \x22nonsense\r\n", EITHER),
        ("Keep-Alive: nonsense", OK + b"Keep-Alive: timeout=-1, max=abc\r\n", WHOLE),
        ("Strict-Transport-Security", OK + b"Strict-Transport-Security: max-age=9999999; includeSubDomains\r\n", WHOLE),
        ("Alt-Svc", OK + b'Alt-Svc: h3=":443"\r\n', WHOLE),
        ("Refresh", OK + b"Refresh: 0; url=/elsewhere\r\n", WHOLE),
        ("Content-Location and Link", OK + b"Content-Location: /other\r\nLink: </n>; rel=next\r\n", WHOLE),
        (
            "Content-MD5 that is wrong",
            OK + b"Content-MD5: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
            f"{WHOLE} | checksum_mismatch",
        ),
    )
    return tuple(Given(what, verbatim(head + length), expected, body=HELLO) for what, head, expected in lines)


def _informational() -> tuple[Given, ...]:
    good = OK + b"Content-Length: 5\r\n\r\nhello"
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"
    more = b"HTTP/1.1 100 Continue\r\n\r\n"
    return (
        Given("three hints, then the answer", verbatim(hints * 3 + good), body=HELLO),
        Given(
            "100, 102, 103, then the answer",
            verbatim(more + b"HTTP/1.1 102 Processing\r\n\r\n" + hints + good),
            body=HELLO,
        ),
        Given("199, then the answer", verbatim(b"HTTP/1.1 199 What\r\n\r\n" + good), EITHER, body=HELLO),
        Given("100 with a length", verbatim(b"HTTP/1.1 100 C\r\nContent-Length: 0\r\n\r\n" + good), EITHER, body=HELLO),
        Given(
            "hints whose Content-Length is not the answer's",
            verbatim(b"HTTP/1.1 103 Hints\r\nContent-Length: 3\r\n\r\n" + good),
            EITHER,
            body=HELLO,
        ),
        Given("hints, the answer a moment later", later(hints, good), body=HELLO),
        Given(
            "hints, a redirect, the file",
            by_path(
                {"/f.bin": verbatim(hints + b"HTTP/1.1 302 F\r\nLocation: /g\r\nContent-Length: 0\r\n\r\n")},
                verbatim(hints + good),
            ),
            body=HELLO,
        ),
        Given("hints and no answer", verbatim(hints), GARBLED),
        Given("500 times 100, then the answer", verbatim(more * 500 + good), EITHER, body=HELLO),
        Given("hints for ever", endless(hints, 0.05), f"timeout | {GARBLED}"),
        Given("a head that never ends, bit by bit", endless(b"X-A: b\r\n", 0.1, OK), "timeout"),
        Given("a status line bit by bit", endless(b" ", 0.1, b"HTTP/1.1 200 "), f"timeout | {GARBLED}"),
    )


def later(first: bytes, second: bytes) -> Script:
    """The one, and a tenth of a second later the other."""

    async def script(exchange: Exchange) -> None:
        await exchange.send(first)
        await asyncio.sleep(0.1)
        await exchange.send(second)
        exchange.hang_up()

    return script


def endless(again: bytes, pause_s: float, first: bytes = b"") -> Script:
    """The same again and again until the other side has had enough."""

    async def script(exchange: Exchange) -> None:
        await exchange.send(first)
        while not exchange.writer.is_closing():
            await exchange.send(again)
            await asyncio.sleep(pause_s)

    return script


_SMUGGLED = OK + b"Content-Length: 4\r\n\r\nevil"

CASES: tuple[Case, ...] = (
    Case(
        "B03.2",
        "lengths and chunks of every make",
        (
            *_lengths(),
            *_both(),
            *_chunks(),
            _after_it("an answer too many, at once", _SMUGGLED),
            _after_it("an answer too many, a moment later", _SMUGGLED, late=True),
            _after_it("garbage behind an answer", b"garbage"),
            _after_it("100 Continue behind an answer", b"HTTP/1.1 100 Continue\r\n\r\n"),
        ),
    ),
    Case("B05.2", "codings of every make", _codings()),
    Case("B26.2", "heads of every make", (*_heads(), *_informational())),
)
