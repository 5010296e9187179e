"""B: further answers of the same kinds as the collection's: resuming, statuses, pauses, redirects, URLs and TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from tests.field.answers import BODY, ETAG, answer, by_path, chunked, cut, in_turn, part, redirect, verbatim
from tests.field.bench import Bench
from tests.field.bodies import CUT_AT, SIZE
from tests.field.case import WHOLE, Case, Given, Seen, Story, with_requests
from tests.field.framing import endless, headed_cut
from tests.field.host import HOST, OTHER_HOST
from tests.field.redirects import SECRETS, _last_target
from tests.field.resuming import _ranged, cut_part
from tests.field.statuses import _status
from tests.origins import Exchange, Script, raw_origin

LAST = SIZE - 1


def _resumed(second: Script, first: Script | None = None) -> Script:
    """Cut after 80,000 of 200,000 bytes, then `second`, then the whole file."""
    return in_turn(first or cut(CUT_AT, ETAG), second, answer(ETAG))


def _placed(text: str, data: bytes = BODY[CUT_AT:], **headers: str) -> Script:
    """A 206 with this Content-Range."""
    return answer({"Content-Range": text} | ETAG | headers, data, "206 Partial Content")


def _resumes() -> tuple[Given, ...]:
    unknown = verbatim(
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: "one"\r\n\r\n%x\r\n%s\r\n' % (CUT_AT, BODY[:CUT_AT])
    )
    weak = {"ETag": 'W/"one"'}
    modified = "Sun, 06 Nov 1994 08:49:37 GMT"
    dated = {"Last-Modified": modified, "Date": "Wed, 25 Nov 2026 12:00:00 GMT"}
    span = f"{CUT_AT}-{LAST}/{SIZE}"
    rows: tuple[tuple[str, Script], ...] = (
        ("206 with more than the rest", _resumed(_placed(f"bytes {span}", BODY[CUT_AT:] + b"0123456789"))),
        ("206 with less than it says", _resumed(_placed(f"bytes {span}", BODY[CUT_AT : CUT_AT + 100]))),
        ("206 of the last byte only", _resumed(_placed(f"bytes {LAST}-{LAST}/{SIZE}", BODY[LAST:]))),
        ("206 whose length is the whole's", _resumed(headed_206(span, b"Content-Length: %d" % SIZE))),
        ("206, chunked", _resumed(headed_206(span, b"Transfer-Encoding: chunked", chunks=True))),
        ("206 that ends by closing", _resumed(headed_206(span, b"X: y"))),
        ("206 with 'Bytes'", _resumed(_placed(f"Bytes {span}"))),
        ("206 with two blanks", _resumed(_placed(f"bytes  {span}"))),
        ("206 with 'bytes='", _resumed(_placed(f"bytes={span}"))),
        ("206 without an end", _resumed(_placed(f"bytes {CUT_AT}-/{SIZE}"))),
        ("206 backwards", _resumed(_placed(f"bytes {LAST}-{CUT_AT}/{SIZE}"))),
        ("206 beyond the end", _resumed(_placed(f"bytes {CUT_AT}-{SIZE}/{SIZE}"))),
        ("206 with numbers of 40 digits", _resumed(_placed(f"bytes {'9' * 40}-{'9' * 40}/{'9' * 40}"))),
        ("206 with 'bytes */200000'", _resumed(_placed(f"bytes */{SIZE}"))),
        ("206, the ETag is weak now", _resumed(_placed(f"bytes {span}", BODY[CUT_AT:], **weak))),
        (
            "206 of other bytes, the ETag is weak now",
            _resumed(_placed(f"bytes {span}", b"B" * (SIZE - CUT_AT), **weak)),
        ),
        ("206 of other bytes without an ETag", _resumed(_placed(f"bytes {span}", b"B" * (SIZE - CUT_AT), ETag=""))),
        (
            "206 of other bytes, the ETag in another case",
            _resumed(_placed(f"bytes {span}", b"B" * (SIZE - CUT_AT), ETag='"ONE"')),
        ),
        ("200 with the same ETag, cut again", in_turn(*[cut(CUT_AT, ETAG)] * 2, answer(ETAG))),
        ("200 with the same ETag, cut sooner", in_turn(cut(CUT_AT, ETAG), cut(1000, ETAG), answer(ETAG))),
        ("200 with the same ETag, chunked", _resumed(chunked(BODY, headers=b'ETag: "one"\r\n'))),
        (
            "200 with the same ETag, chunked and cut",
            _resumed(chunked(BODY[:100_000], end=b"", headers=b'ETag: "one"\r\n')),
        ),
        ("200 that is empty, then the file", in_turn(cut(CUT_AT, ETAG), cut(0, ETAG), answer(ETAG))),
        ("a redirect at the second try", in_turn(cut(CUT_AT, ETAG), redirect("/other.bin"), part(CUT_AT, LAST))),
        ("416 without Content-Range, then the whole", _resumed(answer({}, b"", "416 No"))),
        ("429 at the second try", _resumed(answer({"Retry-After": "0"}, b"", "429 Many"))),
        ("nothing at the second try", _resumed(verbatim(b""))),
        ("garbage at the second try", _resumed(verbatim(b"garbage\r\n\r\n"))),
        ("chunked first, then the right 206", _resumed(part(CUT_AT, LAST), unknown)),
        (
            "chunked first, 206 of a part of the rest",
            _resumed(_placed(f"bytes {CUT_AT}-99999/{SIZE}", BODY[CUT_AT:100_000]), unknown),
        ),
        (
            "chunked first, 206 with less than it says",
            _resumed(_placed(f"bytes {span}", BODY[CUT_AT:100_000]), unknown),
        ),
        (
            "chunked first, 206 of an unknown total",
            _resumed(_placed(f"bytes {CUT_AT}-99999/*", BODY[CUT_AT:100_000]), unknown),
        ),
        ("chunked first, 206 that ends by closing", _resumed(headed_206(span, b"X: y", cut_at=100_000), unknown)),
        ("chunked first, then 200 with a length", _resumed(answer(ETAG), unknown)),
        ("an ETag without quotes", in_turn(cut(CUT_AT, {"ETag": "one"}), answer({"ETag": "one"}))),
        ("an ETag with blanks", in_turn(cut(CUT_AT, {"ETag": '"o ne"'}), answer({"ETag": '"o ne"'}))),
        ("an empty ETag", in_turn(cut(CUT_AT, {"ETag": '""'}), answer({"ETag": '""'}))),
        (
            "two ETags",
            in_turn(headed_cut(BODY, CUT_AT, b'ETag: "one"\r\nETag: "two"\r\n'), part(CUT_AT, LAST), answer(ETAG)),
        ),
        ("another date, the same ETag", in_turn(cut(CUT_AT, ETAG | dated), part(CUT_AT, LAST), answer(ETAG))),
        (
            "the date is gone at the second try",
            in_turn(cut(CUT_AT, dated), _placed(f"bytes {span}", ETag=""), answer(dated)),
        ),
        ("Accept-Ranges: none", in_turn(cut(CUT_AT, ETAG | {"Accept-Ranges": "none"}), answer(ETAG))),
    )
    return (
        *(Given(what, script) for what, script in rows),
        Given(
            "200 of other bytes under the same ETag and length, cut once",
            in_turn(cut(CUT_AT, ETAG), answer(ETAG)),
            f"{WHOLE}, 2 requests, Range",
            look=_ranged,
        ),
        Given("multipart at the second try", _resumed(_multipart())),
        Given("an unasked multipart", _multipart(), "unexpected_status"),
        Given(
            "cut within the last try too",
            in_turn(cut(1000, ETAG), cut_part(1000, LAST, 10)),
            "truncated | source_changed",
        ),
        Given("four cuts that go on each time", _step_by_step(60_000), f"{WHOLE} | truncated"),
    )


def headed_206(span: str, line: bytes, *, chunks: bool = False, cut_at: int = SIZE) -> Script:
    data = BODY[CUT_AT:cut_at]
    head = b'HTTP/1.1 206 P\r\nETag: "one"\r\nContent-Range: bytes %s\r\n%s\r\n\r\n' % (span.encode(), line)
    return verbatim(head + (b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data) if chunks else data))


def _multipart() -> Script:
    head = b"\r\n--x\r\nContent-Range: bytes %d-%d/%d\r\n\r\n" % (CUT_AT, LAST, SIZE)
    return answer(
        ETAG | {"Content-Type": "multipart/byteranges; boundary=x"},
        head + BODY[CUT_AT:] + b"\r\n--x--\r\n",
        "206 Partial Content",
    )


def _step_by_step(step: int) -> Script:
    async def script(exchange: Exchange) -> None:
        first = int((exchange.header("Range") or "bytes=0-")[6:].partition("-")[0])
        serve = cut_part(first, LAST, step) if first else cut(step, ETAG)
        await serve(exchange)

    return script


async def _behind_redirects(bench: Bench) -> str:
    """A link that leads to another signed address each time: the transfer still goes on where it was cut."""
    seen: list[tuple[str, str | None]] = []

    async def script(exchange: Exchange) -> None:
        seen.append((exchange.target, exchange.header("Range")))
        if exchange.target == "/start.bin":
            await redirect(f"/signed.bin?n={exchange.number}")(exchange)
        elif exchange.header("Range"):
            await part(CUT_AT, LAST)(exchange)
        else:
            await cut(CUT_AT, ETAG)(exchange)

    async with raw_origin(script, HOST) as origin:
        done = await bench.job([origin.url("/start.bin")])
    return f"{WHOLE if done.data(0) == BODY else done.code(0)}, {len(seen)} requests, {seen[-1][1]}"


STATUSES: dict[str, tuple[Script, str]] = {
    "206 that says whole and has less": (
        answer({"Content-Range": f"bytes 0-{LAST}/{SIZE}"}, BODY[:100], "206 Partial Content"),
        "unexpected_status | truncated | protocol_error",
    ),
    "206 that says whole, ends by closing, has less": (
        verbatim(b"HTTP/1.1 206 P\r\nContent-Range: bytes 0-%d/%d\r\n\r\n%s" % (LAST, SIZE, BODY[:100])),
        "unexpected_status | truncated | protocol_error",
    ),
    "206 that says whole, chunked, has less": (
        verbatim(
            b"HTTP/1.1 206 P\r\nTransfer-Encoding: chunked\r\nContent-Range: bytes 0-%d/%d\r\n\r\n5\r\nhello\r\n"
            b"0\r\n\r\n" % (LAST, SIZE)
        ),
        "unexpected_status | truncated | protocol_error",
    ),
    "207": (answer({}, b"<multistatus/>", "207 Multi-Status"), "unexpected_status"),
    "208": (answer({}, b"x", "208 Already Reported"), "unexpected_status"),
    "214": (answer({}, b"x", "214 Transformation Applied"), "unexpected_status"),
    "304 with a Location": (
        verbatim(b"HTTP/1.1 304 N\r\nLocation: /good\r\n\r\n", lambda exchange: None),
        "unexpected_status",
    ),
    "304 with a body": (
        verbatim(b"HTTP/1.1 304 N\r\nContent-Length: 5\r\n\r\nhello"),
        "unexpected_status | protocol_error",
    ),
    "305": (answer({"Location": "/good"}, b"", "305 Use Proxy"), "unexpected_status | http_status:305"),
    "306": (answer({"Location": "/good"}, b"", "306 Unused"), "unexpected_status | http_status:306"),
    "309": (answer({"Location": "/good"}, b"", "309 What"), "unexpected_status | http_status:309"),
    "399": (answer({"Location": "/good"}, b"", "399 What"), "unexpected_status | http_status:399"),
    "204 with a length": (
        verbatim(b"HTTP/1.1 204 N\r\nContent-Length: 5\r\n\r\n", lambda exchange: None),
        "unexpected_status",
    ),
    "204 with a body": (
        verbatim(b"HTTP/1.1 204 N\r\nContent-Length: 5\r\n\r\nhello", lambda exchange: None),
        "unexpected_status | protocol_error",
    ),
    "205 with a body": (answer({}, b"hello", "205 Reset Content"), "unexpected_status"),
    "404 with a large page": (
        answer({"Content-Type": "text/html"}, b"<html>" + bytes(500_000), "404 No"),
        "http_status:404",
    ),
    "404 with a body that never ends": (endless(bytes(1000), 0.01, b"HTTP/1.1 404 No\r\n\r\n"), "http_status:404"),
    "403 that is chunked and cut": (
        verbatim(b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe"),
        "http_status:403",
    ),
    "401 with a file in it": (
        answer({"WWW-Authenticate": 'Digest realm="x"'}, BODY, "401 Unauthorized"),
        "http_status:401",
    ),
    "402": (answer({}, b"", "402 Pay"), "http_status:402"),
    "407": (answer({"Proxy-Authenticate": "Basic"}, b"", "407 Proxy"), "http_status:407"),
    "412": (answer({}, b"", "412 No"), "http_status:412"),
    "416 though nothing was asked": (answer({"Content-Range": "bytes */0"}, b"", "416 No"), "http_status:416"),
    "418": (answer({}, b"", "418 Teapot"), "http_status:418"),
    "421": (answer({}, b"", "421 Misdirected"), "http_status:421"),
    "431": (answer({}, b"", "431 Large"), "http_status:431"),
    "499": (answer({}, b"", "499 Client"), "http_status:499"),
    "511": (answer({}, b"", "511 Login"), "http_status:511"),
    "520": (answer({}, b"", "520 Unknown"), "http_status:520"),
    "200 with a Content-Range of a part": (
        answer({"Content-Range": "bytes 0-4/100"}, b"hello"),
        "done | unexpected_status | truncated",
    ),
}


def _paused(value: str, low_s: float, high_s: float, status: str = "429 Too Many Requests") -> Given:
    """A refusal with this Retry-After, then the file; the pause must lie between these."""

    def look(seen: Seen) -> str:
        if seen.outcome != WHOLE:
            return seen.outcome
        waited_s = seen.origin.times[1] - seen.origin.times[0]
        return "in time" if low_s <= waited_s <= high_s else f"after {waited_s:.2f} s"

    return Given(
        f"{status[:3]}, Retry-After: {value!r}"[:60],
        in_turn(answer({"Retry-After": value}, b"", status), answer()),
        "in time",
        look=look,
    )


def _pauses() -> tuple[Given, ...]:
    soon = datetime.now(UTC) + timedelta(seconds=3)
    slow = 4.0
    once = with_requests
    two = b"HTTP/1.1 429 M\r\nRetry-After: 0\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
    return (
        *(
            _paused(value, 0.0, slow)
            for value in (
                "-1",
                "1e0",
                "0x1",
                "NaN",
                "Infinity",
                "1 second",
                "1,2",
                "٣",
                "+1",
                "1" * 400 + "x",
                '"1"',
                "tomorrow",
                "00",
                "2026-11-25T12:00:00Z",
            )
        ),
        _paused(" 1 ", 0.95, slow),
        _paused("001", 0.95, slow),
        _paused(soon.strftime("%A, %d-%b-%y %H:%M:%S GMT"), 0.0, slow),
        _paused(soon.strftime("%a %b %e %H:%M:%S %Y"), 0.0, slow),
        _paused(format_datetime(soon), 0.0, slow),
        _paused("Thu, 99 Foo 2026 99:99:99 GMT", 0.0, slow),
        _paused("Mon, 01 Jan 0001 00:00:00 GMT", 0.0, slow),
        _paused("1", 0.0, slow, "500 Oops"),
        _paused("1", 0.0, slow, "502 Bad"),
        _paused("1", 0.0, slow, "425 Early"),
        _paused("1", 0.0, slow, "408 Timeout"),
        Given("two of them", in_turn(verbatim(two), answer())),
        Given(
            "40 digits: no", answer({"Retry-After": "9" * 40}, b"", "503 No"), "http_status:503, 1 requests", look=once
        ),
        Given(
            "Fri, 31 Dec 9999: no",
            answer({"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}, b"", "503 No"),
            "http_status:503, 1 requests",
            look=once,
        ),
        Given(
            "404 with one: no", answer({"Retry-After": "1"}, b"", "404 No"), "http_status:404, 1 requests", look=once
        ),
        Given(
            "403 with one: no", answer({"Retry-After": "1"}, b"", "403 No"), "http_status:403, 1 requests", look=once
        ),
        Given("410: once", answer({}, b"", "410 Gone"), "http_status:410, 1 requests", look=once),
        Given(
            "501: within bounds",
            answer({}, b"", "501 No"),
            "http_status:501, 1 requests | http_status:501, 3 requests",
            look=once,
        ),
        Given("200 with one: taken at once", answer({"Retry-After": "3600"}), f"{WHOLE}, 1 requests", look=once),
        Given("a redirect with one is followed", in_turn(redirect("/f.bin", headers={"Retry-After": "1"}), answer())),
        Given(
            "429 behind a redirect",
            by_path(
                {"/f.bin": redirect("/limited")}, _once_then(answer({"Retry-After": "0"}, b"", "429 No"), answer())
            ),
        ),
        Given("503 with a page", in_turn(answer({"Content-Type": "text/html"}, b"<html>busy", "503 No"), answer())),
    )


def _once_then(first: Script, rest: Script) -> Script:
    """Its first call gets the first script, however many requests others have had."""
    calls = 0

    async def script(exchange: Exchange) -> None:
        nonlocal calls
        calls += 1
        await (first if calls == 1 else rest)(exchange)

    return script


def _location(value: bytes, status: bytes = b"302 Found") -> Script:
    return verbatim(b"HTTP/1.1 %s\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n" % (status, value))


def _to(value: bytes, expected: str, path: str = "/f.bin", what: str = "") -> Given:
    """A redirect from `path`; expected is the target that is asked for, or a code."""
    return Given(
        f"Location: {what or repr(value)[1:]}"[:64],
        by_path({path: _location(value)}, answer()),
        expected,
        path,
        look=_last_target,
    )


def _locations() -> tuple[Given | Story, ...]:
    bad = "redirect_invalid | bad_url"
    base = "/a/b/f.bin"
    host = HOST.encode()
    return (
        _to(b"/with blank.bin", "/with%20blank.bin"),
        _to("/ünï.bin".encode(), "/%C3%BCn%C3%AF.bin"),
        _to("/ünï.bin".encode("latin-1"), "/%FCn%EF.bin"),
        _to(b"/tab\there", "/tab%09here | /tabhere | redirect_invalid | bad_url | protocol_error"),
        _to(b"/ctl\x01here", f"/ctl%01here | {bad} | protocol_error"),
        _to(b"/a%20b%2520c", "/a%20b%2520c"),
        _to(b'/q"<>^`{|}', "/q%22%3C%3E%5E%60%7B%7C%7D"),
        _to(b"/back\\slash", "/back%5Cslash | /back/slash"),
        _to(b"./x.bin", "/a/b/x.bin", base),
        _to(b".", "/a/b/", base),
        _to(b"..", "/a/", base),
        _to(b"../../../../x.bin", "/x.bin", base),
        _to(b"x/./y/../z.bin", "/a/b/x/z.bin", base),
        _to(b";p=1", "/a/b/;p=1", base),
        _to(b"?", f"/a/b/f.bin? | {bad} | too_many_redirects", base),
        _to(b"x.bin?a=../b", "/a/b/x.bin?a=../b", base),
        _to(b"1:2.bin", "/a/b/1:2.bin | redirect_invalid | bad_scheme | bad_url", base),
        _to(b"./1:2.bin", "/a/b/1:2.bin", base),
        _to(b"///x.bin", f"{bad} | blocked_address | dns_failure"),
        _to(b"////x.bin", f"{bad} | blocked_address | dns_failure"),
        _to(b"/\\127.0.0.1/x", "/%5C127.0.0.1/x | redirect_invalid | bad_url | blocked_address"),
        _to(b"\\\\127.0.0.1\\x", "/%5C%5C127.0.0.1%5Cx | redirect_invalid | bad_url | blocked_address"),
        _to(b"http:/x.bin", f"{bad} | /x.bin"),
        _to(b"http:x.bin", f"{bad} | /x.bin"),
        _to(b"http://%s:99999/" % host, bad),
        _to(b"http://%s:/x" % host, "connect_failed | bad_url | redirect_invalid"),
        _to(b"http://u:p@/", bad),
        _to(b"http://a b/", bad),
        _to(b"/" + b"x" * 20_000, "/" + "x" * 20_000, what="20,000 characters"),
        _to(b"/" + b"x" * 40_000, "header_too_large", what="40,000 characters"),
        Given(
            "two Locations",
            by_path(
                {"/f.bin": verbatim(b"HTTP/1.1 302 F\r\nContent-Length: 0\r\nLocation: /1\r\nLocation: /2\r\n\r\n")},
                answer(),
            ),
            "/1 | redirect_invalid",
            look=_last_target,
        ),
        Given(
            "a redirect with an endless body",
            by_path({"/f.bin": endless(bytes(5000), 0.01, b"HTTP/1.1 302 F\r\nLocation: /g\r\n\r\n")}, answer()),
        ),
        Given(
            "a redirect that is chunked and cut",
            by_path(
                {"/f.bin": verbatim(b"HTTP/1.1 302 F\r\nLocation: /g\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe")},
                answer(),
            ),
        ),
        Given(
            "a redirect with a length and no body",
            by_path(
                {
                    "/f.bin": in_turn(
                        verbatim(b"HTTP/1.1 302 F\r\nLocation: /g\r\nContent-Length: 99\r\n\r\n", lambda exchange: None)
                    )
                },
                answer(),
            ),
        ),
        Given(
            "a redirect with a coded body",
            by_path(
                {"/f.bin": answer({"Location": "/g", "Content-Encoding": "gzip"}, b"no gzip", "302 Found")}, answer()
            ),
        ),
        Given("303 is followed with GET", by_path({"/f.bin": redirect("/g", "303 See")}, answer())),
        Given(
            "301 to itself with a fragment",
            redirect("/f.bin#x", "301 Moved"),
            "too_many_redirects, 6 requests",
            look=with_requests,
        ),
        Given(
            "a page that sends people on",
            answer({"Content-Type": "text/html"}, b'<meta http-equiv="refresh" content="0; url=/g">'),
            "html_instead_of_file",
        ),
        Given(
            "a Refresh header on a page",
            answer({"Refresh": "0; url=/g", "Content-Type": "text/html"}, b"<html>"),
            "html_instead_of_file",
        ),
        Given("200 with a Location", answer({"Location": "/elsewhere"}), f"{WHOLE}, 1 requests", look=with_requests),
        Given(
            "a redirect, then a cut, then the file",
            by_path({"/f.bin": redirect("/g")}, _once_then(cut(1000), answer())),
        ),
        *(_cookie(*row) for row in COOKIES),
        Story("signed links that change at each try", f"{WHOLE}, 4 requests, bytes={CUT_AT}-", _behind_redirects),
        Story("absolute to the same host: no path", "/", _absolute("")),
        Story("absolute to the same host: only a query", "/?x", _absolute("?x")),
        Story("absolute to the same host: only a fragment", "/", _absolute("#x")),
        Story("absolute to the same host: a leading zero in the port", "/x | bad_url", _absolute("/x", "0")),
        Story("no Referer goes along", "none", _referer),
    )


COOKIES: tuple[tuple[str, str, str], ...] = (
    ("one", "a=1", "a=1"),
    ("with all its words", "a=1; Path=/; HttpOnly; SameSite=None; Max-Age=100", "a=1"),
    ("that has expired", "a=1; Max-Age=0", ""),
    ("that expired long ago", "a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT", ""),
    ("for another path", "a=1; Path=/elsewhere", ""),
    ("for https only", "a=1; Secure", ""),
    ("for another domain", "a=1; Domain=example.com", ""),
    ("with a value in quotes", 'a="1 2"', 'a="1 2"'),
    ("with JSON in it", 'a={"b":[1,2]}', 'a={"b":[1,2]}'),
    ("with = in it", "a=b=c==", "a=b=c=="),
    ("without a value", "a=", "a="),
    ("without a name", "=1", ""),
    ("without =", "justaword", ""),
    ("that wants to inject", "a=1\x01b", ""),
)


def _cookie(what: str, header: str, sent: str) -> Given:
    """A cookie that is set by a redirect and what of it comes back."""

    def look(seen: Seen) -> str:
        return f"sent {seen.origin.exchanges[-1].header('Cookie') or ''!r}" if seen.outcome == WHOLE else seen.outcome

    script = by_path({"/f.bin": redirect("/g", headers={"Set-Cookie": header})}, answer())
    also = {"without =": "justaword", "without a name": "=1", "that wants to inject": "a=1\x01b"}.get(what, sent)
    expected = f"sent {sent!r} | sent {also!r}" + (" | protocol_error" if "\x01" in header else "")
    return Given(f"a cookie {what}", script, expected, look=look)


def _absolute(rest: str, zero: str = "") -> Callable[[Bench], Awaitable[str]]:
    async def tell(bench: Bench) -> str:
        base = ""

        async def script(exchange: Exchange) -> None:
            await (redirect(base + rest) if exchange.target == "/f.bin" else answer())(exchange)

        async with raw_origin(script, HOST) as origin:
            base = f"http://{HOST}:{zero}{origin.port}"
            done = await bench.job([origin.url()])
            return origin.exchanges[-1].target if done.code(0) == "done" else done.code(0)

    return tell


async def _referer(bench: Bench) -> str:
    async with raw_origin(answer(), OTHER_HOST) as other, raw_origin(redirect(other.url()), HOST) as origin:
        await bench.job([{"url": origin.url("/f.bin?sig=s3cr3t"), "headers": SECRETS}])
        return other.exchanges[0].header("Referer") or "none"


async def _without_goodbye(bench: Bench) -> str:
    """TLS without a close_notify, no length: a cut cannot be told from the end, so it must not count as verified."""
    serving = (await bench.authority()).server("good")

    async def rude(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\n\r\n" + BODY[:1000])
        await asyncio.sleep(0.05)
        exchange.writer.transport.abort()

    async with raw_origin(rude, HOST, ssl=serving) as origin:
        done = await bench.job([origin.url()])
    verified = done.files[0].get("lengthVerified")
    return done.code(0) if done.code(0) != "done" else f"done, verified: {verified}"


CASES: tuple[Case, ...] = (
    Case("B09.2", "resuming, further", _resumes()),
    Case("B13.2", "statuses, further", tuple(_status(what, *rest) for what, rest in STATUSES.items())),
    Case("B20.2", "Retry-After, further", _pauses()),
    Case("B15.2", "redirects and cookies, further", _locations()),
    Case(
        "B27.2",
        "TLS, further",
        (Story("a body that ends without a close_notify", "truncated | done, verified: False", _without_goodbye),),
    ),
)
