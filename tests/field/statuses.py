"""B: statuses that are no file, or not yet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from tests.field.answers import (
    BODY,
    answer,
    by_path,
    chunked,
    in_turn,
    part,
    silent,
    verbatim,
)
from tests.field.bench import Bench
from tests.field.case import WHOLE, Case, Given, Seen, Story, with_requests
from tests.field.host import HOST
from tests.origins import Exchange, Script, raw_origin

SIZE = len(BODY)


STATUSES: dict[str, tuple[Script, str]] = {
    "206 bytes 0-4/100": (
        answer({"Content-Range": "bytes 0-4/100"}, b"hello", "206 Partial Content"),
        "unexpected_status",
    ),
    "206 bytes 95-99/100": (
        answer({"Content-Range": "bytes 95-99/100"}, b"hello", "206 Partial Content"),
        "unexpected_status",
    ),
    "206 without a range": (answer({}, BODY, "206 Partial Content"), "unexpected_status"),
    "206 bytes 0-4/*": (answer({"Content-Range": "bytes 0-4/*"}, b"hello", "206 Partial Content"), "unexpected_status"),
    "204": (verbatim(b"HTTP/1.1 204 No Content\r\n\r\n", lambda exchange: None), "unexpected_status"),
    "204, connection closed": (verbatim(b"HTTP/1.1 204 No Content\r\n\r\n"), "unexpected_status"),
    "205": (answer({}, b"", "205 Reset Content"), "unexpected_status"),
    "202 with a body": (answer({}, b"later", "202 Accepted"), "unexpected_status"),
    "201 with a body": (answer({}, b"made", "201 Created"), "unexpected_status"),
    "226": (answer({}, b"delta", "226 IM Used"), "unexpected_status"),
    "299": (answer({}, b"what", "299 What"), "unexpected_status"),
    "304": (verbatim(b"HTTP/1.1 304 Not Modified\r\n\r\n", lambda exchange: None), "unexpected_status"),
    "300": (answer({"Location": "/good"}, b"", "300 Multiple Choices"), "unexpected_status | http_status:300"),
    "401": (answer({"WWW-Authenticate": "Basic"}, b"", "401 Unauthorized"), "http_status:401"),
    "403": (answer({}, b"", "403 Forbidden"), "http_status:403"),
    "410": (answer({}, b"", "410 Gone"), "http_status:410"),
    "451": (answer({}, b"", "451 No"), "http_status:451"),
    "500": (answer({}, b"", "500 Oops"), "http_status:500"),
    "599": (answer({}, b"", "599 Oops"), "http_status:599"),
    "999": (answer({}, b"", "999 Denied"), "http_status:999 | unexpected_status | protocol_error"),
}


def _status(what: str, script: Script, expected: str) -> Story:
    """A bad answer, and a good file on the same host that must not suffer from it."""

    async def tell(bench: Bench) -> str:
        async with raw_origin(by_path({"/bad": script}, answer()), HOST) as origin:
            done = await bench.job([origin.url("/bad"), origin.url("/good"), origin.url("/good/again")])
        assert done.data(1) == done.data(2) == BODY, "the good files of the same host"
        return "; ".join(done.complaints()) or done.code(0)

    return Story(f"{what}, then a good file of the same host", expected, tell)


def _whole_206() -> Given:
    return Given("an unasked 206 that is the whole file", part(0, SIZE - 1))


def _later_answer(retry_after: Callable[[], str], status: str, gap: str, expected_gap_s: tuple[float, float]) -> Given:
    """A refusal with Retry-After, then the file; the gap between both requests is looked at."""

    async def refusing(exchange: Exchange) -> None:
        await exchange.answer(status, {"Retry-After": retry_after()})

    def look(seen: Seen) -> str:
        if seen.outcome != WHOLE:
            return seen.outcome
        waited_s = seen.origin.times[1] - seen.origin.times[0]
        return "whole in time" if expected_gap_s[0] <= waited_s <= expected_gap_s[1] else f"after {waited_s:.2f} s"

    return Given(f"{status}, {gap}", in_turn(refusing, answer()), "whole in time", look=look)


def _in_date(seconds: float) -> Callable[[], str]:
    return lambda: format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


def _pacing() -> tuple[Given, ...]:
    many, down = "429 Too Many Requests", "503 Service Unavailable"
    soon = (0.0, 1.6)
    refused = answer({"Retry-After": "3600"}, b"", many)
    return (
        _later_answer(lambda: "1", many, "1 second", (0.95, 3.0)),
        _later_answer(lambda: "1", down, "1 second", (0.95, 3.0)),
        _later_answer(_in_date(2.5), down, "a date in 2 seconds", (1.0, 4.5)),
        _later_answer(_in_date(2.5), many, "a date in 2 seconds", (1.0, 4.5)),
        _later_answer(_in_date(-100), many, "a date that has passed", soon),
        _later_answer(lambda: "0", down, "0", soon),
        _later_answer(lambda: "-5", down, "-5", soon),
        _later_answer(lambda: "soon", many, "a word", soon),
        _later_answer(lambda: "1.5", down, "1.5", (0.0, 3.5)),
        _later_answer(lambda: "", down, "none", soon),
        Given("429, an hour: no", refused, "http_status:429, 1 requests", look=with_requests),
        Given(
            "503 with a far date: no",
            answer({"Retry-After": "Fri, 01 Jan 2100 00:00:00 GMT"}, b"", down),
            "http_status:503",
        ),
        Given(
            "429 always, without patience",
            answer({"Retry-After": "0"}, b"", many),
            "http_status:429, 3 requests",
            look=with_requests,
        ),
        Given("500 once", in_turn(answer({}, b"", "500 Oops"), answer())),
        Given(
            "502, 504, then the file",
            in_turn(answer({}, b"", "502 Bad Gateway"), answer({}, b"", "504 Late"), answer()),
        ),
        Given("408 once", in_turn(answer({}, b"", "408 Timeout"), answer())),
    )


def _once(refusal: Script) -> Script:
    """Good for exactly one request."""
    return in_turn(answer(), refusal)


def _one_get() -> tuple[Given, ...]:
    once = f"{WHOLE}, 1 requests"
    return (
        Given("a link that works once", _once(answer({}, b"", "410 Gone")), once, look=with_requests),
        Given("a second request is reset", _once(verbatim(b"", Exchange.reset)), once, look=with_requests),
        Given("a second request hangs", _once(silent), once, look=with_requests),
        Given("HEAD is refused: none is sent", _once(answer({}, b"", "405 No")), once, look=with_requests),
        Given("an unknown length needs no look either", in_turn(chunked(BODY), silent), once, look=with_requests),
    )


CASES: tuple[Case, ...] = (
    Case(
        "B13", "statuses that are no file", (*(_status(what, *rest) for what, rest in STATUSES.items()), _whole_206())
    ),
    Case("B20", "Retry-After", _pacing()),
    Case("B22", "one GET and nothing else", _one_get()),
)
