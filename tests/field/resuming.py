"""B: transfers that go on after a cut, and files that change meanwhile."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from email.utils import format_datetime

from tests.field.answers import (
    BODY,
    ETAG,
    answer,
    cut,
    in_turn,
    part,
)
from tests.field.case import WHOLE, Case, Given, Seen, with_requests
from tests.origins import Exchange, Script

SIZE = len(BODY)


CUT_AT = 80_000


def _resumed(second: Script, *, first: dict[str, str] = ETAG) -> Script:
    """Cut after 80,000 of 200,000 bytes, then `second`, then the whole file."""
    return in_turn(cut(CUT_AT, first), second, answer(ETAG))


def _resumes() -> tuple[Given, ...]:
    last = SIZE - 1
    two = {"ETag": '"two"'}
    multi = {"Content-Type": "multipart/byteranges; boundary=x", "Content-Range": ""}
    late = {
        "Last-Modified": format_datetime(datetime.now(UTC), usegmt=True),
        "Date": format_datetime(datetime.now(UTC), usegmt=True),
    }
    return (
        Given("the right 206", _resumed(part(CUT_AT, last)), f"{WHOLE}, 2 requests, Range", look=_ranged),
        Given("200 with the whole file", _resumed(answer(ETAG))),
        Given("200 with the whole file, no validator", _resumed(answer())),
        Given("206 from byte 0", _resumed(part(0, last))),
        Given("206 that begins 4096 earlier", _resumed(part(CUT_AT - 4096, last))),
        Given("206 that begins 1 later", _resumed(part(CUT_AT + 1, last))),
        Given("206 that is shorter than the rest", _resumed(part(CUT_AT, 120_000))),
        Given("206 that is cut in its turn", _resumed(cut_part(CUT_AT, last, 100))),
        Given("206 without Content-Range", _resumed(part(CUT_AT, last, headers={"Content-Range": ""}))),
        Given(
            "206 in another unit",
            _resumed(part(CUT_AT, last, headers={"Content-Range": f"lines {CUT_AT}-{last}/{SIZE}"})),
        ),
        Given("206 of another total", _resumed(part(CUT_AT, last, total=SIZE + 7))),
        Given(
            "206 of an unknown total",
            _resumed(part(CUT_AT, last, headers={"Content-Range": f"bytes {CUT_AT}-{last}/*"})),
        ),
        Given("206 of another version", _resumed(part(CUT_AT, last, headers=two))),
        Given("206 that is multipart", _resumed(part(CUT_AT, last, headers=multi))),
        Given("416", _resumed(answer({"Content-Range": f"bytes */{SIZE}"}, b"", "416 Range Not Satisfiable"))),
        Given("500, then the whole", _resumed(answer({}, b"", "500 Oops"))),
        Given("404 at the second try", _resumed(answer({}, b"", "404 Gone")), "http_status:404"),
        Given(
            "a page at the second try",
            _resumed(answer({"Content-Type": "text/html"}, b"<!doctype html><p>no")),
            f"html_instead_of_file | {WHOLE}",
            "/f.zip",
        ),
        Given(
            "a weak ETag is no ground to go on",
            _resumed(answer(), first={"ETag": 'W/"one"'}),
            f"{WHOLE}, 2 requests, no Range",
            look=_ranged,
        ),
        Given(
            "nor is a date of this minute",
            _resumed(answer(), first=late),
            f"{WHOLE}, 2 requests, no Range",
            look=_ranged,
        ),
        Given("nor is nothing", _resumed(answer(), first={}), f"{WHOLE}, 2 requests, no Range", look=_ranged),
    )


def cut_part(first: int, last: int, sent: int) -> Script:
    """A 206 that breaks off after `sent` bytes."""

    async def script(exchange: Exchange) -> None:
        headers = {"Content-Range": f"bytes {first}-{last}/{SIZE}", "Content-Length": str(last - first + 1)}
        await exchange.answer("206 Partial Content", headers | ETAG, BODY[first : first + sent])
        exchange.hang_up()

    return script


def _ranged(seen: Seen) -> str:
    has_range = any(exchange.header("Range") for exchange in seen.origin.exchanges)
    return f"{with_requests(seen)}, {'Range' if has_range else 'no Range'}"


def _changes() -> tuple[Given, ...]:
    old, new = b"A" * SIZE, b"B" * SIZE
    one, two = ETAG, {"ETag": '"two"'}
    longer = new + b"B"
    day, other_day = (
        {"Last-Modified": f"{day} Nov 1994 08:49:37 GMT", "Date": "Wed, 25 Nov 2026 12:00:00 GMT"}
        for day in ("Sun, 06", "Mon, 07")
    )

    def of(data: bytes, headers: dict[str, str]) -> Script:
        async def script(exchange: Exchange) -> None:
            first = int((exchange.header("Range") or "bytes=0-")[6:].partition("-")[0])
            if first:
                placed = {"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"} | headers
                await exchange.answer("206 Partial Content", placed, data[first:])
            else:
                await exchange.answer("200 OK", headers, data)

        return script

    def then(second: Script, last: Script, first: dict[str, str] = one) -> Script:
        return in_turn(cut(CUT_AT, first, old), second, last)

    return (
        Given("If-Range honoured: 200 of version 2", then(answer(two, new), answer(two, new)), body=new),
        Given("If-Range ignored: 206 of version 2", then(of(new, two), of(new, two)), body=new),
        Given("206 of version 2 without a validator", then(part_of(new), answer(two, new)), body=new),
        Given("206 of version 2, longer by one byte", then(of(longer, two), of(longer, two)), body=longer),
        Given("version 2 by its date", then(of(new, other_day), of(new, other_day), day), body=new),
        Given(
            "the same version by its date",
            then(of(old, day), of(old, day), day),
            f"{WHOLE}, 2 requests, Range",
            body=old,
            look=_ranged,
        ),
        Given("no validator, version 2", then(answer({}, new), answer({}, new), {}), body=new),
        Given("version 2 is empty", then(answer(two, b""), answer(two, b"")), body=b""),
        Given(
            "another version at every try, always cut",
            in_turn(cut(CUT_AT, one, old), cut(CUT_AT, two, new), cut(CUT_AT, {"ETag": '"three"'}, old)),
            "truncated | source_changed",
        ),
        Given(
            "coded differently at the second try",
            then(answer(one | {"Content-Encoding": "gzip"}, gzip.compress(old)), answer(one, old)),
            body=old,
        ),
    )


def part_of(data: bytes) -> Script:
    """The rest of other data, without any validator."""
    placed = {"Content-Range": f"bytes {CUT_AT}-{len(data) - 1}/{len(data)}"}
    return answer(placed, data[CUT_AT:], "206 Partial Content")


CASES: tuple[Case, ...] = (
    Case("B09", "a Range that is not honoured as asked", _resumes()),
    Case("B11", "the file changes between two attempts", _changes()),
)
