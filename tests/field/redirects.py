"""B: redirects, what is sent along with them, and URLs that must not be re-quoted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from tests.field.answers import (
    BODY,
    answer,
    by_path,
    redirect,
    verbatim,
)
from tests.field.bench import Bench
from tests.field.case import WHOLE, Case, Given, Seen, Story, with_requests
from tests.field.host import HOST, OTHER_HOST
from tests.origins import Exchange, RawOrigin, Script, raw_origin

SECRETS = {"Authorization": "Bearer s3cr3t", "X-Api-Key": "s3cr3t", "Cookie": "id=s3cr3t", "X-Custom": "s3cr3t"}


def _secrets_seen(origin: RawOrigin) -> str:
    """Which header names carried a secret to this origin."""
    seen = {
        key.lower()
        for one in origin.exchanges
        for key, value in one.headers
        if "s3cr3t" in value or "dTpzM2NyM3Q" in value
    }
    return ", ".join(sorted(seen)) or ("nothing" if origin.exchanges else "not even a request")


def _leak(what: str, expected: str, follow: Callable[[Bench, AsyncExitStack], Any]) -> Story:
    async def tell(bench: Bench) -> str:
        async with AsyncExitStack() as stack:
            url, observed = await follow(bench, stack)
            done = await bench.job([{"url": url, "headers": SECRETS}])
            assert done.code(0) == "done", done.code(0)
            return _secrets_seen(observed)

    return Story(what, expected, tell)


async def _to_other_port(bench: Bench, stack: AsyncExitStack) -> tuple[str, RawOrigin]:
    target = await stack.enter_async_context(raw_origin(answer(), HOST))
    origin = await stack.enter_async_context(raw_origin(redirect(target.url()), HOST))
    return origin.url(), target


async def _to_other_address(bench: Bench, stack: AsyncExitStack) -> tuple[str, RawOrigin]:
    target = await stack.enter_async_context(raw_origin(answer(), OTHER_HOST))
    origin = await stack.enter_async_context(raw_origin(redirect(target.url(), "307 Go"), HOST))
    return origin.url(), target


async def _userinfo_to_other_port(bench: Bench, stack: AsyncExitStack) -> tuple[str, RawOrigin]:
    url, target = await _to_other_port(bench, stack)
    return url.replace("//", "//u:s3cr3t@"), target


async def _to_same(bench: Bench, stack: AsyncExitStack) -> tuple[str, RawOrigin]:
    origin = await stack.enter_async_context(raw_origin(by_path({"/f.bin": redirect("/second.bin")}, answer()), HOST))
    return origin.url(), _later(origin)


def _later(origin: RawOrigin) -> RawOrigin:
    """The same origin, seen without its first request."""
    shown = RawOrigin(origin.host, origin.port)
    shown.exchanges = _Tail(origin.exchanges)
    return shown


class _Tail(list[Exchange]):
    """All but the first of another list, whenever it is looked at."""

    def __init__(self, of: list[Exchange]) -> None:
        super().__init__()
        self._of = of

    def __iter__(self) -> Any:
        return iter(self._of[1:])

    def __len__(self) -> int:
        return max(0, len(self._of) - 1)


async def _there_and_back(bench: Bench, stack: AsyncExitStack) -> tuple[str, RawOrigin]:
    """A to B to A: what was dropped at B must not come back."""
    back: dict[str, str] = {}

    async def elsewhere(exchange: Exchange) -> None:
        await exchange.answer("302 Found", {"Location": back["url"]})

    other = await stack.enter_async_context(raw_origin(elsewhere, HOST))
    origin = await stack.enter_async_context(raw_origin(by_path({"/f.bin": redirect(other.url())}, answer()), HOST))
    back["url"] = origin.url("/home.bin")
    return origin.url(), _later(origin)


async def _downgrade(bench: Bench, stack: AsyncExitStack) -> tuple[str, RawOrigin]:
    target = await stack.enter_async_context(raw_origin(answer(), HOST))
    tls = (await bench.authority()).server("good")
    origin = await stack.enter_async_context(raw_origin(redirect(target.url()), HOST, ssl=tls))
    return origin.url(), target


def _cookie(exchange_name: str) -> Script:
    async def script(exchange: Exchange) -> None:
        if exchange_name in (exchange.header("Cookie") or ""):
            await exchange.answer("200 OK", {}, BODY)
        else:
            await exchange.answer(
                "302 Found", {"Location": exchange.target, "Set-Cookie": f"{exchange_name}=1; Path=/"}
            )

    return script


async def _endless_paths(exchange: Exchange) -> None:
    await exchange.answer("302 Found", {"Location": f"/{exchange.number}"})


def _nowhere() -> tuple[Given | Story, ...]:
    invalid = "redirect_invalid"
    to_b = {"/a/b/f.bin": redirect("../x.bin")}
    return (
        Given("a loop", redirect("/f.bin"), "too_many_redirects, 6 requests", look=with_requests),
        Given(
            "two that point at each other",
            by_path({"/f.bin": redirect("/g")}, redirect("/f.bin")),
            "too_many_redirects, 6 requests",
            look=with_requests,
        ),
        Given("ever new paths", _endless_paths, "too_many_redirects, 6 requests", look=with_requests),
        Given("to itself until its cookie comes", _cookie("seen"), f"{WHOLE}, 2 requests", look=with_requests),
        Given("no Location", redirect(None), invalid),
        Given("no Location but a body", answer({}, BODY, "302 Found"), invalid),
        Given("no Location, 301", redirect(None, "301 Moved"), invalid),
        Given("no Location, 307", redirect(None, "307 Go"), invalid),
        Given("Location: 'http://'", redirect("http://"), invalid),
        Given("Location: 'https:///x'", redirect("https:///x"), f"{invalid} | bad_url"),
        Given("Location: ''", verbatim(b"HTTP/1.1 302 F\r\nLocation:\r\nContent-Length: 0\r\n\r\n"), invalid),
        Given("Location: blanks", verbatim(b"HTTP/1.1 302 F\r\nLocation:   \r\nContent-Length: 0\r\n\r\n"), invalid),
        Given("Location: '//'", redirect("//"), invalid),
        Given("Location: an open bracket", redirect("http://[::1"), f"{invalid} | bad_url"),
        Given("Location: '#frag'", redirect("#frag"), "too_many_redirects, 6 requests", look=with_requests),
        Given("Location: '?q'", by_path({"/f.bin": redirect("?q")}, answer())),
        Given("Location: '../x.bin'", by_path(to_b, answer()), "/a/x.bin", "/a/b/f.bin", look=_last_target),
        Given(
            "Location: with a fragment",
            by_path({"/f.bin": redirect("/x.bin#part")}, answer()),
            "/x.bin",
            look=_last_target,
        ),
        Given("Location with blanks around", by_path({"/f.bin": redirect("  /x.bin ")}, answer())),
        Given(
            "Location in Latin-1",
            by_path(
                {"/f.bin": verbatim(b"HTTP/1.1 302 F\r\nLocation: /caf\xe9\r\nContent-Length: 0\r\n\r\n")}, answer()
            ),
            "/caf%E9",
            look=_last_target,
        ),
        Given("301, 303, 307, 308 in a row", _chain("301 A", "303 B", "307 C", "308 D")),
        Given("five redirects", _chain(*["302 Found"] * 5)),
        Given("six redirects", _chain(*["302 Found"] * 6), "too_many_redirects"),
        Story("Location: '//other:port/x.bin'", "whole", _other_port),
        Story("a cookie is not shared between files", "2, 2 requests", _cookies_apart),
        Story("a cookie does not go to another host", "nothing", _cookie_abroad),
    )


def _chain(*statuses: str) -> Script:
    """One redirect for each status, then the file."""
    steps = {f"/f.bin{'x' * at}": redirect(f"/f.bin{'x' * (at + 1)}", status) for at, status in enumerate(statuses)}
    return by_path(steps, answer())


def _last_target(seen: Seen) -> str:
    return seen.origin.exchanges[-1].target if seen.outcome == WHOLE else seen.outcome


async def _other_port(bench: Bench) -> str:
    async with raw_origin(answer(), HOST) as other:
        location = f"//{HOST}:{other.port}/x.bin"
        async with raw_origin(redirect(location), HOST) as origin:
            done = await bench.job([origin.url()])
    return WHOLE if done.data(0) == BODY else done.code(0)


async def _cookies_apart(bench: Bench) -> str:
    async with raw_origin(_cookie("mine"), HOST) as origin:
        await bench.job([origin.url("/one")])
        first = len(origin.exchanges)
        await bench.job([origin.url("/two")])
        return f"{first}, {len(origin.exchanges) - first} requests"


async def _cookie_abroad(bench: Bench) -> str:
    async with raw_origin(answer(), OTHER_HOST) as other:
        moved = redirect(other.url(), headers={"Set-Cookie": "id=s3cr3t"})
        async with raw_origin(moved, HOST) as origin:
            await bench.job([origin.url()])
        return _secrets_seen(other)


TARGETS = (
    "/p?sig=a%2Fb%40c%2B%3D&x=a+b&y=%7E",
    "/f%2Fg%20h.bin?X-Amz-Signature=0a%2f%2F&response-content-disposition=a%3B%20b",
    "/a%2fb%2Fc/d;v=1,2/e!$&'()*+,=:@",
    "/?",
    "/x?&&a==b&",
    "/x??y?z",
    "/./a/../b//c",
    "/%41%7e%ff%zz%",
    "/%25%32%46",
    "/p?url=http://u:p@h/x%3fy%3dz",
    "/tilde~dash-dot.under_",
    "/p?a=[1]&b={2}".replace("{", "%7B").replace("}", "%7D"),
)


def _exact() -> tuple[Given | Story, ...]:
    direct = tuple(Given(f"sent as given: {target}", answer(), target, target, look=_last_target) for target in TARGETS)
    hops = tuple(
        Given(f"twice redirected: {target}", _twice(target), target, "/start", look=_last_target) for target in TARGETS
    )
    return (
        *direct,
        *hops,
        Given("only what is illegal is encoded", answer(), "/a%20b%7B?%C3%A9%22", '/a b{?é"', look=_last_target),
        Given("a fragment is not sent", answer(), "/x?a", "/x?a#b?c", look=_last_target),
    )


def _twice(target: str) -> Script:
    """`/start` leads to `target`, which leads to itself once more."""
    seen = 0

    async def script(exchange: Exchange) -> None:
        nonlocal seen
        seen += exchange.target != "/start"
        if exchange.target == "/start" or seen % 2:
            await exchange.answer("302 Found", {"Location": target})
        else:
            await exchange.answer("200 OK", {}, BODY)

    return script


CASES: tuple[Case, ...] = (
    Case(
        "B14",
        "credentials and redirects",
        (
            _leak("302 to another port", "nothing", _to_other_port),
            _leak("307 to another address", "nothing", _to_other_address),
            _leak("userinfo, 302 to another port", "nothing", _userinfo_to_other_port),
            _leak("302 within the origin: kept", "authorization, cookie, x-api-key, x-custom", _to_same),
            _leak("302 there and back", "nothing", _there_and_back),
            _leak("https to http", "nothing", _downgrade),
        ),
    ),
    Case("B15", "redirects that cannot be followed", _nowhere()),
    Case("B16", "signed URLs go out byte for byte", _exact()),
)
