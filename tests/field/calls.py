"""C, D and E: further forms of inner addresses, further faults of the store, further calls of the service."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import re
from typing import Any

from tests.field.addresses import UNREADABLE, _hops, _name, _rebinding, _urls
from tests.field.answers import BODY, ETAG, answer, by_path, cut, in_turn, redirect
from tests.field.bench import Bench, as_json
from tests.field.case import WHOLE, Case, Story
from tests.field.host import CANARIES, HOST, named
from tests.field.store import FILE, GONE, _gives_up, _survives, nothing_left, on, stored
from tests.origins import Exchange, Script, raw_origin

SPELLINGS = (
    "127.0.0.1%00.good.test", "127.0.0.1%0a", "127.0.0.1%23.good.test", "127.0.0.1%2fgood.test", "127.0.0.1%09",
    "127.0.0.1\u200b", "127.0.0\u00ad.1", "\u200b127.0.0.1", "127\uff0e0\uff0e0\uff0e1", "127\uff610.0.1",
    "127.0.0.1\u3002", "127.\u2460.0.1", "¹²⁷.0.0.1", "１２７。０。０。１", "0x7f.0.0.0x1", "0177.0.0.01",
    "0b1111111.0.0.1",
    "127.0.0.1e0", "127.0.0.+1", "127.0.0.-1", "127..0.1", ".127.0.0.1", "127.0.0.1..", "0x7f000001.", "2130706433.",
    "0x0000000000007f000001", "000000000000177.0.0.1", "127.0x000001", "0300.0250.0.1", "3232235521", "0xc0a80001",
    "192.168.1", "192.11010049", "0xA9.0xFE.0xA9.0xFE", "169.0xfe.43518", "ⓛocalhost", "loc\u00adalhost",
    "localhost\u200c",
    "xn--localhost-.", "LOCALHOST%2e", "localhost%00", "lOcAlHoSt.", "127.127", "127.000.000.001",
    "127.0.0.1:80@good.test",
)  # fmt: skip
IPV6 = (
    "[::1]", "[0:0:0:0:0:0:0:1]", "[0000:0000:0000:0000:0000:0000:0000:0001]", "[::0001]", "[::ffff:7f00:1]",
    "[::FFFF:127.0.0.1]", "[0:0:0:0:0:ffff:127.0.0.1]", "[::ffff:127.1]", "[::ffff:0x7f.1]", "[::127.0.0.1]",
    "[::7f00:1]",
    "[::ffff:0:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:0001::]", "[::]", "[0::0]", "[::1%25lo]", "[::1%lo]",
    "[fe80::1%251]",
    "[::1]]", "[[::1]]", "[::1%00]", "[::1\u200b]", "[：：１]", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]",
    "[2001:0:0:0:0:0:80ff:fffe]", "[2001::80ff:fffe]", "[fd00::1]", "[fec0::1]", "[::ffff:0.0.0.0]", "[::ffff:c0a8:1]",
)  # fmt: skip
TRICKS = (
    "http://good.test\\@127.0.0.1:{port}/", "http://good.test%5c@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}\\.good.test/",
    "http://good.test%2f@127.0.0.1:{port}/", "http://good.test%23@127.0.0.1:{port}/",
    "http://good.test?@127.0.0.1:{port}/",
    "http://@127.0.0.1:{port}/", "http://a@b@127.0.0.1:{port}/", "http://:@127.0.0.1:{port}/",
    "http:///127.0.0.1:{port}/",
    "http:127.0.0.1:{port}/", "http:/127.0.0.1:{port}/", "http:\\\\127.0.0.1:{port}\\",
    "http://127.0.0.1:{port};@good.test/",
    "http://127.0.0.1\t:{port}/", "http://127.0.0.1 :{port}/", "http://127.0.0.1:{port} @good.test/",
    "hTTp://127.0.0.1:{port}/",
    "http://[::1]:{port}@127.0.0.1:{port}/", "http://127.0.0.1:+{port}/", "http://127.0.0.1:0{port}/",
    "http://127.0.0.1:{port}a/",
    "\thttp://127.0.0.1:{port}/", "http://127.0.0.1:{port}/\x00", "http://127.0.0.1:{port}#/good.test",
    "http://127.0.0.1:{port}?",
    "http://①②⑦.⓪.⓪.①:{port}/", "http://127.0.0.1:{port}%2f@good.test/", "http://good.test&@127.0.0.1:{port}/",
)  # fmt: skip
RANGES = (
    "0.255.255.255", "9.255.255.255.", "100.100.100.200", "127.0.0.53", "127.1.2.3", "168.63.129.16",
    "169.254.169.253",
    "169.254.170.2", "169.254.255.255", "172.20.0.1", "192.0.0.1", "192.0.0.170", "192.0.0.192", "192.31.196.1",
    "192.52.193.1",
    "192.175.48.1", "198.18.255.255", "233.252.0.1", "234.1.1.1", "250.1.1.1", "255.255.255.254",
    "::ffff:169.254.169.254", "::ffff:100.64.0.1", "::ffff:224.0.0.1", "::ffff:255.255.255.255", "::ffff:198.18.0.1",
    "::10.0.0.1", "::169.254.169.254", "64:ff9b::192.168.0.1", "64:ff9b::0.0.0.0", "64:ff9b::100.64.0.1",
    "64:ff9b::224.0.0.1",
    "2002:c0a8:1::1", "2002:6440:1::1", "2002:e000:1::1", "2001:0:4136:e378:8000:63bf:80ff:fffe", "2001:5::1",
    "2001:30::1",
    "2620:4f:8000::1", "fc00:ffff::1", "fe80:1::1", "fe9f::1", "ff01::1", "ff05::1:3", "ff3e::1", "1::1", "::ffff:0:0",
    "a000::1", "c000::1", "f000::1", "fd00:ec2::23",
)  # fmt: skip
# Blocks that are given out for services of the whole net; refusing them is a choice.
_SERVICES = {"168.63.129.16", "192.31.196.1", "192.52.193.1", "192.175.48.1", "2620:4f:8000::1", "2001:30::1"}


def _at(address: str) -> str:
    return f"http://[{address}]:{{port}}/x" if ":" in address else f"http://{address}:{{port}}/x"


async def _through_the_door(bench: Bench) -> str:
    """Names and addresses of the inside in the other fields of a request are refused or of no effect."""
    api = (await bench.service()).api
    async with raw_origin(answer(), HOST) as origin, raw_origin(answer(), CANARIES[0]) as bird:
        inside = bird.url("/hook")
        host = {"Host": f"{CANARIES[0]}:{bird.port}", "X-Forwarded-Host": "inside", "Forwarded": "host=inside"}
        reply = await api.initiate([{"url": origin.url(), "headers": host}], callbackUrl=inside)
        if reply.status == 202:
            await api.finished(reply.body["jobId"])
            await asyncio.sleep(0.3)
        sent = [each.header("Host") for each in origin.exchanges]
        return "refused" if not bird.exchanges and set(sent) <= {f"{HOST}:{origin.port}"} else f"{sent}"


async def _by_a_proxy(bench: Bench) -> str:
    """Proxies named in the environment do not take over what has been judged."""
    async with raw_origin(answer(), HOST) as origin:
        done = await bench.job([origin.url(), f"http://{named(HOST)}:{origin.port}/"])
    return done.codes()


async def _same_name_for_all(bench: Bench) -> str:
    """A pooled connection to a name does not vouch for the name's next address."""
    host = named(HOST, CANARIES[0], kind="turn", mark="xpool")
    async with raw_origin(answer({"Connection": "close"}), HOST) as origin:
        codes = []
        for number in range(3):
            done = await bench.job([f"http://{host}:{origin.port}/{number}"])
            codes.append(done.code(0))
    return "done or blocked" if set(codes) <= {"done", "blocked_address"} else str(codes)


def _headers(what: str, headers: dict[str, str], expected: str = "400 | refused | harmless") -> Story:
    """Headers that a request gives for its source: refused, or sent without harm to the exchange."""

    async def tell(bench: Bench) -> str:
        api = (await bench.service()).api
        async with raw_origin(answer(), HOST) as origin:
            reply = await api.initiate([{"url": origin.url(), "headers": headers}, origin.url("/2")])
            if reply.status != 202:
                return str(reply.status)
            status = await api.finished(reply.body["jobId"])
            targets = sorted(each.target for each in origin.exchanges)
            codes = [file["status"] for file in status["files"]]
            crossed = [each.headers for each in origin.exchanges if each.header("X-Evil")]
        if status["files"][0]["status"] == "failed" and status["files"][0]["error"]["code"] == "bad_header":
            return "refused"
        if targets != ["/2", "/f.bin"] or codes != ["done", "done"] or crossed:
            return f"{targets}, {codes}, {crossed}"
        return "harmless"

    return Story(f"headers: {what}", expected, tell)


HEADERS: tuple[tuple[str, dict[str, str]], ...] = (
    ("CR LF in a value", {"X-A": "a\r\nX-Evil: 1"}),
    ("LF in a value", {"X-A": "a\nX-Evil: 1"}),
    ("a whole request in a value", {"X-A": "a\r\n\r\nGET /evil HTTP/1.1\r\nHost: x\r\n\r\n"}),
    ("CR LF in a name", {"X-A: a\r\nX-Evil": "1"}),
    ("a blank in a name", {"X A": "1"}),
    ("a colon in a name", {"X-A:": "1"}),
    ("an empty name", {"": "1"}),
    ("a NUL in a value", {"X-A": "a\x00b"}),
    ("non-ASCII in a value", {"X-A": "é☃"}),
    ("Content-Length", {"Content-Length": "100"}),
    ("Transfer-Encoding", {"Transfer-Encoding": "chunked"}),
    ("Connection", {"Connection": "close, Upgrade"}),
    ("Upgrade", {"Upgrade": "websocket"}),
    ("Expect", {"Expect": "100-continue"}),
    ("Range", {"Range": "bytes=5-9"}),
    ("If-Range", {"If-Range": '"x"'}),
    ("If-None-Match", {"If-None-Match": "*"}),
    ("Accept-Encoding", {"Accept-Encoding": "gzip, br"}),
    ("TE", {"TE": "trailers, gzip"}),
    ("Trailer", {"Trailer": "X-Evil"}),
    ("Host", {"Host": "127.0.0.1"}),
    ("the same in two cases", {"X-A": "1", "x-a": "2"}),
    ("a value of 100 KB", {"X-A": "a" * 100_000}),
    ("a thousand", {f"X-{at}": "1" for at in range(1000)}),
)


# D


def _fails(what: str, *faults: tuple[str, str], data: bytes = FILE) -> Story:
    """A store that lies for good: no archive, no link, nothing left."""

    async def tell(bench: Bench) -> str:
        words = dict(faults)
        done, store = await stored(bench, lambda call: words.get(call.operation), answer({}, data))
        assert not done.complaints(), done.complaints()
        assert "secret detail" not in as_json(done.status), "the store's words are shown"
        return f"{done.status['status']}, {await nothing_left(store, done.job_id)}"

    return Story(what, f"failed, {GONE}", tell)


def _either(story: Story) -> Story:
    """The archive is whole or the job failed; what must not be is a job that says more than the store has."""
    return Story(
        story.what,
        f"{WHOLE} | failed: storage_failed | failed: storage_unavailable | failed: verify_failed",
        story.tell,
    )


# E


def _call(what: str, method: str, path: str, expected: str, **options: Any) -> Story:
    """One call; the answer's status, and that an error is a problem document and no 5xx."""

    async def tell(bench: Bench) -> str:
        api = (await bench.service()).api
        reply = await api.call(method, path, **options)
        if reply.status >= 400 and method != "HEAD":
            assert reply.headers["Content-Type"].startswith("application/problem+json"), reply.headers["Content-Type"]
            assert {"code", "status", "title", "detail"} <= set(reply.body), reply.body
            assert "Traceback" not in reply.raw.decode()
        return str(reply.status)

    return Story(what, expected, tell)


def _body(
    what: str, data: bytes, expected: str = "400", kind: str | None = "application/json", **headers: str
) -> Story:
    given = headers if kind is None else headers | {"Content-Type": kind}

    async def tell(bench: Bench) -> str:
        call = _call(what, "POST", "/v1/download/initiate", expected, data=io.BytesIO(data), headers=given)
        return await call.tell(bench)

    return Story(f"initiate: {what}", expected, tell)


def _field(what: str, expected: str = "400", **more: Any) -> Story:
    return _body(what, json.dumps({"files": [{"url": "http://127.0.0.2:1/x"}]} | more).encode(), expected)


def _file(what: str, expected: str = "400", **more: Any) -> Story:
    return _field(f"a file with {what}", expected, files=[{"url": "http://127.0.0.2:1/x"} | more])


GOOD = b'{"files": [{"url": "http://127.0.0.2:1/x"}]}'


def _bodies() -> tuple[Story, ...]:
    twice = b'{"files": [], "files": [{"url": "http://127.0.0.2:1/x"}]}'
    return (
        _body("nothing", b""),
        _body("no JSON", b"hello"),
        _body("half a JSON", GOOD[:-5]),
        _body("two JSONs", GOOD + GOOD),
        _body("a list", b"[]"),
        _body("null", b"null"),
        _body("a string", b'"http://127.0.0.2/"'),
        _body("a number", b"1"),
        _body("NaN", b'{"files": NaN}'),
        _body("a comment", b"/* x */" + GOOD),
        _body("a BOM", b"\xef\xbb\xbf" + GOOD, "400 | 202"),
        _body("UTF-16", GOOD.decode().encode("utf-16"), "400 | 202"),
        _body("no UTF-8", b'{"files": [{"url": "http://127.0.0.2:1/\xff"}]}'),
        _body("deep brackets", b"[" * 100_000 + b"]" * 100_000),
        _body("deep objects", b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
        _body(
            "a number of 10,000 digits", b'{"files": [{"url": "http://127.0.0.2:1/x", "size": ' + b"9" * 10_000 + b"}]}"
        ),
        _body("the same key twice", twice, "400 | 202"),
        _body("17 MB", b" " * 17_000_000 + GOOD, "413"),
        _body("no type", GOOD, "202 | 415", None),
        _body("text/plain", GOOD, "415", "text/plain"),
        _body("a form", b"files=x", "415", "application/x-www-form-urlencoded"),
        _body("multipart", b"--x--", "415", "multipart/form-data; boundary=x"),
        _body("a charset", GOOD, "202", "application/json; charset=utf-8"),
        _body("another charset", GOOD, "202 | 400 | 415", "application/json; charset=utf-16"),
        _body("a charset that is none", GOOD, "202 | 400 | 415", "application/json; charset=klingon"),
        _body("application/vnd.api+json", GOOD, "202 | 415", "application/vnd.api+json"),
        _body("a type that is none", GOOD, "415", "nonsense"),
        _body("gzip", gzip.compress(GOOD), "202 | 400 | 415", **{"Content-Encoding": "gzip"}),
        _body("gzip that is none", GOOD, "400 | 415", **{"Content-Encoding": "gzip"}),
        _body("a bomb", gzip.compress(bytes(30_000_000)), "400 | 413 | 415", **{"Content-Encoding": "gzip"}),
        _body("an unknown coding", GOOD, "202 | 400 | 415", **{"Content-Encoding": "foo"}),
        _body("an empty idempotency key", GOOD, "202 | 400", **{"Idempotency-Key": ""}),
        _body("a long idempotency key", GOOD, "400", **{"Idempotency-Key": "k" * 5000}),
        _body("an idempotency key in Latin-1", GOOD, "400 | 202", **{"Idempotency-Key": "é"}),
        _body("Prefer: wait=0", GOOD, "202 | 200", Prefer="wait=0"),
        _body("Prefer: wait=-1", GOOD, "202 | 400", Prefer="wait=-1"),
        _body("Prefer: wait=abc", GOOD, "202 | 400", Prefer="wait=abc"),
        _body("a request id that is insane", GOOD, "202", **{"X-Request-Id": "<script>" * 50}),
        _body("a traceparent that is none", GOOD, "202", traceparent="00-zz-yy-xx"),
        _field("an unknown field", filez=[]),
        _field("options of another type", options=[]),
        _field("an unknown option", options={"compres": True}),
        _field("onError of another word", options={"onError": "ignore"}),
        _field("another format", options={"format": "rar"}),
        _field("both forms at once", file_ids=[1], source_urls=["http://127.0.0.2:1/x"]),
        _field("an archive name that is a number", archiveName=1),
        _field("an empty archive name", "202 | 400", archiveName=""),
        _field("a callback that is no URL", callbackUrl="nonsense"),
        _field("a callback to a file", callbackUrl="file:///etc/passwd"),
        _field("files that are an object", files={"url": "http://127.0.0.2:1/x"}),
        _field("files that are null", files=[None]),
        _field("files that are numbers", files=[1, 2]),
        _field("files without a URL", files=[{"name": "x"}]),
        _file("a URL that is a number", url=1),
        _file("a URL that is null", url=None),
        _file("a URL that is empty", url=""),
        _file("a URL of 100,000 characters", "400", url="http://127.0.0.2:1/" + "x" * 100_000),
        _file("a negative size", size=-1),
        _file("a size that is a fraction", size=1.5),
        _file("a size in words", "400 | 202", size="5"),
        _file("a size that is true", size=True),
        _file("a checksum without an algorithm", checksum="abc"),
        _file("a checksum that is too short", checksum="sha256:abc"),
        _file("a checksum that is no hex", checksum="sha256:" + "z" * 64),
        _file("a checksum of an unknown kind", checksum="sha3:" + "a" * 64),
        _file("a contentType that is none", "400 | 202", contentType="nonsense"),
        _file("headers that are a list", headers=["a: b"]),
        _file("headers of numbers", "400 | 202", headers={"a": 1}),
        _file("an unknown field", nam="x"),
        _file("an id that is an object", id={}),
        _file("an id of 10,000 characters", "400", id="i" * 10_000),
        _file("an id that is 2**70", "400 | 202", id=2**70),
        _body("the older form, one list short", b'{"file_ids": [1, 2], "source_urls": ["http://127.0.0.2:1/x"]}'),
        _body("the older form, ids alone", b'{"file_ids": [1]}'),
        _body("the older form, a null URL", b'{"file_ids": [1], "source_urls": [null]}'),
        _body(
            "the older form, its other name", b'{"file_keys": ["a"], "source_urls": ["http://127.0.0.2:1/x"]}', "202"
        ),
    )


NOBODY = "00000000-0000-4000-8000-000000000000"
PATHS: tuple[tuple[str, str, str], ...] = (
    ("GET", "/v1/download/status/", "404"),
    ("GET", "/v1/download/status", "404"),
    ("GET", f"/v1/download/status/{NOBODY}/", "404"),
    ("GET", f"/v1/download/status/{NOBODY}%00", "404 | 400"),
    ("GET", f"/v1/download/status/{NOBODY.upper()}", "404"),
    ("GET", "/v1/download/status/..%2f..%2fhealth", "404"),
    ("GET", "/v1/download/status/" + "x" * 5000, "404 | 414 | 400"),
    ("GET", "/v1/download/status/%ff", "404 | 400"),
    ("GET", "/v1/download/status/*", "404"),
    ("GET", "/v1/download/status/{dl}:job", "404"),
    ("HEAD", f"/v1/download/status/{NOBODY}", "404"),
    ("PUT", f"/v1/download/status/{NOBODY}", "405"),
    ("POST", f"/v1/download/status/{NOBODY}", "405"),
    ("PATCH", f"/v1/download/{NOBODY}", "405"),
    ("GET", "/v1/download/initiate", "404 | 405"),
    ("DELETE", "/v1/download/initiate", "404 | 405 | 204"),
    ("OPTIONS", "/v1/download/initiate", "200 | 204 | 405 | 403"),
    ("GET", "/v1/download/", "404"),
    ("GET", "/v1/download", "404"),
    ("GET", "/v1", "404"),
    ("GET", "//v1/download/jobs", "308"),
    ("GET", "/V1/DOWNLOAD/JOBS", "404"),
    ("GET", "/../etc/passwd", "404 | 400"),
    ("GET", "/%2e%2e/etc/passwd", "404 | 400"),
    ("GET", "/static/..%2f..%2fconfig.toml", "404"),
    ("TRACE", "/health", "405 | 501"),
    ("GET", "/v1/download/jobs?limit=0", "400"),
    ("GET", "/v1/download/jobs?limit=-1", "400"),
    ("GET", "/v1/download/jobs?limit=abc", "400"),
    ("GET", "/v1/download/jobs?limit=1e9", "400"),
    ("GET", "/v1/download/jobs?limit=99999999999999999999", "400"),
    ("GET", "/v1/download/jobs?limit=%D9%A3", "400"),
    ("GET", "/v1/download/jobs?limit=1&limit=2", "200"),
    ("GET", "/v1/download/jobs?after=nonsense", "400"),
    ("GET", "/v1/download/jobs?after=%00", "400"),
    ("GET", "/v1/download/jobs?status=what", "400"),
    ("GET", "/v1/download/jobs?unknown=1", "200"),
    ("GET", f"/v1/download/{NOBODY}/files", "404"),
    ("GET", f"/v1/download/{NOBODY}/files/0", "404"),
    ("GET", f"/v1/download/{NOBODY}/files/-1", "404 | 400"),
    ("GET", f"/v1/download/{NOBODY}/files/99999999999999999999999", "404 | 400"),
    ("POST", f"/v1/download/{NOBODY}/cancel", "404"),
    ("POST", f"/v1/download/{NOBODY}/retry", "404"),
    ("DELETE", f"/v1/download/{NOBODY}", "204 | 404"),
    ("GET", f"/v1/download/{NOBODY}", "404"),
)


def _about(what: str, expected: str, path: str, method: str = "GET", **options: Any) -> Story:
    """A call about a job that is completed."""

    async def tell(bench: Bench) -> str:
        job_id = await _one_job(bench)
        return await _call(what, method, path.replace("ID", job_id), expected, **options).tell(bench)

    return Story(f"a finished job: {what}", expected, tell)


async def _one_job(bench: Bench) -> str:
    async with bench.lock("one job"):
        if bench.one_job is None:
            async with raw_origin(answer(), HOST) as origin:
                bench.one_job = (await bench.job([origin.url(), origin.url("/2.bin")])).job_id
    return bench.one_job


def _abouts() -> tuple[Story, ...]:
    status = "/v1/download/status/ID"
    return (
        _about("status with a slash behind", "404 | 200 | 308", status + "/"),
        _about("status with a slash twice", "404 | 200 | 308", "/v1/download//status/ID"),
        _about("status by HEAD", "200", status, "HEAD"),
        _about("status with an unknown query", "200 | 400", status + "?x=y"),
        _about("status with files=maybe", "200 | 400", status + "?files=maybe"),
        _about("status if it has not changed: any", "304", status, headers={"If-None-Match": "*"}),
        _about("status if it has not changed: nonsense", "200", status, headers={"If-None-Match": 'W/"x", y"'}),
        _about("status for Accept: text/html", "200 | 406", status, headers={"Accept": "text/html"}),
        _about("status in capitals", "200 | 404", status.replace("status", "STATUS")),
        _about("status with a body", "200", status, data=b"x" * 100),
        _about("status in ranges", "200", status, headers={"Range": "bytes=0-3"}),
        _about("files after nonsense", "400 | 200", "/v1/download/ID/files?after=x"),
        _about("files after the end", "200", "/v1/download/ID/files?after=999"),
        _about("files, none of them", "400 | 200", "/v1/download/ID/files?limit=0"),
        _about("files, too many", "400 | 200", "/v1/download/ID/files?limit=1000000"),
        _about("a file that was not kept", "404 | 409", "/v1/download/ID/files/0"),
        _about("a file beyond the last", "404", "/v1/download/ID/files/2"),
        _about("a file that is a word", "404 | 400", "/v1/download/ID/files/x"),
        _about("cancel", "409 | 200", "/v1/download/ID/cancel", "POST"),
        _about("cancel with a body", "409 | 200", "/v1/download/ID/cancel", "POST", data=b"x"),
        _about("retry though nothing failed", "409 | 400", "/v1/download/ID/retry", "POST"),
        _about("its link by HEAD", "302 | 405", "/v1/download/ID", "HEAD"),
        _about("its link with a slash behind", "302 | 404 | 308", "/v1/download/ID/"),
    )


def _resumed_stream(last: str, expected: str = "complete | reset, complete | 204", what: str = "") -> Story:
    """What a stream of a finished job says to one who comes with this id."""

    async def tell(bench: Bench) -> str:
        api = (await bench.service()).api
        path = f"/v1/download/subscribe/{await _one_job(bench)}"
        async with asyncio.timeout(5):
            reply = await api.call("GET", path, headers={"Accept": "text/event-stream", "Last-Event-ID": last})
            query = await api.call("GET", path, params={"lastEventId": last}, headers={"Accept": "text/event-stream"})
        if reply.status != query.status:
            return f"{reply.status} by the header, {query.status} by the query"
        if reply.status != 200:
            return str(reply.status)
        events = re.findall(r"^event: (\w+)", reply.raw.decode(), re.MULTILINE)
        return ", ".join(events)

    return Story(f"Last-Event-ID: {what or last[:30]!r}", expected, tell)


LAST_IDS = (
    "0", "0-0", "abc", "1-1-1", "-1", "1-", "-", "$", "+", ">", "*", "1.5", "1e5", "99999999999999-0", "9" * 40,
    "18446744073709551615-18446744073709551615", "18446744073709551616-0", "0x10", "1 1", "null", "undefined", "'; --",
    "1-1,2-2", "é",
)  # fmt: skip


def _streams() -> tuple[Story, ...]:
    stream = "/v1/download/subscribe/ID"
    return (
        *(_resumed_stream(last) for last in LAST_IDS),
        _resumed_stream("7" * 5000, what="5,000 digits"),
        _about("stream with a slash behind", "404 | 200 | 308", stream + "/"),
        _about("stream by HEAD", "200 | 204 | 405", stream, "HEAD"),
        _about("stream by POST", "405", stream, "POST"),
        _about("stream for Accept: */*", "200", stream, headers={"Accept": "*/*"}),
        _about("stream without an Accept", "200", stream, headers={"Accept": ""}),
        _about("stream for a quality of 0", "200 | 406", stream, headers={"Accept": "text/event-stream;q=0"}),
        _about("stream with both ids", "200 | 204", stream + "?lastEventId=0-0", headers={"Last-Event-ID": "1-1"}),
    )


async def _two_retries(bench: Bench) -> str:
    """Two retries at once of one failed job give jobs that hold only what failed."""
    api = (await bench.service()).api
    bad = _Fickle()
    async with raw_origin(by_path({"/bad": bad.script}, answer()), HOST) as origin:
        done = await bench.job([origin.url("/bad"), origin.url("/good")])
        bad.is_good = True
        replies = await asyncio.gather(*(api.call("POST", f"/v1/download/{done.job_id}/retry") for _ in range(2)))
        ends = [await api.finished(each.body["jobId"]) for each in replies if each.status == 202]
    return f"{done.codes()}; " + ", ".join(f"{each['status']} {each['totalFiles']}" for each in ends)


class _Fickle:
    """A source that is not there until it is."""

    is_good = False

    async def script(self, exchange: Exchange) -> None:
        """One answer."""
        serve: Script = answer() if self.is_good else answer({}, b"", "404 No")
        await serve(exchange)


async def _after_deleting(bench: Bench) -> str:
    """A deleted job answers as one that never was, however often it is asked for or deleted."""
    api = (await bench.service()).api
    async with raw_origin(answer(), HOST) as origin:
        job_id = (await bench.job([origin.url()])).job_id
    path = f"/v1/download/{job_id}"
    first = [(await api.call("DELETE", path)).status for _ in range(2)]
    calls = (
        ("GET", path),
        ("GET", f"/v1/download/status/{job_id}"),
        ("GET", path + "/files"),
        ("GET", path + "/files/0"),
        ("POST", path + "/cancel"),
        ("POST", path + "/retry"),
    )
    later = {(await api.call(*each)).status for each in calls}
    listed = await api.call("GET", "/v1/download/jobs?limit=100")
    assert job_id not in listed.raw.decode(), "still listed"
    return f"{first}, {later}"


async def _two_cancels(bench: Bench) -> str:
    """Cancel while nothing has answered yet, ten times at once: one end."""
    api = (await bench.service()).api

    async def never(exchange: Exchange) -> None:
        await asyncio.sleep(30)

    async with raw_origin(never, HOST) as origin:
        job_id = await api.submit([origin.url()])
        replies = await asyncio.gather(*(api.call("POST", f"/v1/download/{job_id}/cancel") for _ in range(10)))
        frames = await api.events(job_id)
    ends = [frame.event for frame in frames if frame.event in ("complete", "error")]
    return f"{ {each.status for each in replies} }, {len(ends)} end"


async def _many_listeners(bench: Bench) -> str:
    """Fifty streams of one job all see its end, and the same."""
    api = (await bench.service()).api
    opened = asyncio.Event()

    async def waits(exchange: Exchange) -> None:
        await opened.wait()
        await answer()(exchange)

    async with raw_origin(waits, HOST) as origin:
        job_id = await api.submit([origin.url()])
        streams = [asyncio.create_task(api.events(job_id)) for _ in range(50)]
        await asyncio.sleep(0.3)
        opened.set()
        ends = {(frames[-1].event, frames[-1].id) for frames in await asyncio.gather(*streams)}
    return f"{len(ends)} end, {next(iter(ends))[0]}"


CASES: tuple[Case, ...] = (
    Case(
        "C01.2",
        "redirects to inside, further",
        (
            _hops(
                f"{len(TRICKS)} tricks by redirect",
                f"{UNREADABLE} | redirect_invalid | http_status:404 | bad_scheme | too_many_redirects | protocol_error",
                TRICKS,
            ),
            _hops(
                f"{len(IPV6)} forms of IPv6 by redirect",
                f"{UNREADABLE} | redirect_invalid | too_many_redirects",
                tuple(f"http://{host}:{{port}}/" for host in IPV6),
            ),
            Story("the other fields of a request", "refused", _through_the_door),
            Story("a proxy in the environment", "done, done", _by_a_proxy),
        ),
    ),
    Case(
        "C02.2",
        "names that move, further",
        (
            Story("job after job", "done or blocked", _same_name_for_all),
            _rebinding(
                "inside after a redirect elsewhere",
                "blocked_address | too_many_redirects | done",
                (HOST, CANARIES[0]),
                in_turn(redirect("/2", headers={"Connection": "close"}), answer()),
            ),
            _rebinding(
                "inside after a 503",
                "blocked_address | http_status:503 | done",
                (HOST, CANARIES[0]),
                answer({"Retry-After": "0", "Connection": "close"}, b"", "503 No"),
            ),
            _rebinding(
                "inside after a cut, three files",
                "blocked_address | truncated | blocked_address and truncated | blocked_address and done | done",
                (HOST, CANARIES[0]),
                cut(1000, ETAG),
                3,
            ),
            _name("an address twice", WHOLE, named(HOST, HOST)),
            _name(
                "a closed public one and an inner one",
                "connect_failed | blocked_address",
                named("127.0.0.3", CANARIES[0]),
            ),
            _name("a mapped form of the public one", WHOLE + " | blocked_address", named(f"::ffff:{HOST}")),
        ),
    ),
    Case(
        "C03.2",
        "spellings, further",
        (
            _urls(
                f"{len(SPELLINGS)} spellings directly",
                UNREADABLE,
                tuple(f"http://{host}:{{port}}/" for host in SPELLINGS),
            ),
            _hops(
                f"{len(SPELLINGS)} spellings by redirect",
                f"{UNREADABLE} | redirect_invalid | too_many_redirects",
                tuple(f"http://{host}:{{port}}/" for host in SPELLINGS),
            ),
            _urls(f"{len(IPV6)} forms of IPv6", UNREADABLE, tuple(f"http://{host}:{{port}}/" for host in IPV6)),
            _urls(f"{len(TRICKS)} tricks", UNREADABLE, TRICKS),
        ),
    ),
    Case(
        "C05.2",
        "addresses, further",
        (
            _urls("as literals", f"{UNREADABLE}", tuple(_at(each) for each in RANGES if each not in _SERVICES)),
            _hops(
                "by redirect",
                f"{UNREADABLE} | redirect_invalid",
                tuple(_at(each) for each in RANGES if each not in _SERVICES),
            ),
            _urls(
                "as a name's only one",
                "blocked_address",
                tuple(
                    f"http://{named(each)}:{{port}}/" for each in RANGES if each not in _SERVICES and each[-1] != "."
                ),
            ),
        ),
    ),
    Case("C09.2", "headers of a request", tuple(_headers(*row) for row in HEADERS)),
    Case(
        "D05.2",
        "completing, further",
        (
            _survives("NoSuchUpload though it took effect", on("Complete", "gone")),
            _survives("no document though it took effect", on("Complete", "garbage")),
            _survives("a page of a proxy, then the document", on("Complete", "503 html")),
            _survives("409 OperationAborted, then the document", on("Complete", "409 OperationAborted")),
            _survives("400 RequestTimeout, then the document", on("Complete", "400 RequestTimeout")),
            _gives_up("InvalidPart", on("Complete", "400 InvalidPart", always=True)),
            _gives_up("EntityTooSmall", on("Complete", "400 EntityTooSmall", always=True)),
            _gives_up("NoSuchUpload and nothing there", on("Complete", "404 NoSuchUpload", always=True)),
            _gives_up("ExpiredToken", on("Complete", "403 ExpiredToken", always=True)),
            _either(_survives("another ETag", on("Complete", "other-etag", always=True))),
            _fails("the object is half as large", ("Head", "half")),
            _fails("the object is not there", ("Head", "404 NoSuchKey")),
            _fails("the object reads back otherwise", ("Get", "other-bytes")),
            _fails("the object reads back by half", ("Get", "half")),
            _either(_survives("a range is ignored when it is read back", on("Get", "whole", always=True))),
            _fails("a small archive that is half as large", ("Head", "half"), data=BODY),
            _fails("a small archive that reads back otherwise", ("Get", "other-bytes"), data=BODY),
        ),
    ),
    Case(
        "D07.2",
        "parts, further",
        (
            _survives("400 RequestTimeout", on("UploadPart", "400 RequestTimeout")),
            _survives("429", on("UploadPart", "429 TooManyRequests")),
            _survives("a page of a proxy", on("UploadPart", "503 html")),
            _survives("400 BadDigest once", on("UploadPart", "400 BadDigest")),
            _survives("409 once", on("UploadPart", "409 OperationAborted")),
            _gives_up("NoSuchUpload", on("UploadPart", "404 NoSuchUpload", always=True)),
            _gives_up("EntityTooLarge", on("UploadPart", "400 EntityTooLarge", always=True)),
            _gives_up("no bucket any more", on("UploadPart", "404 NoSuchBucket", always=True)),
            _gives_up("InvalidAccessKeyId", on("UploadPart", "403 InvalidAccessKeyId", always=True)),
            _either(_survives("no ETag in the first answer", on("UploadPart", "no-etag"))),
            _either(_survives("another ETag in the answer", on("UploadPart", "other-etag", always=True))),
            _survives("an upload is begun with a page first", on("CreateUpload", "503 html")),
            _survives("a small archive: 400 RequestTimeout", on("Put", "400 RequestTimeout"), BODY),
            _survives("a small archive: 429", on("Put", "429 TooManyRequests"), BODY),
            _gives_up("quota exceeded", on("UploadPart", "403 QuotaExceeded", always=True)),
        ),
    ),
    Case("E02", "requests that are none", _bodies()),
    Case(
        "E03.2",
        "calls that lead nowhere, and streams taken up",
        (
            *(_call(f"{method} {path[:50]}", method, path, expected) for method, path, expected in PATHS),
            *_abouts(),
            *_streams(),
            Story(
                "two retries at once",
                "http_status:404, done; completed 1, completed 1 | http_status:404, done; completed 1",
                _two_retries,
            ),
            Story("everything about a deleted job", "[204, 204], {404}", _after_deleting),
            Story("ten cancels at once", "{200}, 1 end", _two_cancels),
            Story("fifty listeners", "1 end, complete", _many_listeners),
        ),
    ),
)
