"""Who makes a call, and the read token that opens one job to who was given its links.

A browser's EventSource and a plain link cannot send a header, so the links that a caller with a key is given carry
a token of their job.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from downloader.errors import UnavailableError
from downloader.web.parts import PARTS


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call: the tenant, and by which key or token it was told."""

    tenant: str
    key_id: str | None = None
    by_token: bool = False

    @property
    def is_known(self) -> bool:
        """Whether the caller has shown a key or a token; links that it is given then need a token too."""
        return self.key_id is not None or self.by_token


CALLER = web.RequestKey("caller", Caller)
# Said by the stream itself, since an EventSource that gets an error status never comes back.
AWAY = web.RequestKey("away", UnavailableError)


def read_token(secret: bytes, job_id: str) -> str:
    """The token that opens one job for reading, as long as the job is remembered: an HMAC-SHA256 of its id."""
    digest = hmac.digest(secret, b"read " + job_id.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


async def may_go_on(request: web.Request) -> bool:
    """Whether the caller of a long call may still make it: a key may be revoked meanwhile."""
    key_id = request[CALLER].key_id
    if key_id is None:
        return True
    try:
        return await request.app[PARTS].keys.holds(key_id)
    except UnavailableError:  # what cannot be asked has not changed
        return True


async def token_for(request: web.Request, job_id: str) -> str | None:
    """The token for links to a job in an answer to this call; None where its caller needs none."""
    return (await tokens_for(request))(job_id)


async def tokens_for(request: web.Request) -> Callable[[str], str | None]:
    """What makes the tokens for links to several jobs in an answer to this call, by their ids."""
    if not request[CALLER].is_known:
        return lambda _: None
    secret = await request.app[PARTS].keys.token_secret()
    return lambda job_id: read_token(secret, job_id)
