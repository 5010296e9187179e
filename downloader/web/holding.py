"""Prefer: wait=N (RFC 7240): hold a call until its job has ended, for N seconds at most."""

from __future__ import annotations

import asyncio
import time

from aiohttp import web

from downloader.events import StateEvent
from downloader.jobs import TERMINAL, JobRecord
from downloader.state.feed import Signal, Subscription
from downloader.web import headers
from downloader.web.limits import StreamPlace
from downloader.web.parts import HELD_S, PARTS, TENANT

PREFERENCE_APPLIED = "Preference-Applied"


async def hold(request: web.Request, job_id: str) -> dict[str, str]:
    """Wait as the caller prefers; gives the headers that say so, {} where nothing was asked or there is no room.

    A held call takes the place of a stream. It ends early when the service shuts down.
    """
    wait_s = headers.wait_s(request.headers)
    if wait_s is None:
        return {}
    async with StreamPlace(request) as free:
        if not free:
            return {}
        with request.app[PARTS].feed.subscribe(job_id) as live:  # before the first look, so nothing falls in between
            began = time.monotonic()
            try:
                async with asyncio.timeout(wait_s):
                    await _until_ended(request, job_id, live)
            except TimeoutError:
                pass
            finally:
                request[HELD_S] = time.monotonic() - began
    return {PREFERENCE_APPLIED: f"wait={wait_s}"}


async def _until_ended(request: web.Request, job_id: str, live: Subscription) -> None:
    record = await _record(request, job_id)
    while record is not None and record.state not in TERMINAL and not request.app[PARTS].state.draining:
        items = await live.take()
        if any(isinstance(item, StateEvent) and item.terminal for item in items):
            return
        if Signal.LAGGED in items:  # or the service may end, which the condition sees
            record = await _record(request, job_id)


async def _record(request: web.Request, job_id: str) -> JobRecord | None:
    return await request.app[PARTS].store.record(request[TENANT], job_id)
