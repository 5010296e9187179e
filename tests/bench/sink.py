"""An S3 endpoint that takes all bytes and keeps none but the ends of objects: `python -m tests.bench.sink`.

It shows what the sender costs, not what a store does. It knows as much of S3 as the contestants need: buckets that are
always there, objects, multipart uploads, HEAD, and GET of the last bytes (where the directory of an archive lies). It
checks no signature and gives tags that are no digests.
"""

from __future__ import annotations

import asyncio
import html
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import cast
from urllib.parse import parse_qs, unquote, urlsplit

import uvloop

# What is kept of the end of an object, or of a part: archives of 20,000 files have directories of 2 MB.
TAIL = 4 * 1024 * 1024
BUFFER = 1024 * 1024
NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_LENGTH = re.compile(rb"(?i)\r\ncontent-length:\s*(\d+)")


@dataclass(frozen=True, slots=True)
class Piece:
    """An object or a part of one: how many bytes it had, the last of them, its tag and its caller's metadata."""

    size: int
    tail: bytes
    tag: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Store:
    """What is remembered."""

    objects: dict[str, Piece] = field(default_factory=dict)
    uploads: dict[str, dict[int, Piece]] = field(default_factory=dict)
    metadata: dict[str, Mapping[str, str]] = field(default_factory=dict)
    began: int = 0
    taken: int = 0
    tagged: int = 0

    def new_tag(self) -> str:
        """A tag that no other object has; it is no digest, and does not look like one."""
        self.tagged += 1
        return f'"{self.tagged:032x}x"'


def joined(parts: Mapping[int, Piece], tag: str, metadata: Mapping[str, str]) -> Piece:
    """The object that the parts make, in the order of their numbers."""
    ordered = [parts[number] for number in sorted(parts)]
    tail = b""
    for part in ordered:
        tail = part.tail if part.size > len(part.tail) else (tail + part.tail)[-TAIL:]
    return Piece(sum(part.size for part in ordered), tail, tag, metadata)


@dataclass(slots=True)
class Asked:
    """One request, its body counted and its end kept."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    left: int
    size: int
    tail: bytearray = field(default_factory=bytearray)

    def piece(self, tag: str) -> Piece:
        """What was sent."""
        size = int(self.headers.get("x-amz-decoded-content-length", self.size))
        return Piece(size, bytes(self.tail[-TAIL:]), tag, self.metadata)

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the caller wants to be remembered with the object."""
        return {name: value for name, value in self.headers.items() if name.startswith("x-amz-meta-")}


class Connection(asyncio.BufferedProtocol):
    """One connection: heads are read, bodies are received into one buffer again and again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._buffer = memoryview(bytearray(BUFFER))
        self._head = bytearray()
        self._asked: Asked | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to answer."""
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Always the same buffer."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take in what has come; a head may be followed by the beginning of its body, and that by another head."""
        given = self._buffer[:nbytes]
        while given or (self._asked is not None and self._asked.left == 0):
            if self._asked is None:
                given = self._read_head(given)
                if self._asked is None:
                    return
            given = self._read_body(self._asked, given)

    def _read_head(self, given: memoryview) -> memoryview:
        known = len(self._head)
        self._head += given
        end = self._head.find(b"\r\n\r\n", max(0, known - 3))
        if end < 0:
            return given[:0]
        head, rest = bytes(self._head[:end]), given[end + 4 - known :]
        self._head.clear()
        self._asked = _asked(head)
        if self._asked.headers.get("expect", "").lower() == "100-continue":
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return rest

    def _read_body(self, asked: Asked, given: memoryview) -> memoryview:
        mine = given[: asked.left]
        asked.left -= len(mine)
        self._store.taken += len(mine)
        if asked.left < TAIL:
            asked.tail += mine[-TAIL:]
        if asked.left == 0:
            self._asked = None
            self._answer(asked, *answer(self._store, asked))
        return given[len(mine) :]

    def _answer(self, asked: Asked, status: int, headers: Mapping[str, str], body: bytes) -> None:
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Date: {formatdate(usegmt=True)}"]
        lines += [f"{name}: {value}" for name, value in ({"Content-Length": str(len(body))} | dict(headers)).items()]
        sent = b"" if asked.method == "HEAD" else body
        self._write("\r\n".join(lines).encode() + b"\r\n\r\n" + sent)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


def _asked(head: bytes) -> Asked:
    first, _, rest = head.decode("latin-1").partition("\r\n")
    method, target, _ = first.split(" ", 2)
    url = urlsplit(target)
    pairs = (line.partition(":") for line in rest.split("\r\n") if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    length = int(headers.get("content-length", 0))
    if "chunked" in headers.get("transfer-encoding", ""):
        raise ValueError("this sink takes bodies with a Content-Length only")
    return Asked(method, unquote(url.path), parse_qs(url.query, keep_blank_values=True), headers, length, length)


Answer = tuple[int, Mapping[str, str], bytes]


def answer(store: Store, asked: Asked) -> Answer:
    """What S3 would say, as far as anybody here asks."""
    bucket, _, key = asked.path.lstrip("/").partition("/")
    match asked.method, key:
        case "GET", "":
            return 200, {}, f"<ListBucketResult {NAMESPACE}><Name>{bucket}</Name></ListBucketResult>".encode()
        case "HEAD" | "PUT", "":
            return 200, {}, b""
        case "POST", _:
            return _upload(store, asked, key)
        case "PUT", _:
            return _put(store, asked)
        case "GET" | "HEAD", _:
            return _get(store, asked)
        case _:
            store.objects.pop(asked.path, None)
            return 204, {}, b""


def _upload(store: Store, asked: Asked, key: str) -> Answer:
    """Begin a multipart upload, or complete one."""
    if "uploads" in asked.query:
        store.began += 1
        upload_id = f"upload-{store.began}"
        store.uploads[upload_id] = {}
        store.metadata[upload_id] = asked.metadata
        body = f"<Key>{key}</Key><UploadId>{upload_id}</UploadId>"
        return 200, {}, f"<InitiateMultipartUploadResult {NAMESPACE}>{body}</InitiateMultipartUploadResult>".encode()
    upload_id = asked.query.get("uploadId", [""])[0]
    parts = store.uploads.pop(upload_id, None)
    if parts is None:
        return 404, {}, b"<Error><Code>NoSuchUpload</Code></Error>"
    store.objects[asked.path] = made = joined(parts, store.new_tag(), store.metadata.pop(upload_id))
    body = f"<Key>{key}</Key><ETag>{html.escape(made.tag)}</ETag>"
    return 200, {}, f"<CompleteMultipartUploadResult {NAMESPACE}>{body}</CompleteMultipartUploadResult>".encode()


def _put(store: Store, asked: Asked) -> Answer:
    """Take an object or a part of one."""
    piece = asked.piece(store.new_tag())
    if "partNumber" not in asked.query:
        store.objects[asked.path] = piece
        return 200, {"ETag": piece.tag}, b""
    parts = store.uploads.get(asked.query["uploadId"][0])
    if parts is None:
        return 404, {}, b"<Error><Code>NoSuchUpload</Code></Error>"
    parts[int(asked.query["partNumber"][0])] = piece
    return 200, {"ETag": piece.tag}, b""


def _get(store: Store, asked: Asked) -> Answer:
    """An object's size, or a range of its end."""
    found = store.objects.get(asked.path)
    if found is None:
        return 404, {}, b"<Error><Code>NoSuchKey</Code></Error>"
    about = {"ETag": found.tag, "Last-Modified": formatdate(usegmt=True), **found.metadata}
    if asked.method == "HEAD":
        return 200, about | {"Content-Length": str(found.size)}, b""
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.headers.get("range", "bytes=0-"))
    first, last = (int(wanted[1]), int(wanted[2] or found.size - 1)) if wanted else (0, found.size - 1)
    kept_from = found.size - len(found.tail)
    if first < kept_from:
        return 416, {}, b"<Error><Code>InvalidRange</Code><Message>only the end is kept</Message></Error>"
    body = found.tail[first - kept_from : last + 1 - kept_from]
    return 206, about | {"Content-Range": f"bytes {first}-{first + len(body) - 1}/{found.size}"}, body


async def main() -> None:
    """Serve on a free port of loopback until it is ended; the first line tells the port."""
    store = Store()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(store), "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))
