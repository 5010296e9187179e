"""The scripted store of the stories: `tests.fakes3`, whose list of uploads also says when each began, and more faults.

Besides the words that `tests.fakes3` knows: "409 OperationAborted" (this error, no effect), "503 html" (a page, no
effect), "gone" (takes effect, 404 NoSuchUpload), "garbage" (takes effect, 200 and no document), "no-etag",
"other-etag", "other-bytes", "half" (what the answer says is not so), "whole" (a range is ignored).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from tests.fakes3 import Call, FakeS3, Fault
from tests.sources import answering

_BEGAN = "<Initiated>2026-11-25T12:00:00.000Z</Initiated></Upload>"
_ERROR = re.compile(r"(\d{3}) ([A-Z]\w+)")


class Store(FakeS3):
    """A store whose answers are whole, or false in more ways."""

    __slots__ = ()

    def _list_uploads(self, prefix: str) -> web.Response:
        answer = super()._list_uploads(prefix)
        return web.Response(text=(answer.text or "").replace("</Upload>", _BEGAN), content_type="application/xml")

    def _answer(self, call: Call, request: web.Request, body: bytes) -> web.Response:
        word = self.fault(call)
        error = _ERROR.fullmatch(word) if isinstance(word, str) else None
        if error is not None:
            return _document(int(error[1]), f"<Error><Code>{error[2]}</Code><Message>secret detail</Message></Error>")
        if word == "503 html":
            return web.Response(status=503, text="<html><body>Busy</body></html>", content_type="text/html")
        answer = super()._answer(call, request, body)
        return answer if word is None else self._falsified(str(word), answer, call)

    def _falsified(self, word: str, answer: web.Response, call: Call) -> web.Response:
        match word:
            case "gone":
                return _document(404, "<Error><Code>NoSuchUpload</Code></Error>")
            case "garbage":
                return web.Response(text="<html>fine", content_type="text/html")
            case "no-etag":
                answer.headers.pop("ETag", None)
            case "other-etag":
                answer.headers["ETag"] = '"00000000000000000000000000000000"'
            case "other-bytes" if isinstance(answer.body, bytes):
                answer.body = bytes(byte ^ 1 for byte in answer.body)
            case "half" if call.operation == "Head":
                answer.headers["Content-Length"] = str(int(answer.headers["Content-Length"]) // 2)
            case "half" if isinstance(answer.body, bytes):
                answer.body = answer.body[: len(answer.body) // 2]
            case "whole":
                return web.Response(body=self.objects[call.key], headers={"ETag": answer.headers["ETag"]})
            case _:
                pass
        return answer


def _document(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f'<?xml version="1.0"?>\n{text}', content_type="application/xml")


@asynccontextmanager
async def store_with(fault: Fault) -> AsyncIterator[FakeS3]:
    """Run one on a free port."""
    store = Store(fault=fault)
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{bucket}", store.handle)
    app.router.add_route("*", "/{bucket}/{key:.*}", store.handle)
    async with answering(app) as store.endpoint_url:
        try:
            yield store
        finally:
            store.release.set()
