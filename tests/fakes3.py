"""An S3 store that fails as told: for what no real store can be made to do on command."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

from aiohttp import web

from downloader.config import StorageSettings

_NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


@dataclass(frozen=True, slots=True)
class Call:
    """One request: the S3 operation, its part number (0 if none), how often this very one came, and its headers."""

    operation: str
    number: int
    time: int
    headers: Mapping[str, str]
    key: str


# What becomes of a call: None is the right answer; a number is that status without any effect; the words are
# "reset" (connection reset, no effect), "lost" (takes effect, then reset), "late" (no answer; takes effect when
# `release` is set), "error-body" (200 with an Error), "lost-error-body" (takes effect, 200 with an Error),
# "empty" (takes effect, 200 with nothing), "spaces" (white space before the document).
Fault = Callable[[Call], int | str | None]


@dataclass(slots=True)
class FakeS3:
    """The store's state, and all calls in order."""

    endpoint_url: str = ""
    fault: Fault = lambda call: None
    calls: list[Call] = field(default_factory=list)
    buckets: set[str] = field(default_factory=lambda: {"downloads"})
    objects: dict[str, bytes] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    upload_keys: dict[str, str] = field(default_factory=dict)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    kms: bool = False  # ETags that look like MD5s and are none, as with SSE-KMS
    began: int = 0

    def settings(self, **more: object) -> StorageSettings:
        """Settings for this store."""
        given = {"endpoint_url": self.endpoint_url, "access_key_id": "fake", "secret_access_key": "fake-secret-key"}
        return StorageSettings.model_validate(given | more)

    def made(self, operation: str) -> list[Call]:
        """The calls of one operation, those of probing left out."""
        return [call for call in self.calls if call.operation == operation and ".probe/" not in call.key]

    async def handle(self, request: web.Request) -> web.StreamResponse:  # noqa: PLR0911 - one for each fault
        """Answer one request, unless the fault says otherwise."""
        call = self._call(request)
        self.calls.append(call)
        fault = None if ".probe/" in call.key and call.operation != "UploadPart" else self.fault(call)
        if isinstance(fault, int):
            code = {503: "SlowDown", 501: "NotImplemented", 500: "InternalError"}.get(fault, "AccessDenied")
            await request.read()
            return _error(fault, code)
        if fault == "reset":
            await request.content.readany()
            return self._reset(request)
        if fault == "error-body":
            return web.Response(text="<Error><Code>InternalError</Code></Error>")
        body = await request.read()
        if fault == "late":
            await self.release.wait()
        answer = self._answer(call, request, body)
        if fault in ("lost", "late"):
            return self._reset(request)
        if fault == "lost-error-body":
            return web.Response(text="<Error><Code>InternalError</Code></Error>")
        if fault == "empty":
            return web.Response()
        if fault == "spaces":
            return web.Response(text=f"     {answer.text}")
        return answer

    def _digest(self, data: bytes) -> str:
        return _md5(data + b"kms" if self.kms else data)

    def _reset(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    def _call(self, request: web.Request) -> Call:
        query, key = request.query, request.match_info.get("key", "")
        if not key:
            operation = {"HEAD": "HeadBucket", "PUT": "CreateBucket", "GET": "ListUploads"}[request.method]
        elif "uploads" in query:
            operation = "CreateUpload"
        elif "uploadId" in query:
            put = "CopyPart" if "x-amz-copy-source" in request.headers else "UploadPart"
            operation = {"PUT": put, "POST": "Complete", "DELETE": "Abort"}[request.method]
        else:
            operation = {"PUT": "Put", "GET": "Get", "HEAD": "Head", "DELETE": "Delete"}[request.method]
        number = int(query.get("partNumber", 0))
        time = sum((each.operation, each.number, each.key) == (operation, number, key) for each in self.calls) + 1
        return Call(operation, number, time, request.headers.copy(), key)

    def _answer(self, call: Call, request: web.Request, body: bytes) -> web.Response:  # noqa: C901, PLR0911, PLR0912 - one arm per operation
        key, upload_id = call.key, request.query.get("uploadId", "")
        if call.operation in ("UploadPart", "CopyPart", "Complete", "Abort") and upload_id not in self.uploads:
            return _error(404, "NoSuchUpload")
        given = call.headers.get("x-amz-checksum-crc32")
        if given and base64.b64decode(given) != zlib.crc32(body).to_bytes(4, "big"):
            return _error(400, "BadDigest")
        match call.operation:
            case "HeadBucket":
                return web.Response(status=200 if request.match_info["bucket"] in self.buckets else 404)
            case "CreateBucket":
                self.buckets.add(request.match_info["bucket"])
            case "CreateUpload":
                self.began += 1
                self.uploads[f"u{self.began}"] = {}
                self.upload_keys[f"u{self.began}"] = key
                return _document("InitiateMultipartUploadResult", UploadId=f"u{self.began}")
            case "ListUploads":
                return self._list_uploads(request.query["prefix"])
            case "UploadPart":
                self.uploads[upload_id][call.number] = body
                return web.Response(headers={"ETag": f'"{self._digest(body)}"'})
            case "CopyPart":
                return self._copy(call, upload_id)
            case "Complete":
                return self._complete(key, upload_id, body)
            case "Abort":
                del self.uploads[upload_id]
            case "Put":
                self.objects[key], self.etags[key] = body, self._digest(body)
                return web.Response(headers={"ETag": f'"{self._digest(body)}"'})
            case "Delete":
                self.objects.pop(key, None)
            case _:
                return self._get(call, request)
        return web.Response()

    def _copy(self, call: Call, upload_id: str) -> web.Response:
        source = call.headers["x-amz-copy-source"].lstrip("/").partition("/")[2]
        if source not in self.objects:
            return _error(404, "NoSuchKey")
        first, _, last = call.headers["x-amz-copy-source-range"].removeprefix("bytes=").partition("-")
        data = self.uploads[upload_id][call.number] = self.objects[source][int(first) : int(last) + 1]
        crc32 = base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
        return _document("CopyPartResult", ETag=f'"{self._digest(data)}"', ChecksumCRC32=crc32)

    def _list_uploads(self, prefix: str) -> web.Response:
        rows = "".join(
            f"<Upload><Key>{key}</Key><UploadId>{upload_id}</UploadId></Upload>"
            for upload_id, key in self.upload_keys.items()
            if upload_id in self.uploads and key.startswith(prefix)
        )
        text = f"<ListMultipartUploadsResult xmlns='{_NAMESPACE[1:-1]}'>{rows}</ListMultipartUploadsResult>"
        return web.Response(text=text, content_type="application/xml")

    def _complete(self, key: str, upload_id: str, body: bytes) -> web.Response:
        parts = self.uploads[upload_id]
        document = ET.fromstring(body)  # noqa: S314 - what our own client wrote
        numbers = [int(node.text or 0) for node in document.iter(f"{_NAMESPACE}PartNumber")]
        if numbers != sorted(set(numbers)) or not set(numbers) <= set(parts):
            return _error(400, "InvalidPart")
        del self.uploads[upload_id]
        self.objects[key] = b"".join(parts[number] for number in numbers)
        joined = b"".join(bytes.fromhex(self._digest(parts[number])) for number in numbers)
        self.etags[key] = f"{self._digest(joined)}-{len(numbers)}"
        return _document("CompleteMultipartUploadResult", ETag=f'"{self.etags[key]}"')

    def _get(self, call: Call, request: web.Request) -> web.Response:
        if call.key not in self.objects:
            return _error(404, "NoSuchKey")
        data, headers = self.objects[call.key], {"ETag": f'"{self.etags[call.key]}"'}
        if call.operation == "Head":
            return web.Response(headers=headers | {"Content-Length": str(len(data))})
        if "Range" not in request.headers:
            return web.Response(body=data, headers=headers)
        span = request.http_range
        return web.Response(status=206, body=data[span.start : span.stop], headers=headers)


@asynccontextmanager
async def fake_s3(fault: Fault | None = None) -> AsyncIterator[FakeS3]:
    """Run a store of this kind on a free port of the loopback address."""
    store = FakeS3()
    if fault is not None:
        store.fault = fault
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{bucket}", store.handle)
    app.router.add_route("*", "/{bucket}/{key:.*}", store.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        store.endpoint_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield store
    finally:
        store.release.set()
        await runner.cleanup()


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _document(root: str, **fields: str) -> web.Response:
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items())
    text = f'<?xml version="1.0" encoding="UTF-8"?><{root} xmlns="{_NAMESPACE[1:-1]}">{inner}</{root}>'
    return web.Response(text=text, content_type="application/xml")


def _error(status: int, code: str) -> web.Response:
    return web.Response(status=status, text=f"<Error><Code>{code}</Code><Message>secret detail</Message></Error>")
