"""B: hosts, connections, heads and certificates."""

from __future__ import annotations

import asyncio
import socket
import ssl
import warnings
from collections.abc import Callable
from contextlib import suppress

from tests.field.answers import (
    BODY,
    answer,
    headed,
    in_turn,
    paced,
    silent,
    verbatim,
)
from tests.field.bench import IDLE_S, Bench
from tests.field.case import WHOLE, Case, Given, Story
from tests.field.host import HOST, OTHER_HOST, named
from tests.origins import Exchange, Script, raw_origin

SIZE = len(BODY)


CUT_AT = 80_000


REFUSED = "400 | bad_url | dns_failure | connect_failed | blocked_address"


HOSTS = (
    "http://a..b/", "http://a.../", f"http://{'a' * 64}.test/", f"http://{'a.' * 150}test/", "http://exa_mple.test/",
    "http://☃.test/", "http://xn--a/", "http://xn--a.test/", "http://[::1", "http://::1/", "http://:80/",
    "http://h.test:99999/", "http://h.test:0/", "http://h.test:port/", "http://h.test:-1/", "http:///x",
    "http://h.test\\@x/", "http://?x", "http://#x", "http://@/", "http://u:p@/", "http://.test/", "http://-a.test/",
    "http://a b.test/", "http://a%00b.test/", "http://%zz/", "http://\u202etest.test/", "http://ﬀ.test/",
    "http://ß.test/", "http://[v1.x]/", "http://[]/", "http://[fe80::1%25eth0]/", "http://example.test./",
    "http://1.2.3/", "http://h.test:80:80/", "http://" + "x" * 300, "https://exa mple/", "http://\ufffd/",
    "http://a,b/", "http://a\u3002b.test/", "http:h.test", "http:/h.test/x", "http://٣.test/",
)  # fmt: skip


async def _strange_hosts(bench: Bench) -> str:
    """Each alone at the door; what passes there goes into one job."""
    service = await bench.service()
    taken = []
    for url in HOSTS:
        reply = await service.api.initiate([url])
        assert reply.status in (202, 400), f"{url!r}: {reply.status}"
        if reply.status == 202:
            taken.append(url)
            await service.api.call("POST", f"/v1/download/{reply.body['jobId']}/cancel")
    done = await bench.job(taken)
    allowed = set(REFUSED.split(" | "))
    odd = [f"{url!r}: {done.code(at)}" for at, url in enumerate(taken) if done.code(at) not in allowed]
    return "; ".join(odd) or "refused by name"


def _at_name(what: str, *addresses: str) -> Story:
    async def tell(bench: Bench) -> str:
        async with raw_origin(answer(), HOST) as origin:
            done = await bench.job([f"http://{named(*addresses)}:{origin.port}/f.bin"])
        if done.code(0) != "done":
            return done.code(0)
        took_ms = done.status["processingTimeMs"]
        return "whole within 2 s" if took_ms < 2000 else f"whole after {took_ms} ms"

    return Story(what, "whole within 2 s", tell, tries=3)


def _hasty(pause_s: Callable[[int], float], *, said: bool = False) -> Script:
    """Answers, and closes the connection a moment later without having said so."""

    async def script(exchange: Exchange) -> None:
        headers = {"Connection": "close"} if said else {"Connection": "keep-alive"}
        await exchange.answer("200 OK", headers, BODY[:1000])
        await asyncio.sleep(pause_s(exchange.number))
        exchange.hang_up()

    return script


def _hundred(what: str, script: Script) -> Story:
    async def tell(bench: Bench) -> str:
        async with raw_origin(script, HOST) as origin:
            done = await bench.job([origin.url(f"/{number}") for number in range(100)])
            good = sum(done.data(at) == BODY[:1000] for at in range(100))
            return f"{good} whole"

    return Story(what, "100 whole", tell)


def _patience() -> tuple[Given | Story, ...]:
    return (
        Given("a steady source of three idle limits", paced(36, 3 * IDLE_S / 36)),
        Given("a first byte just within the limit", paced(1, 0.0, first_s=IDLE_S * 0.5)),
        Given("silence for half the limit, again and again", paced(6, IDLE_S / 2)),
        Given("silence for ever", silent, "timeout"),
        Given("silence after the headers", _hush(0), "timeout | truncated"),
        Given("silence in the middle", _hush(CUT_AT), "timeout | truncated"),
        Given("silence once, whole then", in_turn(silent, answer())),
        Given("50 bytes a second", paced(4000, 1.0), "too_slow"),
        Story("nobody listens", "connect_failed", _nobody),
    )


def _hush(after: int) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.answer("200 OK", {"Content-Length": str(SIZE)}, BODY[:after])
        await asyncio.sleep(60)

    return script


async def _nobody(bench: Bench) -> str:
    async with raw_origin(answer(), HOST) as origin:
        port = origin.port
    done = await bench.job([f"http://{HOST}:{port}/"])
    return done.code(0)


def _heads() -> tuple[Given, ...]:
    garbled = f"{WHOLE} | protocol_error"
    no_http = "protocol_error"
    many = b"".join(b"X-%d: y\r\n" % number for number in range(200))
    return (
        Given("a header of 9,000 bytes", headed(b"Content-Security-Policy: " + b"a" * 9000 + b"\r\n")),
        Given("a header of 30,000 bytes", headed(b"Set-Cookie: " + b"a" * 30_000 + b"\r\n")),
        Given("a header of 40,000 bytes", headed(b"Set-Cookie: " + b"a" * 40_000 + b"\r\n"), "header_too_large"),
        Given("a header name of 40,000 bytes", headed(b"a" * 40_000 + b": b\r\n"), "header_too_large"),
        Given("a header without end", verbatim(b"HTTP/1.1 200 OK\r\nA: " + b"a" * 300_000), "header_too_large"),
        Given("200 headers", headed(many)),
        Given("2,000 headers", headed(many * 10), "header_too_large"),
        Given("a control byte", headed(b"X-A: a\x01b\r\n"), garbled),
        Given("a NUL", headed(b"X-A: a\x00b\r\n"), garbled),
        Given("Latin-1 in a value", headed(b"X-A: caf\xe9\r\n")),
        Given("UTF-8 in a value", headed("X-A: café ☃\r\n".encode())),
        Given("a name with a blank", headed(b"X A: b\r\n"), garbled),
        Given("a blank before the colon", headed(b"X-A : b\r\n"), garbled),
        Given("a line without a colon", headed(b"X-XSS-Protection=1;\r\n"), garbled),
        Given("a line without a name", headed(b": b\r\n"), garbled),
        Given("a folded line", headed(b"X-A: b\r\n  c\r\n"), garbled),
        Given("an empty value", headed(b"X-A:\r\n")),
        Given("line feeds alone", verbatim(b"HTTP/1.1 200 OK\nContent-Length: %d\n\n%s" % (SIZE, BODY)), garbled),
        Given("no reason phrase", verbatim(b"HTTP/1.1 200\r\nContent-Length: %d\r\n\r\n%s" % (SIZE, BODY))),
        Given("HTTP/2's preface", verbatim(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), no_http),
        Given("an HTTP/2 frame", verbatim(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18)), no_http),
        Given("an empty answer", verbatim(b""), no_http),
        Given("an empty line", verbatim(b"\r\n\r\n"), no_http),
        Given("a body without a head", verbatim(b"just the file"), no_http),
        Given("an SSH banner", verbatim(b"SSH-2.0-OpenSSH_9.6\r\n"), no_http),
        Given("a status that is no number", verbatim(b"HTTP/1.1 abc OK\r\n\r\n"), no_http),
        Given("a status of two digits", verbatim(b"HTTP/1.1 20 OK\r\n\r\n"), f"{no_http} | unexpected_status"),
        Given("a length that is negative", verbatim(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello"), no_http),
        Given("a length that is a word", verbatim(b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\nhello"), no_http),
        Given(
            "two lengths", verbatim(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"), no_http
        ),
        Given(
            "a chunk size that is no number",
            verbatim(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
            no_http,
        ),
        Given("103 before the answer", _after(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")),
        Given("100 before the answer", _after(b"HTTP/1.1 100 Continue\r\n\r\n")),
        Given(
            "101 instead of an answer",
            verbatim(b"HTTP/1.1 101 Switch\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
            f"unexpected_status | {no_http}",
        ),
    )


def _after(first: bytes) -> Script:
    return verbatim(first + b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (SIZE, BODY))


REASONS = ("incomplete", "expired", "another host", "another address", "self-signed")


def _tls(what: str, leaf: str, expected: str, *, chain: bool = True) -> Story:
    """A TLS source with this certificate; a file of another source must not suffer."""

    async def tell(bench: Bench) -> str:
        serving = (await bench.authority()).server(leaf, chain=chain)
        async with raw_origin(answer(), HOST, ssl=serving) as origin, raw_origin(answer(), HOST) as other:
            done = await bench.job([origin.url(), other.url()])
        assert done.data(1) == BODY, "the other source's file"
        if done.code(0) == "done":
            return WHOLE
        assert not origin.exchanges, "a request was sent all the same"
        message = done.files[0]["error"]["message"]
        reason = next((word for word in REASONS if word in message), message)
        return f"{done.code(0)}: {reason}"

    return Story(what, expected, tell)


async def _outdated(bench: Bench) -> str:
    """A server that knows TLS 1.1 at most and says so by an alert, which asyncio's own does not send."""
    serving = (await bench.authority()).server("good")
    serving.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        serving.minimum_version, serving.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1

    def refuse(listener: socket.socket) -> None:
        near, _ = listener.accept()
        with near, suppress(OSError):
            serving.wrap_socket(near, server_side=True).close()

    with socket.create_server((HOST, 0)) as listener:
        listener.settimeout(20)
        refusing = asyncio.create_task(asyncio.to_thread(refuse, listener))
        done = await bench.job([f"https://{HOST}:{listener.getsockname()[1]}/"])
        await refusing
    message = done.files[0]["error"]["message"]
    is_told = "outdated" in message or "TLS versions" in message
    return f"{done.code(0)}: {'outdated' if is_told else message}"


async def _plain_port(bench: Bench) -> str:
    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answering, HOST, 0)
    async with server:
        done = await bench.job([f"https://{HOST}:{server.sockets[0].getsockname()[1]}/"])
    return done.code(0)


async def _tls_port(bench: Bench) -> str:
    serving = (await bench.authority()).server("good")
    async with raw_origin(answer(), HOST, ssl=serving) as origin:
        done = await bench.job([f"http://{HOST}:{origin.port}/"])
    return done.code(0)


async def _tls_name(bench: Bench) -> str:
    """SNI, Host and the certificate's name are those of the URL."""
    serving = (await bench.authority()).server("named")
    host = named(HOST, mark="")
    async with raw_origin(answer(), HOST, ssl=serving) as origin:
        done = await bench.job([f"https://{host}:{origin.port}/f.bin"])
        return WHOLE if done.code(0) == "done" else f"{done.code(0)} {done.files[0]['error']['message']}"


CASES: tuple[Case, ...] = (
    Case(
        "B18",
        "host names that break clients; broken IPv6",
        (
            Story(f"{len(HOSTS)} strange hosts", "refused by name", _strange_hosts),
            _at_name("a dead IPv6 address and a live IPv4 one", "fd00:dead::1", HOST),
            _at_name("a closed address and a live one", OTHER_HOST, HOST),
            _at_name("several dead and one live", "fd00:dead::1", "fd00:dead::2", OTHER_HOST, HOST),
        ),
    ),
    Case(
        "B23",
        "connections that die while they wait",
        (
            _hundred("closed 0 to 60 ms after each answer", _hasty(lambda number: number % 7 / 100)),
            _hundred("closed at once, unsaid", _hasty(lambda number: 0.0)),
            _hundred("closed at once, said", _hasty(lambda number: 0.0, said=True)),
            _hundred("50 ms of keep-alive", _hasty(lambda number: 0.05)),
        ),
    ),
    Case("B24", "slow is not dead, silent is", _patience()),
    Case("B26", "long or dirty heads", _heads()),
    Case(
        "B27",
        "certificates",
        (
            _tls("a full chain", "good", WHOLE),
            _tls("the intermediate is missing", "good", "tls_verify: incomplete", chain=False),
            _tls("expired", "expired", "tls_verify: expired"),
            _tls("for another name", "other", "tls_verify: another host | tls_verify: another address"),
            _tls("for another address", "elsewhere", "tls_verify: another host | tls_verify: another address"),
            _tls("self-signed", "self", "tls_verify: self-signed", chain=False),
            Story("TLS 1.1 only", "tls_verify: outdated", _outdated),
            Story("https to a port of plain http", "tls_verify", _plain_port),
            Story("http to a port of TLS", "protocol_error", _tls_port),
            Story("a name, by its certificate", WHOLE, _tls_name),
        ),
    ),
)
