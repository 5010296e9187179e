"""Raw HTTP requests for every route: right ones, and what becomes of them in bad hands. All chance is seeded."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from downloader.web.routes import ROUTES

CRLF = b"\r\n"
ODD_VALUES = (
    b"", b" ", b"\x00", b"a\x00b", b"a\rb", b"a\nb", b"\x01\x02", b"\xff\xfe", "é€😀".encode(),
    b"\xc3\x28", b"a" * 5000,
    b"a" * 20_000, b"0", b"-1", b"99999999999999999999999", b"*", b"*/*;q=2", b",,,;;;", b'"', b'"\\', b"'", b"%s%n",
    b"bytes=0-", b"bytes=-1,5-2", b"100-continue", b"chunked", b"gzip, chunked", b"wait=1", b"wait=-1", b"wait=1e9",
    b"Bearer ", b"Bearer dl_x.y", b"Basic Og==", b"127.0.0.1", b"00-0-0-0", b"../../etc/passwd", b"${jndi:x}", b"<a>",
)  # fmt: skip
NAMES = (
    b"Host", b"Content-Length", b"Transfer-Encoding", b"Content-Type", b"Content-Encoding", b"Connection", b"Expect",
    b"Upgrade", b"Accept", b"Accept-Encoding", b"Authorization", b"Cookie", b"Origin", b"Range", b"If-None-Match",
    b"If-Modified-Since", b"Last-Event-ID", b"Idempotency-Key", b"X-Idempotency-Key", b"X-Request-Id", b"traceparent",
    b"Prefer", b"Forwarded", b"X-Forwarded-For", b"X-Forwarded-Proto", b"TE", b"Trailer",
    b"Keep-Alive", b"HTTP2-Settings",
    b"Sec-WebSocket-Key", b"Sec-WebSocket-Key1", b"Sec-WebSocket-Version", b"Access-Control-Request-Method", b"X-Any",
)  # fmt: skip
ODD_NAMES = (b"", b" ", b"A B", b"A:", b"A\x00", b"\xc3\xa9", b"Host ", b" Host", b"\tX", b"(X)", b"X" * 20_000, b":")
METHODS = (
    b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"CONNECT", b"PRI", b"get", b"FOO",
    b"", b"G" * 300, b"GE\x00T", b"GET\t", b"\xc3\xa9", b"G(T", b"M-SEARCH",
)  # fmt: skip
VERSIONS = (
    b"HTTP/1.0", b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/9.9", b"http/1.1", b"HTTP/1.1.1", b"HTTP/11", b"HTTP/",
    b"", b"HTTP/1.1 ", b"HTTP/-1.1", b"HTTP/1,1", b"FTP/1.1", b"\x00",
)  # fmt: skip
ODD_IDS = (
    b"..", b".", b"%00", b"%2e%2e", b"%2F", b"%252F", b"%ff", b"%zz", b"%",
    b"a%20b", "é".encode(), b"%C3%A9", b"\xff",
    b"a" * 8000, b"jobs", b"initiate", b"status", b"0", b"-1", b"a;b=c", b"a\\b", b"a b", b"{job_id}", b"'or 1=1--",
    b"0b0f7f0e-7c1d-4a7c-9a3e-2f6d5c4b3a21", b"0B0F7F0E-7C1D-4A7C-9A3E-2F6D5C4B3A21", b"\t", b"\x00", b"#", b"a#b?c",
)  # fmt: skip
QUERIES = (
    b"", b"?", b"?&&==&", b"?files=%00", b"?files=maybe", b"?files=false",
    b"?limit=99999999999999999999", b"?limit=-1",
    b"?limit=0", b"?after=%F0%9F", b"?after=1&after=2", b"?status=nonsense", b"?lastEventId=1-1",
    b"?lastEventId=%0d%0aX",
    b"?last_event_id=9999999999999999999999-0", b"?token=x", b"?_=1", b"?" + b"a=b&" * 3000, b"?\xff", b"?a=%zz",
)  # fmt: skip
TARGETS = (
    b"*", b"/", b"//", b"///v1//download", b"/..", b"/../../etc/passwd", b"/%2e%2e/", b"/.", b"http://other.example/",
    b"http://127.0.0.1/livez", b"https://a:b@c/livez", b"other.example:443", b"a", b"", b"?x",
    b"/\xff", b"/livez/", b"/LIVEZ",
    b"/livez\x00", b"/errors/%00", b"/errors/internal", b"/errors/" + b"a" * 9000,
    b"http://[::1/", b"http://:80/", b"//@/",
    b"http:///livez", b"/a b", b"/v1/download", b"/v1/download/", b"/favicon.ico", b"/v1/download/%2Fjobs",
)  # fmt: skip
GARBAGE = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"SSH-2.0-x\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\r\n" * 50,
    b"\x00" * 100, b"*1\r\n$4\r\nPING\r\n", b"EHLO x\r\n", b"\xff" * 1000,
    b" GET / HTTP/1.1\r\n\r\n", b"GET /livez\r\n\r\n",
    b"a" * 100_000, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 5000, b"{}", b"GET / HTTP/1.1\n\n",
    b"GET / HTTP/1.1\r\r\n\r\n",
)  # fmt: skip
CHUNKS = (
    b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"FFFFFFFFFFFFFFFFF\r\n", b"-1\r\n",
    b"zz\r\nhello\r\n", b"5;a=b\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhel", b"5\nhello\n0\n\n", b"5\r\nhelloworld\r\n0\r\n\r\n", b"0\r\nTrailer: x\r\n\r\n", b"1\r\n{\r\n" * 500,
    b"5" + b";x" * 9000 + b"\r\n", b"0x5\r\nhello\r\n0\r\n\r\n", b" 5\r\nhello\r\n0\r\n\r\n", b"",
    b"\r\n", b"0\r\n" + b"T: x\r\n" * 300,
)  # fmt: skip
BODIES = (
    b"", b"{", b"[]", b"null", b"1e999", b"NaN", b'{"files":[]}', b'{"files":[{"url":"http://127.0.0.1:1/"}],"x":1}',
    b'"' + b"a" * 70_000 + b'"', b"[" * 5000, b'{"a":1,"a":2}', b"\xff\xfe{}", b"\xef\xbb\xbf{}",
    b'{"files":"\\ud800"}',
    b'{"file_ids":[1e400],"source_urls":["x"]}', b"1" * 5000, b'{"files":[{"url":"\\u0000"}]}',
    b"{}" + b" " * 200_000,
)  # fmt: skip


# What once went wrong is tried first, always.
KNOWN = (
    b"GET /livez HTTP/2.0\r\nHost: localhost\r\n\r\n",
    b"GET /livez\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: localhost\r\nExpect: \xc3(\r\n\r\n",
    b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nExpect: much\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\nno gzip..",
    b"GET /livez HTTP/1.1\r\nHost: localhost\r\nA\x00: b\r\n\r\n",
)


@dataclass(frozen=True)
class Message:
    """A request in its pieces."""

    method: bytes
    target: bytes
    version: bytes = b"HTTP/1.1"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""

    def raw(self) -> bytes:
        """The bytes on the wire."""
        lines = [b" ".join((self.method, self.target, self.version))]
        lines += [name + b": " + value for name, value in self.headers]
        return CRLF.join(lines) + CRLF * 2 + self.body

    def having(self, name: bytes, value: bytes) -> Message:
        """The same with one more header field."""
        return replace(self, headers=(*self.headers, (name, value)))

    def without(self, name: bytes) -> Message:
        """The same without the header fields of that name."""
        return replace(self, headers=tuple(pair for pair in self.headers if pair[0] != name))


@dataclass(frozen=True)
class Case:
    """What is sent over one connection, piece by piece, and what was done to it."""

    what: str
    pieces: tuple[bytes, ...]


@dataclass
class Forms:
    """Makes cases up; the same ones for the same seed, host and job ids."""

    seed: int
    host: bytes
    job_ids: tuple[bytes, ...]
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def cases(self, count: int) -> Iterator[Case]:
        """So many cases; what is known comes first."""
        yield from (Case("known", (raw,)) for raw in KNOWN[:count])
        for _ in range(count - len(KNOWN)):
            yield self._case()

    def _case(self) -> Case:
        chance = self._random.random()
        if chance < 0.05:
            return Case("garbage", (self._random.choice(GARBAGE),))
        if chance < 0.15:
            several = [self._mutated() for _ in range(self._random.choice((2, 3, 10, 60)))]
            return Case("pipeline of " + several[0][0], (b"".join(message.raw() for _, message in several),))
        what, message = self._mutated()
        raw = message.raw()
        if chance < 0.4:
            damage = self._random.choice(DAMAGES)
            what, raw = f"{what}, {damage.__name__}", damage(self._random, raw)
        if chance > 0.9 and len(raw) > 2:
            cut = self._random.randrange(1, len(raw))
            return Case(f"{what}, in two pieces", (raw[:cut], raw[cut:]))
        return Case(what, (raw,))

    def _mutated(self) -> tuple[str, Message]:
        message, done = self.sound(), []
        for _ in range(self._random.choice((0, 1, 1, 1, 2, 3))):
            change = self._random.choice(CHANGES)
            message = change(self._random, message)
            done.append(change.__name__.strip("_"))
        return f"{message.method[:8]!r} {'+'.join(done) or 'sound'}", message

    def sound(self) -> Message:
        """A right request of some route."""
        route = self._random.choice(ROUTES)
        target = route.path.encode()
        for start in (b"{job_id", b"{index", b"{code", b"{delivery"):
            if start in target:
                begin = target.index(start)
                end = target.index(b"}", target.rindex(b"$)") if b"$)" in target and start == b"{job_id" else begin)
                values = {b"{job_id": self.job_ids, b"{index": (b"0", b"1", b"7"), b"{code": (b"internal",)}
                target = target[:begin] + self._random.choice(values.get(start, (b"0",))) + target[end + 1 :]
        message = Message(route.method.encode(), target, headers=((b"Host", self.host),))
        if route.method == "POST":
            listed = [{"url": "http://127.0.0.1:1/a"}]
            body = json.dumps({"files": listed}).encode() if route.path.endswith("initiate") else b"{}"
            message = replace(message.having(b"Content-Type", b"application/json"), body=body)
            message = message.having(b"Content-Length", str(len(body)).encode())
        if "subscribe" in route.path:
            message = message.having(b"Accept", b"text/event-stream")
        return message


Change = Callable[[random.Random, Message], Message]


def _method(chance: random.Random, message: Message) -> Message:
    return replace(message, method=chance.choice(METHODS))


def _version(chance: random.Random, message: Message) -> Message:
    return replace(message, version=chance.choice(VERSIONS))


def _target(chance: random.Random, message: Message) -> Message:
    return replace(message, target=chance.choice(TARGETS))


def _id(chance: random.Random, message: Message) -> Message:
    parts = message.target.split(b"/")
    parts[chance.randrange(len(parts))] = chance.choice(ODD_IDS)
    return replace(message, target=b"/".join(parts))


def _query(chance: random.Random, message: Message) -> Message:
    return replace(message, target=message.target + chance.choice(QUERIES))


def _odd_header(chance: random.Random, message: Message) -> Message:
    return message.having(chance.choice(NAMES), chance.choice(ODD_VALUES))


def _other_header(chance: random.Random, message: Message) -> Message:
    name = chance.choice(NAMES)
    return message.without(name).having(name, chance.choice(ODD_VALUES))


def _odd_name(chance: random.Random, message: Message) -> Message:
    return message.having(chance.choice(ODD_NAMES), chance.choice(ODD_VALUES))


def _twice(chance: random.Random, message: Message) -> Message:
    return message.having(*chance.choice(message.headers or ((b"Host", b"a"),)))


def _none(chance: random.Random, message: Message) -> Message:
    return message.without(chance.choice(message.headers or ((b"Host", b"a"),))[0])


def _many_headers(chance: random.Random, message: Message) -> Message:
    many = tuple((b"X-%d" % number, b"v") for number in range(chance.choice((100, 127, 129, 1000))))
    return replace(message, headers=message.headers + many)


def _folded(_chance: random.Random, message: Message) -> Message:
    return message.having(b"X-Folded", b"a\r\n b\r\n\tc")


def _length(chance: random.Random, message: Message) -> Message:
    wrong = (b"0", b"1", b"-1", b"+5", b"5, 5", b"5,6", b"0x5", b"1e3", b"", b"9" * 30, b"18446744073709551616", b"5 5")
    return message.without(b"Content-Length").having(b"Content-Length", chance.choice(wrong))


def _both_lengths(chance: random.Random, message: Message) -> Message:
    coding = chance.choice(
        (b"chunked", b"Chunked", b"identity", b"chunked, chunked", b"gzip", b" chunked", b"\x0bchunked")
    )
    return replace(message.having(b"Transfer-Encoding", coding), body=chance.choice(CHUNKS))


def _chunked(chance: random.Random, message: Message) -> Message:
    message = message.without(b"Content-Length").having(b"Transfer-Encoding", b"chunked")
    return replace(message, body=chance.choice(CHUNKS))


def _body(chance: random.Random, message: Message) -> Message:
    body = chance.choice(BODIES)
    return replace(message.without(b"Content-Length").having(b"Content-Length", str(len(body)).encode()), body=body)


def _coding(chance: random.Random, message: Message) -> Message:
    return message.having(
        b"Content-Encoding", chance.choice((b"gzip", b"br", b"deflate", b"zstd", b"foo", b"gzip, gzip"))
    )


CHANGES: tuple[Change, ...] = (
    _method, _version, _target, _id, _id, _query, _odd_header, _odd_header, _other_header, _odd_name, _twice, _none,
    _many_headers, _folded, _length, _both_lengths, _chunked, _body, _coding,
)  # fmt: skip

Damage = Callable[[random.Random, bytes], bytes]


def flipped(chance: random.Random, raw: bytes) -> bytes:
    """Some bytes are others."""
    data = bytearray(raw)
    for _ in range(chance.choice((1, 2, 8))):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)


def cut(chance: random.Random, raw: bytes) -> bytes:
    """The end is missing."""
    return raw[: chance.randrange(1, len(raw))]


def doubled(chance: random.Random, raw: bytes) -> bytes:
    """A stretch stands there twice."""
    start, end = sorted(chance.randrange(len(raw)) for _ in range(2))
    return raw[:end] + raw[start:]


def lacking(chance: random.Random, raw: bytes) -> bytes:
    """A stretch is missing."""
    start = chance.randrange(len(raw))
    return raw[:start] + raw[start + chance.randrange(1, 40) :] or b"\n"


def inserted(chance: random.Random, raw: bytes) -> bytes:
    """Something stands in between."""
    start = chance.randrange(len(raw))
    odd = (b"\x00", b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"\xff", b"\r\n\r\n", chance.randbytes(9))
    return raw[:start] + chance.choice(odd) + raw[start:]


def bare_newlines(_chance: random.Random, raw: bytes) -> bytes:
    """Lines end by LF alone."""
    return raw.replace(CRLF, b"\n")


DAMAGES: tuple[Damage, ...] = (flipped, cut, doubled, lacking, inserted, bare_newlines)
