"""C: where the service must not go. The canary listens on addresses that are not allowed and must never be dialled."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from tests.field.answers import BODY, ETAG, answer, by_path, cut, redirect
from tests.field.bench import Bench, Finished
from tests.field.case import WHOLE, Case, Story
from tests.field.host import CANARIES, HOST, failing, named
from tests.origins import Exchange, Script, raw_origin

INSIDE = "the source's address is not allowed"
_numbers = itertools.count(1)


@dataclass(slots=True)
class Canary:
    """Listens where nobody may come; `callers` must stay 0."""

    port: int = 0
    callers: int = 0


@asynccontextmanager
async def canary() -> AsyncIterator[Canary]:
    """One on 127.0.0.1 and, where there is IPv6, on ::1 with the same port."""
    made = Canary()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.callers += 1
        writer.close()

    first = await asyncio.start_server(serve, CANARIES[0], 0)
    made.port = first.sockets[0].getsockname()[1]
    async with first:
        with suppress(OSError):
            async with await asyncio.start_server(serve, CANARIES[1], made.port):
                yield made
                return
        yield made


def _judged(done: Finished, bird: Canary, allowed: str, what: list[str]) -> str:
    """`refused`, or what was not: by code, by the canary and by a message that says more than it should."""
    if bird.callers:
        return f"the canary had {bird.callers} callers"
    good = set(allowed.split(" | "))
    odd = [f"{url}: {done.code(at)}" for at, url in enumerate(what) if done.code(at) not in good]
    said = {
        file["error"]["message"] for file in done.files if file["error"] and file["error"]["code"] == "blocked_address"
    }
    if said - {INSIDE}:
        odd.append(f"says {said - {INSIDE}}")
    return "; ".join(odd)[:400] or "refused"


def _urls(what: str, allowed: str, urls: tuple[str, ...]) -> Story:
    """Each URL directly; `{port}` is the canary's. What is refused at the door already is as good."""

    async def tell(bench: Bench) -> str:
        api = (await bench.service()).api
        async with canary() as bird:
            wanted = [url.replace("{port}", str(bird.port)) for url in urls]
            taken = []
            for url in wanted:
                reply = await api.initiate([url])
                assert reply.status in (202, 400), f"{url!r}: {reply.status}"
                if reply.status == 202:
                    taken.append(url)
            done = await bench.job(taken) if taken else None
            return "refused" if done is None else _judged(done, bird, allowed, taken)

    return Story(what, "refused", tell)


def _hops(what: str, allowed: str, locations: tuple[str, ...], status: str = "302 Found", steps: int = 1) -> Story:
    """Each as the Location of an allowed source, perhaps after a hop within it."""

    async def tell(bench: Bench) -> str:
        async with canary() as bird:
            wanted = [location.replace("{port}", str(bird.port)) for location in locations]

            async def script(exchange: Exchange) -> None:
                number, step = (int(part) for part in exchange.target[1:].split("/"))
                location = f"/{number}/{step + 1}" if step < steps else wanted[number]
                raw = location.encode("utf-8", "surrogateescape").replace(b"\r", b"").replace(b"\n", b"")
                await exchange.send(
                    b"HTTP/1.1 %s\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n" % (status.encode(), raw)
                )

            async with raw_origin(script, HOST) as origin:
                done = await bench.job([origin.url(f"/{number}/1") for number in range(len(wanted))])
            return _judged(done, bird, allowed, wanted)

    return Story(what, "refused", tell)


METADATA = (
    "169.254.169.254", "169.254.170.2", "[fd00:ec2::254]", "100.100.100.200", "168.63.129.16", "192.0.0.192",
    "[::ffff:169.254.169.254]", "[fe80::1]",
)  # fmt: skip
INSIDE_FORMS = (
    "http://127.0.0.1:{port}/", "//127.0.0.1:{port}/", "HTTP://127.0.0.1:{port}", "http://[::1]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/", "http://u:p@127.0.0.1:{port}/", "http://localhost:{port}/",
    "http://LOCALHOST.:{port}/", "http://127.0.0.1:{port}/?a#b",
)  # fmt: skip
NAMES_INSIDE = tuple(f"http://{named(address)}{end}:{{port}}/" for address in CANARIES for end in ("", "."))
# The forms of the collection, and relatives of theirs.
SPELLINGS = (
    "2130706433", "0177.0.0.1", "0x7f.1", "127.1", "017700000001", "0x7f000001", "0X7F000001", "0251.0376.0251.0376",
    "169.254.43518", "2852039166", "0xa9fea9fe", "0", "00", "0x0", "127.0.0.1.", "127.0.1", "127.0.0.01",
    "127.00.0.1", "0127.0.0.1", "012.0.0.1", "10.1", "4294967297", "18446744073709551617", "127.0.0.0x1", "1.2.3.4.5",
    "256.0.0.1", "１２７.0.0.1", "①②⑦.0.0.1", "127。0。0。1", "127.0.0.%31", "%31%32%37.0.0.1", "127%2e0.0.1",
    "localhost", "localhost.", "LOCALHOST", "LocalHost.", "localho\u017ft", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "127.0.0.1.field.test",
)  # fmt: skip
UNREADABLE = "bad_url | blocked_address | dns_failure | connect_failed"
RANGES = (
    # IPv4
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.254", "127.0.0.1",
    "127.255.255.254", "169.254.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1",
    "192.88.99.1", "192.168.0.1", "192.168.255.255", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1",
    "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    # IPv6
    "::", "::1", "::2", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:0.0.0.0", "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "100::1", "100:0:0:1::1",
    "2001::1", "2001:0:7f00:1::", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::",
    "2002:a9fe:a9fe::", "2002:a00:1::", "3fff::1", "3ffe::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fdff:ffff::1",
    "fe80::1", "febf::1", "fec0::1", "feff::1", "ff02::1", "ff0e::1", "4000::1", "8000::1",
)  # fmt: skip


def _literal(address: str) -> str:
    return f"http://[{address}]:{{port}}/x" if ":" in address else f"http://{address}:{{port}}/x"


SCHEMES = (
    "file:///etc/passwd", "FILE:/etc/passwd", "file://localhost/etc/passwd", "ftp://h/x", "gopher://h/x",
    "data:text/plain,hi", "javascript:1", "blob:http://h/x", "jar:http://h/x!/", "about:blank", "ws://h/x",
    "dict://h/x", "unix:///run/x.sock", "s3://bucket/key", "view-source:http://h/", "mailto:a@b", "x", "",
)  # fmt: skip
DIRECT_ONLY = (
    "\tfile:///x",
    "http:/h",
    "//h/x",
    "http:h",
    " file:///x",
    "http+unix://%2Frun/x",
    "\x00http://h/",
    "ht\ntp://h/",
)
PORTS = (22, 25, 110, 143, 6379, 6667, 2049, 10080)


def _refused_at_the_door(url: str) -> Story:
    async def tell(bench: Bench) -> str:
        reply = await (await bench.service()).api.initiate([url])
        return str(reply.status)

    return Story(f"submitted: {url!r}", "400", tell)


def _rebinding(what: str, expected: str, addresses: tuple[str, ...], script: Script, files: int = 1) -> Story:
    """A name that is first the allowed source and then an inner address. Port and canary are the same."""

    async def tell(bench: Bench) -> str:
        host = named(*addresses, kind="turn", mark=f"x{next(_numbers)}")
        async with raw_origin(script, HOST) as origin:
            callers = 0

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                nonlocal callers
                callers += 1
                writer.close()

            async with await asyncio.start_server(serve, CANARIES[0], origin.port):
                done = await bench.job([f"http://{host}:{origin.port}/{number}" for number in range(files)])
            return (
                f"the canary had {callers} callers"
                if callers
                else " and ".join(sorted({done.code(at) for at in range(files)}))
            )

    return Story(what, expected, tell)


def _name(what: str, expected: str, host: str) -> Story:
    async def tell(bench: Bench) -> str:
        async with raw_origin(answer(), HOST) as origin:
            done = await bench.job([f"http://{host}:{origin.port}/f.bin"])
            if done.code(0) != "done":
                return done.code(0)
            assert origin.exchanges[0].header("Host") == f"{host}:{origin.port}"
            return WHOLE if done.data(0) == BODY else "other bytes"

    return Story(what, expected, tell)


async def _closed_and_open_alike(bench: Bench) -> str:
    """Neither code, message nor time tell whether something listens there."""
    async with canary() as bird:
        done = await bench.job([f"http://127.0.0.1:{bird.port}/", "http://127.0.0.1:9999/", "http://10.0.0.1:80/"])
    return f"{len({(file['error']['code'], file['error']['message']) for file in done.files})} kind of answer"


async def _no_local_file(bench: Bench) -> str:
    """Whatever is asked for, no file of this machine comes into an archive."""
    routes: dict[str, Script] = {f"/{at}": redirect(scheme) for at, scheme in enumerate(SCHEMES) if ":" in scheme}
    async with raw_origin(by_path(routes, answer()), HOST) as origin:
        done = await bench.job([origin.url(path) for path in (*routes, "/good.bin")])
    assert done.archive is not None
    return "root:" if b"root:x:0:0" in done.archive else f"{len(done.names)} file"


BLOCKED = "blocked_address"
CASES: tuple[Case, ...] = (
    Case(
        "C01",
        "redirects from outside to inside",
        (
            *(
                _hops(
                    f"{status}, {steps} hops, {len(INSIDE_FORMS)} forms of loopback",
                    "blocked_address | dns_failure",
                    INSIDE_FORMS,
                    status,
                    steps,
                )
                for status in ("301 Moved", "302 Found", "303 See", "307 Go", "308 Go")
                for steps in (1, 2)
            ),
            _hops("metadata services", BLOCKED, tuple(f"http://{host}/latest/meta-data/" for host in METADATA)),
            _hops("metadata services by protocol-relative URL", BLOCKED, tuple(f"//{host}/" for host in METADATA)),
            _hops("names that lead inside", BLOCKED, NAMES_INSIDE),
            _hops(
                "metadata.google.internal",
                "dns_failure | blocked_address",
                ("http://metadata.google.internal./", "http://METADATA.google.internal/"),
            ),
            Story("an open and a closed inner port look alike", "1 kind of answer", _closed_and_open_alike),
        ),
    ),
    Case(
        "C02",
        "a name that moves inside",
        (
            _rebinding("inside at once", BLOCKED, (CANARIES[0],), answer()),
            _rebinding(
                "inside after the first answer, cut transfers",
                "blocked_address | truncated | done",
                (HOST, CANARIES[0]),
                cut(1000, ETAG),
            ),
            _rebinding(
                "inside after the first answer, ::1",
                "blocked_address | truncated | done",
                (HOST, CANARIES[1]),
                cut(1000, ETAG),
            ),
            _rebinding(
                "inside while connections are refused",
                "blocked_address | connect_failed",
                ("127.0.0.3", CANARIES[0]),
                answer(),
            ),
            _rebinding(
                "inside behind a redirect to itself",
                "blocked_address | too_many_redirects",
                (HOST, CANARIES[0]),
                redirect("/again", headers={"Connection": "close"}),
            ),
            _rebinding(
                "forty connections",
                "blocked_address | blocked_address and done | done",
                (HOST, CANARIES[0]),
                answer({"Connection": "close"}),
                40,
            ),
            _name("public and inner address at once: the public one", WHOLE, named(CANARIES[0], CANARIES[1], HOST)),
            _name("inner addresses only", BLOCKED, named(*CANARIES)),
        ),
    ),
    Case(
        "C03",
        "numbers and words that libc takes for an address",
        (
            _urls(
                f"{len(SPELLINGS)} spellings directly",
                UNREADABLE,
                tuple(f"http://{host}:{{port}}/" for host in SPELLINGS),
            ),
            _hops(
                f"{len(SPELLINGS)} spellings by redirect",
                f"{UNREADABLE} | redirect_invalid",
                tuple(f"http://{host}:{{port}}/" for host in SPELLINGS),
            ),
        ),
    ),
    Case(
        "C05",
        "addresses that are not public, and those wrapped in others",
        (
            _urls(f"{len(RANGES)} addresses as literals", BLOCKED, tuple(map(_literal, RANGES))),
            _urls(
                f"{len(RANGES)} addresses as a name's only one",
                BLOCKED,
                tuple(f"http://{named(address)}:{{port}}/" for address in RANGES),
            ),
            _hops(f"{len(RANGES)} addresses by redirect", BLOCKED, tuple(map(_literal, RANGES))),
        ),
    ),
    Case(
        "C07",
        "literals and names are both judged; a judge that fails refuses",
        (
            _urls(
                "loopback literals",
                "blocked_address | dns_failure",
                tuple(form for form in INSIDE_FORMS if not form.startswith("//")),
            ),
            _urls(
                "IPv6 without brackets, zones, broken ones",
                "bad_url",
                (
                    "http://::1:{port}/",
                    "http://[::1%25lo]:{port}/",
                    "http://[::1:{port}/",
                    "http://[127.0.0.1]:{port}/",
                    "http://[::1]x:{port}/",
                    "http://[0:0:0:0:0:0:0:0:1]/",
                ),
            ),
            _urls(
                "users and backslashes that confuse",
                UNREADABLE,
                (
                    "http://good.test@127.0.0.1:{port}/",
                    "http://127.0.0.1:{port}\\@good.test/",
                    "http://good.test#@127.0.0.1:{port}/",
                    "http://good.test:80@127.0.0.1:{port}/",
                    "http://127.0.0.1:{port}?@good.test/",
                ),
            ),
            _urls(
                "malformed punycode",
                "bad_url | dns_failure",
                ("http://xn--a.test/", "http://xn--/", "http://xn--99999999999.test/"),
            ),
            _name("a name that does not exist", "dns_failure", failing("nxdomain")),
            _name("a resolver that is busy", "dns_failure", failing("again")),
            _name("a resolver that raises UnicodeError", "dns_failure | bad_url", failing("unicode")),
            _name("a resolver that raises OSError", "dns_failure", failing("os")),
            _name("an empty answer", "dns_failure", failing("empty")),
            _name("a resolver that does not answer in time", "dns_failure", failing("slow")),
            _name("a name of an allowed address", WHOLE, named(HOST)),
        ),
    ),
    Case(
        "C09",
        "other schemes, other ports",
        (
            *map(_refused_at_the_door, SCHEMES + DIRECT_ONLY),
            _hops(
                "other schemes by redirect",
                "bad_scheme | redirect_invalid | bad_url | http_status:404 | too_many_redirects",
                tuple(scheme for scheme in SCHEMES if scheme not in ("x", "")),
            ),
            _urls("ports of other protocols", "bad_url", tuple(f"http://{HOST}:{port}/" for port in PORTS)),
            _hops("ports of other protocols by redirect", "bad_url", tuple(f"http://{HOST}:{port}/" for port in PORTS)),
            Story("no local file gets into an archive", "1 file", _no_local_file),
        ),
    ),
)
