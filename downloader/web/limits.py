"""What each call is charged to: the tenant's budgets, and the address's for callers without a key.

Reading, changing, new jobs and streams have budgets of their own, so that a page that polls never locks itself out of
cancelling. New jobs are charged where they are taken in, in one step with it, so that a repeat costs nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiohttp import web

from downloader.errors import RateLimitedError
from downloader.state.budgets import Charge, Counter
from downloader.web.address import caller_address, counted_as
from downloader.web.caller import CALLER
from downloader.web.lasting import to_its_end
from downloader.web.parts import PARTS, TENANT, Handler
from downloader.web.route import Budget, route_of

CHARGE = web.RequestKey("charge", Charge)


@web.middleware
async def limits(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Charge a call that reads or changes; RateLimitedError when its budget is used up."""
    route = route_of(request)
    if route is not None and route.budget in (Budget.READ, Budget.CHANGE):
        charge = await request.app[PARTS].budgets.charge(_counters(request, route.budget))
        if charge is not None and not charge.allowed:
            reason = f"Too many calls this minute: at most {charge.limit} (limits.{route.budget}s_per_minute)."
            raise RateLimitedError(reason, charge.limit, charge.reset_s)
        charged(request, charge)
    return await handler(request)


def charged(request: web.Request, charge: Charge | None) -> None:
    """Have the answer to this call tell what is left of the budget it was charged to."""
    if charge is not None:
        request[CHARGE] = charge


def rate_headers(charge: Charge) -> Mapping[str, str]:
    """The headers that tell of a budget (draft-ietf-httpapi-ratelimit-headers-03): calls, and seconds to the reset."""
    return {
        "RateLimit-Limit": str(charge.limit),
        "RateLimit-Remaining": str(charge.remaining),
        "RateLimit-Reset": str(charge.reset_s),
    }


def address_of(request: web.Request) -> str:
    """What the caller's address is counted by, "" for callers with a key and for this machine."""
    return "" if request[CALLER].key_id is not None else counted_as(caller_address(request))


def _counters(request: web.Request, budget: Budget) -> list[Counter]:
    of_tenant = request.app[PARTS].settings.limits.of(request[TENANT])
    is_read = budget is Budget.READ
    counters = [
        Counter(f"{budget}:{request[TENANT]}", of_tenant.reads_per_minute if is_read else of_tenant.changes_per_minute)
    ]
    address = address_of(request)
    if address and of_tenant.address_reads_per_minute:
        counters.append(Counter(f"{budget}:@{address}", of_tenant.address_reads_per_minute))
    return counters


@asynccontextmanager
async def stream_place(request: web.Request) -> AsyncIterator[bool]:
    """Take a stream's place for as long as the block runs; False when the tenant or the address has no more."""
    budgets, of_tenant = request.app[PARTS].budgets, request.app[PARTS].settings.limits.of(request[TENANT])
    counters = [Counter(request[TENANT], of_tenant.streams)]
    address = address_of(request)
    if address and of_tenant.address_streams:
        counters.append(Counter(f"@{address}", of_tenant.address_streams))
    place = await budgets.take_place(counters)
    try:
        yield place is not None
    finally:
        if place is not None:
            await to_its_end(budgets.give_back(place, counters))
