"""A receiver of callbacks for tests: a real server that notes what it is sent and answers as it is told."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook

from tests.sources import answering


def secret_of(seed: str) -> str:
    """A webhook secret, always the same for a seed."""
    return f"whsec_{base64.b64encode(hashlib.sha256(seed.encode()).digest()).decode()}"


@dataclass(frozen=True)
class Message:
    """One callback as it came in."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def payload(self) -> dict[str, Any]:
        """The body, read."""
        return dict(json.loads(self.body))

    @property
    def job_id(self) -> str:
        """The job it is about."""
        return str(self.payload["data"]["jobId"])

    def is_signed_with(self, secret: str) -> bool:
        """Whether the reference library takes it for genuine; an HMAC written down here must agree."""
        signatures = [word.removeprefix("v1,") for word in self.headers["webhook-signature"].split(" ")]
        signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        key = base64.b64decode(secret.removeprefix("whsec_"))
        by_hand = base64.b64encode(hmac.digest(key, signed, "sha256")).decode() in signatures
        try:
            Webhook(secret).verify(self.body, dict(self.headers))
        except Exception:  # noqa: BLE001 - the library's own, or whatever a spoilt header makes of it
            assert not by_hand
            return False
        assert by_hand
        return True


Answer = int | web.Response | asyncio.Event


@dataclass
class Receiver:
    """Takes callbacks at any path below `base`; `answer` is told the message's number, from 1.

    An event as an answer means: hang until it is set, then 200.
    """

    base: str = ""
    answer: Callable[[int], Answer] = lambda _: 204
    messages: list[Message] = field(default_factory=list)
    hanging: Counter[str] = field(default_factory=Counter)

    def about(self, job_id: str) -> list[Message]:
        """The messages about one job."""
        return [message for message in self.messages if message.job_id == job_id]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Note a message and answer it."""
        self.messages.append(Message(request.path_qs, dict(request.headers), await request.read()))
        answer = self.answer(len(self.messages))
        if isinstance(answer, int):
            return web.Response(status=answer)
        if isinstance(answer, web.Response):
            return answer
        self.hanging["now"] += 1
        try:
            await answer.wait()
        finally:
            self.hanging["now"] -= 1
        return web.Response()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """Run a receiver on a free port of the loopback."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    async with answering(app) as receiver.base:
        yield receiver
