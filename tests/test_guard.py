"""No source reaches an inner address: not by name, literal, spelling, redirect, rebinding or reconnection."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from downloader.config import SourcesSettings
from downloader.errors import SourceError
from downloader.jobs import Source
from downloader.work.connector import Lookup, system_lookup, tls_context
from downloader.work.fetch import Fetcher, Surroundings
from downloader.work.guard import Guard, is_public
from downloader.work.threads import threads
from downloader.work.urls import HostRules, parse
from tests.origins import Bin, Exchange, RawOrigin, raw_origin

REFUSED = """
    0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1 127.1.2.3
    127.255.255.255 168.63.129.16 169.254.0.1 169.254.169.254 169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.1
    192.0.0.170 192.0.2.1 192.31.196.1 192.52.193.1 192.88.99.1 192.168.0.1 192.168.255.255 192.175.48.1 198.18.0.1
    198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
    :: ::1 ::2 ::7f00:1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:0.0.0.0 ::ffff:10.0.0.1 ::ffff:169.254.169.254
    ::ffff:0:127.0.0.1 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b::10.0.0.1 64:ff9b:1::1 64:ff9b:1:fffe::808:808
    100::1 100:0:0:1::1 2001::1 2001:0:4136:e378:8000:63bf:80ff:fffe 2001:2::1 2001:10::1 2001:20::1 2001:db8::1
    2002:7f00:1:: 2002:a9fe:a9fe:: 2002:a00:1::1 2002:c0a8:101:: 2620:4f:8000::1 3ffe::1 3fff::1 5f00::1
    fc00::1 fd00::1 fd00:ec2::254 fe80::1 fe80::1%1 febf::1 fec0::1 ff02::1 ff0e::1 4000::1 e000::1
    ::ffff:168.63.129.16 64:ff9b::168.63.129.16 64:ff9b::100.64.0.1 2002:e000:1::
""".split()
ALLOWED = """
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1 168.63.129.15
    168.63.129.17 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.167.255.255 192.169.0.0
    198.17.255.255 198.20.0.0 223.255.255.255 2606:4700:4700::1111 2001:4860:4860::8888 2a00:1450::1 2400::1
    2003::1 ::ffff:8.8.8.8 64:ff9b::808:808 64:ff9b::8.8.8.8 2002:808:808::1 2001:0:808:808:0:0:f7f7:f7f7
""".split()


@pytest.mark.parametrize("text", REFUSED)
def test_addresses_that_are_refused(text: str) -> None:
    """Everything that is not public unicast, whatever it is wrapped in."""
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", ALLOWED)
def test_addresses_that_are_public(text: str) -> None:
    """The neighbours of the refused ranges, and wrapped public addresses, pass."""
    assert is_public(ipaddress.ip_address(text))


@given(st.ip_addresses())
def test_nothing_passes_that_python_calls_private(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """The table is at least as strict as the standard library, wrappings aside."""
    if is_public(address):
        assert address.is_global or address in ipaddress.ip_network("64:ff9b::/96") or address.version == 6
        assert not any((address.is_loopback, address.is_link_local, address.is_multicast, address.is_unspecified))


@pytest.mark.parametrize(
    ("networks", "address", "passes"),
    [
        (["10.0.0.0/8"], "10.1.2.3", True),
        (["10.0.0.0/8"], "::ffff:10.1.2.3", True),
        (["10.0.0.0/8"], "64:ff9b::10.1.2.3", False),
        (["10.0.0.0/8"], "192.168.0.1", False),
        (["127.0.0.1"], "127.0.0.1", True),
        (["127.0.0.1/32"], "127.0.0.2", False),
        (["fd00::/8"], "fd00:ec2::254", True),
        ([], "8.8.8.8", True),
    ],
)
def test_operators_exceptions(networks: list[str], address: str, passes: bool) -> None:
    """What is in allow_networks passes, and nothing beside it."""
    assert Guard(networks).allows(ipaddress.ip_address(address)) is passes


# End to end: a public origin (allowed by its address), and canaries that must never be dialled.

CANARY_HOST = "127.0.0.66"
TLS = tls_context()


@asynccontextmanager
async def canaries() -> AsyncIterator[list[RawOrigin]]:
    """Listeners on IPv4 and IPv6 loopback that would answer anybody."""

    async def betray(exchange: Exchange) -> None:
        await exchange.answer("200 OK", {}, b"inner secrets")

    async with raw_origin(betray, CANARY_HOST) as four, raw_origin(betray, "::1") as six:
        yield [four, six]


@asynccontextmanager
async def fetching(lookup: Lookup = system_lookup, **changes: Any) -> AsyncIterator[Fetcher]:
    """A fetcher to which only 127.0.0.1 is public."""

    async def no_pause(seconds: float) -> None:
        await asyncio.sleep(0)

    outside = Surroundings(tls=TLS, sleep=no_pause, names_ttl_s=0, lookup=lookup)
    fields: dict[str, Any] = {
        "allow_networks": ["127.0.0.1/32"],
        "attempts": 2,
        "connect_timeout_s": 1,
        "idle_timeout_s": 2,
    } | changes
    with threads() as pools:
        async with Fetcher.open(SourcesSettings(**fields), pools, outside) as fetcher:
            yield fetcher


async def refusal(fetcher: Fetcher, url: str) -> SourceError:
    """The error that fetching `url` ends with; not a byte may arrive."""
    sink = Bin()
    with pytest.raises(SourceError) as caught:
        await fetcher.fetch(Source(0, 0, url), sink)
    assert not sink.chunks
    return caught.value


def resolved(*addresses: str) -> list[tuple[Any, ...]]:
    """What getaddrinfo says for these addresses, port 0 standing for the canary's."""
    return [
        (
            socket.AF_INET6 if ":" in text else socket.AF_INET,
            socket.SOCK_STREAM,
            6,
            "",
            (text, 80, 0, 0)[: 4 if ":" in text else 2],
        )
        for text in addresses
    ]


HOSTS = [
    # literal addresses
    "127.0.0.66", "[::1]", "[::ffff:127.0.0.66]", "[::ffff:7f00:42]", "[0:0:0:0:0:0:0:1]", "[::127.0.0.66]",
    "[::]", "0.0.0.0",
    "[64:ff9b::127.0.0.66]", "[2002:7f00:42::]", "[fe80::1]", "[fd00:ec2::254]", "169.254.169.254", "169.254.170.2",
    "100.100.100.200", "168.63.129.16", "10.0.0.1", "192.168.1.1", "172.16.0.1", "224.0.0.1", "255.255.255.255",
    # spellings that only inet_aton knows
    "2130706433", "2130706498", "017700000001", "017700000102", "0x7f000001", "0x7f000042", "0X7F000042", "127.1",
    "127.66",
    "127.0.66", "0177.0.0.1", "0177.0.0.0102", "0x7f.1", "0x7f.0.0.0x42", "0x7f.66", "127.0.0.0102", "127.0.0.0x42",
    "0251.0376.0251.0376", "169.254.43518", "2852039166", "0xa9fea9fe", "0", "00", "0x0", "0x", "1", "127",
    "127.0.0.066",
    "0127.0.0.1", "127.00.00.66", "127.0.0.66.", "127.0.0.1.66", "256.0.0.1", "4294967296", "18446744073709551617",
    "012.0.0.1", "10.1", "0xa.1", "999999999999999999999", "127.0.0.", "127..0.66", ".127.0.0.66", "1.2.3.4.5.6",
    # other alphabets, escapes, names
    "\uff11\uff12\uff17.0.0.66", "\u2460\u2461\u2466.0.0.66", "127\u30020\u30020\u300266", "127.0.0.%36%36",
    "%31%32%37.0.0.66",
    "127%2e0.0.66", "localhost", "localhost.", "LOCALHOST", "LocalHost.", "canary.test", "CANARY.test.", "xn--a.test",
    # users, ports and brackets that confuse
    "127.0.0.1@127.0.0.66", "127.0.0.1%40127.0.0.66", "127.0.0.66\\@127.0.0.1", "127.0.0.1#@127.0.0.66",
    "[::1%25lo]", "[::1%lo]", "[::1", "::1", "[127.0.0.66]", "[v1.x]", "[]", "", ".", "..", "a..b", "-",
    "127.0.0.66\t", "127.0.0.66 ",
    "\t127.0.0.66", "127.0.0.66\r\n", "127.0.0.66\x00", "user:pass@localhost", "@127.0.0.66", ":@[::1]",
    "\u2603.test", "exa_mple.test", "a" * 64 + ".test", "a." * 140 + "test", "\ud800.test", "\u202e.test",
    "localho\u017ft",
    "\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3", "127.0.0.66.nip.test", "0x7f000042.test",
]  # fmt: skip


def inner_lookup(host: str, port: int) -> list[tuple[Any, ...]]:
    """A resolver that sends every name to the canaries, as an attacker's would, and libc for numbers."""
    return [
        (family, kind, protocol, name, (address[0], port, *address[2:]))
        for family, kind, protocol, name, address in resolved(CANARY_HOST, "::1")
    ]


@pytest.mark.parametrize("host", HOSTS)
async def test_no_spelling_reaches_the_canary(host: str) -> None:
    """Directly and through a redirect; what comes out is always a known code."""
    async with canaries() as inner, fetching(inner_lookup) as fetcher:

        async def redirecting(exchange: Exchange) -> None:
            wanted = f"http://{host}:{port}/x".encode("utf-8", "surrogatepass")
            await exchange.send(
                b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + wanted.replace(b"\r\n", b"") + b"\r\n\r\n"
            )

        async with raw_origin(redirecting) as origin:
            for canary in inner:
                port = canary.port
                fault = await refusal(fetcher, f"http://{host}:{port}/x")
                assert fault.code in ("bad_url", "blocked_address", "dns_failure", "connect_failed")
                again = await refusal(fetcher, origin.url("/go"))
                assert again.code in (
                    "bad_url",
                    "blocked_address",
                    "redirect_invalid",
                    "dns_failure",
                    "connect_failed",
                    "protocol_error",
                )
        assert [canary.connections for canary in inner] == [0, 0]


@pytest.mark.parametrize("address", [text for text in REFUSED if "%" not in text])
async def test_names_that_resolve_inside_are_refused(address: str) -> None:
    """Each refused address as a name's only one: one answer for all, which tells nothing."""
    async with fetching(lambda host, port: resolved(address), allow_networks=[]) as fetcher:
        fault = await refusal(fetcher, "http://name.test/")
    assert (fault.code, fault.message) == ("blocked_address", "the source's address is not allowed")


NUMERIC = (
    "2130706433 017700000001 0x7f000001 0X7F000001 127.1 127.0.1 0177.0.0.1 0x7f.1 0251.0376.0251.0376 169.254.43518 "
    "2852039166 0 0x 00.0.0.0 08.8.8.8 8.8.8.010 8.8.2056 134744072 8.8.8.8. 1.2.3 1.2.3.4.5 256.0.0.1 a.1 a.0x1"
).split()


@pytest.mark.parametrize("host", NUMERIC)
def test_numbers_that_are_no_dotted_quad_are_no_host(host: str) -> None:
    """Public or not: what a checker and libc may read differently is not dialled at all."""
    with pytest.raises(SourceError) as caught:
        parse(f"http://{host}/")
    assert caught.value.code == "bad_url"


async def test_pooled_connection_that_died_is_judged_anew() -> None:
    """The pool's connection is dead and the name has moved inside: the new connection is refused, by its right name."""
    addresses = ["127.0.0.1", CANARY_HOST]

    async def script(exchange: Exchange) -> None:
        if exchange.number == 1:
            await exchange.answer("200 OK", {}, b"ok")
        else:
            exchange.reset()

    def lookup(host: str, port: int) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (addresses.pop(0), port))]

    async with raw_origin(script) as origin, fetching(lookup) as fetcher:
        await fetcher.fetch(Source(0, 0, f"http://moving.test:{origin.port}/"), Bin())
        assert (await refusal(fetcher, f"http://moving.test:{origin.port}/")).code == "blocked_address"
    assert not addresses


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("form", ["http://{canary}/", "//{canary}/", "HTTP://{canary}"])
async def test_redirects_inside_are_refused(status: int, form: str) -> None:
    """After one hop and after two, with every status; the inner host hears nothing."""
    async with canaries() as inner, fetching() as fetcher:

        async def script(exchange: Exchange) -> None:
            target = "/second" if exchange.target == "/first" else form.format(canary=f"{CANARY_HOST}:{inner[0].port}")
            await exchange.answer(f"{status} Go", {"Location": target})

        async with raw_origin(script) as origin:
            for path in ("/first", "/second"):
                assert (await refusal(fetcher, origin.url(path))).code == "blocked_address"
        assert [canary.connections for canary in inner] == [0, 0]


async def test_closed_and_open_inner_ports_look_the_same() -> None:
    """The message does not reveal whether anything listens."""
    async with canaries() as inner, fetching() as fetcher:
        faults = [await refusal(fetcher, f"http://{CANARY_HOST}:{port}/") for port in (inner[0].port, 9999)]
    assert {(fault.code, fault.message) for fault in faults} == {
        ("blocked_address", "the source's address is not allowed")
    }


async def refusal_after_a_cut(fetcher: Fetcher, url: str) -> SourceError:
    """The error of a fetch that has had some bytes before."""
    with pytest.raises(SourceError) as caught:
        await fetcher.fetch(Source(0, 0, url), Bin())
    return caught.value


async def test_rebinding_between_attempts() -> None:
    """The name is public at first and inner when the cut transfer connects again: nothing is dialled inside."""
    asked: list[str] = []

    async def cutting(exchange: Exchange) -> None:
        await exchange.answer("200 OK", {"Content-Length": "1000", "ETag": '"a"', "Connection": "close"}, b"x" * 100)
        exchange.hang_up()

    async with raw_origin(cutting) as origin, raw_origin(cutting, CANARY_HOST) as canary:

        def lookup(host: str, port: int) -> list[tuple[Any, ...]]:
            asked.append(host)
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1" if len(asked) == 1 else CANARY_HOST, port))
            ]

        async with fetching(lookup, attempts=5) as fetcher:
            assert (
                await refusal_after_a_cut(fetcher, f"http://rebinding.test:{origin.port}/")
            ).code == "blocked_address"
        assert len(asked) == 2
        assert origin.connections == 1
        assert canary.connections == 0


async def test_mixed_answers_reach_only_the_public_address() -> None:
    """A name with an inner and a public address is fetched from the public one."""
    async with raw_origin(lambda e: e.answer("200 OK", {}, b"public")) as origin, canaries() as inner:

        def lookup(host: str, port: int) -> list[tuple[Any, ...]]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (text, port)) for text in (CANARY_HOST, "127.0.0.1")]

        async with fetching(lookup) as fetcher:
            sink = Bin()
            await fetcher.fetch(Source(0, 0, f"http://mixed.test:{origin.port}/"), sink)
        assert sink.data == b"public"
        assert origin.exchanges[0].header("Host") == f"mixed.test:{origin.port}"
        assert inner[0].connections == 0


@pytest.mark.parametrize(
    "failure",
    [
        OSError("x"),
        UnicodeError("x"),
        TimeoutError(),
        socket.gaierror(socket.EAI_NONAME, "x"),
        socket.gaierror(socket.EAI_AGAIN, "x"),
        None,
    ],
)
async def test_lookups_that_fail_refuse(failure: Exception | None) -> None:
    """Whatever a resolver does, the answer is dns_failure and no connection."""

    def lookup(host: str, port: int) -> list[tuple[Any, ...]]:
        if failure is not None:
            raise failure
        return []

    async with fetching(lookup) as fetcher:
        assert (await refusal(fetcher, "http://name.test/")).code == "dns_failure"


async def test_addresses_that_cannot_be_read_refuse() -> None:
    """A resolver that answers nonsense reaches nothing."""
    async with fetching(lambda host, port: resolved("nonsense")) as fetcher:
        assert (await refusal(fetcher, "http://name.test/")).code in ("blocked_address", "dns_failure")


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "FILE:/etc/passwd", "ftp://h/x", "data:text/plain,hi", "javascript:1", "\tfile:///x",
     "//h/x", "blob:x", "jar:x", "about:blank", "gopher://h", "h/x", "", "ws://h", "httpx://h", "view-source:http://h"],
)  # fmt: skip
async def test_schemes(url: str) -> None:
    """Only http and https."""
    async with fetching() as fetcher:
        assert (await refusal(fetcher, url)).code == "bad_scheme"


@pytest.mark.parametrize(
    "port", ["0", "99999", "65536", "-1", "8o", "\uff18\uff10", "25", "22", "6379", "6667", "+80", " 80"]
)
async def test_ports(port: str) -> None:
    """Not a port, or the port of something else."""
    async with fetching() as fetcher:
        assert (await refusal(fetcher, f"http://127.0.0.1:{port}/")).code == "bad_url"


@pytest.mark.parametrize(
    ("allow", "deny", "host", "admitted"),
    [
        ([], [], "a.test", True),
        (["a.test"], [], "a.test", True),
        (["a.test"], [], "A.test.".lower(), True),
        (["a.test"], [], "b.a.test", False),
        (["*.a.test"], [], "b.a.test", True),
        (["*.a.test"], [], "a.test", False),
        (["*.a.test"], [], "xa.test", False),
        ([], ["a.test"], "a.test.", False),
        ([], ["*.A.test"], "x.y.a.test", False),
        (["*"], ["a.test"], "a.test", False),
        (["m\u00fcller.test"], [], "xn--mller-kva.test", True),
        ([], ["127.0.0.1"], "127.0.0.1", False),
        ([], ["[0:0:0:0:0:0:0:1]"], "::1", False),
    ],
)
def test_operators_lists_of_hosts(allow: list[str], deny: list[str], host: str, admitted: bool) -> None:
    """Denying wins; a pattern covers what is below it and nothing that only ends alike."""
    assert HostRules(allow, deny).admits(host) is admitted


async def test_denied_host_is_not_asked_even_by_redirect() -> None:
    """The lists hold for every hop."""
    leading = raw_origin(lambda e: e.answer("302 Found", {"Location": "http://denied.test/"}))
    async with leading as origin, fetching(deny_hosts=["*.test"]) as fetcher:
        assert (await refusal(fetcher, origin.url())).code == "blocked_address"
        assert (await refusal(fetcher, "http://DENIED.test./")).code == "blocked_address"


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would dial for us, past the guard."""
    async with canaries() as inner:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.66:{inner[0].port}")
        async with raw_origin(lambda e: e.answer("200 OK", {}, b"direct")) as origin, fetching() as fetcher:
            sink = Bin()
            await fetcher.fetch(Source(0, 0, origin.url()), sink)
        assert sink.data == b"direct"
        assert inner[0].connections == 0


@given(st.text(max_size=60))
def test_any_string_is_a_target_or_a_source_error(text: str) -> None:
    """No other exception leaves the reader of URLs, and what it reads is what aiohttp will dial."""
    for url in (text, "http://" + text, "http://h/" + text):
        try:
            target = parse(url)
        except SourceError as fault:
            assert fault.code in ("bad_url", "bad_scheme")
        else:
            assert target.wire_url().raw_host == target.host
            assert target.wire_url().port == target.port
            assert target.wire_url().raw_path_qs == target.target
            assert target.target.isascii()
