"""POST /v1/download/initiate: check the wish, take the job in, answer at once."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

import structlog
from aiohttp import hdrs, web

from downloader.config import Settings
from downloader.jobs import JobRequest
from downloader.state.store import Enqueued, Order
from downloader.web import headers, render
from downloader.web.bodies import Wish, read_wish
from downloader.web.lasting import to_its_end
from downloader.web.parts import PARTS, REQUEST_ID, TENANT
from downloader.web.reading import read_json

log = structlog.get_logger(__name__)


async def initiate(request: web.Request) -> web.Response:
    """Take a job in; 202 with where to follow it. A repeat under the same idempotency key gives the same answer."""
    headers.idempotency_key(request.headers)  # refused before the body is read
    settings = request.app[PARTS].settings
    wish, digest = await read_json(request, lambda raw: _understood(raw, settings, request[TENANT]))
    return await take_in(request, wish.request, wish.total_file_ids, digest)


async def take_in(request: web.Request, asked: JobRequest, total_file_ids: int, digest: bytes) -> web.Response:
    """Enqueue a job under the caller's idempotency key, if any; `digest` tells repeats from other requests."""
    order = Order(
        job_id=str(uuid.uuid4()),  # not version 7: an id must not be guessable, nor tell when it was made
        tenant=request[TENANT],
        request=asked,
        total_file_ids=total_file_ids,
        request_id=request[REQUEST_ID],
        traceparent=headers.traceparent(request.headers),
        idempotency_key=headers.idempotency_key(request.headers),
        fingerprint=digest,
    )
    enqueued = await to_its_end(request.app[PARTS].store.enqueue(order))
    log.info("job.accepted", job_id=enqueued.record.job_id, files=len(asked.sources), replayed=enqueued.replayed)
    return _accepted(enqueued)


def _understood(raw: Any, settings: Settings, tenant: str) -> tuple[Wish, bytes]:
    wish = read_wish(raw, settings, tenant)
    return wish, fingerprint(wish)


def fingerprint(wish: Wish) -> bytes:
    """A digest of what was understood, not of the bytes: the order of names and blanks make no other request."""
    return hashlib.sha256(wish.total_file_ids.to_bytes(4) + wish.request.to_json()).digest()


def _accepted(enqueued: Enqueued) -> web.Response:
    record = enqueued.record
    answer = web.Response(
        status=202,
        body=render.initiated(record),
        content_type="application/json",
        headers={
            hdrs.LOCATION: f"{render.BASE}/status/{record.job_id}",
            hdrs.RETRY_AFTER: "1",
            hdrs.CACHE_CONTROL: "no-store",
        },
    )
    if enqueued.replayed:
        answer.headers["Idempotency-Replayed"] = "true"
    return answer
