"""POST /v1/download/initiate: check the wish, take the job in, answer at once."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

import structlog
from aiohttp import hdrs, web

from downloader.config import Settings
from downloader.errors import UnavailableError
from downloader.jobs import TERMINAL, JobRequest
from downloader.state.records import KeptRequest
from downloader.state.store import Enqueued, Order
from downloader.web import headers, render
from downloader.web.audit import JOB_ID
from downloader.web.bodies import Wish, read_wish
from downloader.web.caller import token_for
from downloader.web.calls import job_answer
from downloader.web.holding import hold
from downloader.web.lasting import to_its_end
from downloader.web.limits import address_of, charged
from downloader.web.parts import PARTS, REQUEST_ID, TENANT
from downloader.web.reading import read_json

log = structlog.get_logger(__name__)


async def initiate(request: web.Request) -> web.Response:
    """Take a job in; 202 with where to follow it. A repeat under the same idempotency key gives the same answer."""
    is_repeatable = headers.idempotency_key(request.headers) is not None  # refused before the body is read
    settings, tenant = request.app[PARTS].settings, request[TENANT]
    wish, kept, digest = await read_json(request, lambda raw: _understood(raw, settings, tenant, is_repeatable))
    return await take_in(request, wish.request, wish.total_file_ids, digest, kept)


async def take_in(
    request: web.Request, asked: JobRequest, total_file_ids: int, digest: bytes, kept: KeptRequest | None = None
) -> web.Response:
    """Enqueue a job under the caller's idempotency key, if any; `digest` tells repeats from other requests.

    `kept` is what was asked for as it is kept, for who has encoded it already.
    """
    order = Order(
        job_id=str(uuid.uuid4()),  # not version 7: an id must not be guessable, nor tell when it was made
        tenant=request[TENANT],
        request=asked,
        total_file_ids=total_file_ids,
        request_id=request[REQUEST_ID],
        traceparent=request.app[PARTS].observer.tracer.context() or headers.traceparent(request.headers),
        idempotency_key=headers.idempotency_key(request.headers),
        fingerprint=digest,
        address=address_of(request),
        kept=kept,
    )
    await token_for(request, order.job_id)  # once the job is taken in its answer must need nothing more of Redis
    enqueued = await to_its_end(_enqueued(request, order))
    log.info("job.accepted", job_id=enqueued.job_id, files=len(asked.sources), replayed=enqueued.replayed)
    charged(request, enqueued.charge)
    return await _ended(request, enqueued) or await _accepted(request, enqueued)


async def _enqueued(request: web.Request, order: Order) -> Enqueued:
    """Take the job in, and have the audit log know its id even if the caller has left."""
    enqueued = await request.app[PARTS].store.enqueue(order)
    request[JOB_ID] = enqueued.job_id
    return enqueued


async def _ended(request: web.Request, enqueued: Enqueued) -> web.Response | None:
    """The job at its end, for a caller who prefers to wait for it; None when it has not ended in time."""
    try:
        held = await hold(request, enqueued.job_id)
        record = await request.app[PARTS].store.record(request[TENANT], enqueued.job_id) if held else None
        if record is None or record.state not in TERMINAL:
            return None
        answer = await job_answer(request, record, with_files=True)
    except UnavailableError:  # the job was taken in, whatever became of waiting for it
        return None
    answer.headers.update(held)
    return _told_of_replay(answer, enqueued)


def _understood(raw: Any, settings: Settings, tenant: str, is_repeatable: bool) -> tuple[Wish, KeptRequest, bytes]:
    """The wish, encoded where it was parsed, since both take long for many files; a digest where it may be repeated."""
    wish = read_wish(raw, settings, tenant)
    kept = KeptRequest.of(wish.request)
    return wish, kept, fingerprint(wish, kept) if is_repeatable else b""


def fingerprint(wish: Wish, kept: KeptRequest) -> bytes:
    """A digest of what was understood, not of the bytes: the order of names and blanks make no other request."""
    return hashlib.sha256(wish.total_file_ids.to_bytes(4) + kept.blob).digest()


async def _accepted(request: web.Request, enqueued: Enqueued) -> web.Response:
    token = await token_for(request, enqueued.job_id)
    answer = web.Response(
        status=202,
        body=render.initiated(enqueued, token),
        content_type="application/json",
        headers={
            hdrs.LOCATION: render.status_path(enqueued.job_id, token),
            hdrs.RETRY_AFTER: "1",
            hdrs.CACHE_CONTROL: "no-store",
        },
    )
    return _told_of_replay(answer, enqueued)


def _told_of_replay(answer: web.Response, enqueued: Enqueued) -> web.Response:
    if enqueued.replayed:
        answer.headers["Idempotency-Replayed"] = "true"
    return answer
