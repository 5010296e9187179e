"""What each call is charged to: the tenant's budgets, and the address's for callers without a key.

Reading, changing, asking for jobs and opening streams have budgets of their own, so that a page that polls never locks
itself out of cancelling. A new job is charged once more where it is taken in, in one step with it, so that a repeat
costs no job.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Mapping

from aiohttp import web

from downloader.errors import RateLimitedError
from downloader.state.budgets import Charge, Counter
from downloader.web.address import caller_address, counted_as, is_loopback, way_of
from downloader.web.caller import CALLER
from downloader.web.lasting import to_its_end
from downloader.web.parts import PARTS, TENANT, Handler
from downloader.web.route import Budget, route_of

CHARGE = web.RequestKey("charge", Charge)
# The setting that bounds each kind of calls of a tenant, in `[limits]`.
SETTINGS: Mapping[Budget, str] = {
    Budget.READ: "reads_per_minute",
    Budget.CHANGE: "changes_per_minute",
    Budget.INITIATE: "posts_per_minute",
    Budget.STREAM: "opens_per_minute",
}
OF_ADDRESS = "address_calls_per_minute"


@web.middleware
def limits(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
    """Charge a call to its budget; RateLimitedError when that is used up. Streams say so themselves."""
    route = route_of(request)
    if route is None or route.budget in (Budget.NONE, Budget.STREAM):
        return handler(request)
    return _charged_first(request, handler, route.budget)


async def _charged_first(request: web.Request, handler: Handler, budget: Budget) -> web.StreamResponse:
    await charge_call(request, budget)
    return await handler(request)


async def charge_call(request: web.Request, budget: Budget) -> None:
    """Charge the call, and have its answer tell what is left; RateLimitedError when nothing is."""
    setting = SETTINGS[budget]
    of_tenant = request.app[PARTS].settings.limits.of(request[TENANT])
    most = _share(request, getattr(of_tenant, setting))
    what = setting.removesuffix("_per_minute")  # not the budget's name: new jobs have a counter of that
    counters = [Counter(f"{what}:{request[TENANT]}", most, setting), *_of_address(request, what, address_of(request))]
    charged(request, await _charge(request, counters))


async def charge_denied(request: web.Request) -> None:
    """Charge a call without right to its address; RateLimitedError where there are too many of them."""
    await _charge(request, _of_address(request, "denied", _counted(request)))


def _of_address(request: web.Request, what: str, address: str) -> list[Counter]:
    most = request.app[PARTS].settings.limits.address_calls_per_minute
    return [Counter(f"{what}:@{address}", most, OF_ADDRESS)] if address and most else []


async def _charge(request: web.Request, counters: list[Counter]) -> Charge | None:
    charge = await request.app[PARTS].budgets.charge(counters)
    if charge is not None and not charge.allowed:
        raise RateLimitedError("calls", charge.limit, charge.reset_s, counters[charge.counter].setting)
    return charge


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
    """What the caller's address is counted by, "" for callers with a key and for this machine itself."""
    return "" if request[CALLER].key_id is not None else _counted(request)


def _share(request: web.Request, most: int) -> int:
    """Three quarters for who holds a job's token: whoever was given one link must not lock its tenant out."""
    return max(1, most * 3 // 4) if request[CALLER].by_token else most


def _counted(request: web.Request) -> str:
    """A proxy on this machine that is not trusted is counted as one caller: who is behind it cannot be told."""
    address = caller_address(request)
    return "" if is_loopback(address) and not way_of(request).is_passed_on else counted_as(address)


class StreamPlace:
    """A stream's place for as long as the block runs; False is given where the tenant or the address has no more."""

    __slots__ = ("_budgets", "_counters", "_place")

    def __init__(self, request: web.Request) -> None:
        self._budgets, of_tenant = request.app[PARTS].budgets, request.app[PARTS].settings.limits.of(request[TENANT])
        self._counters = [Counter(request[TENANT], _share(request, of_tenant.streams), "streams")]
        address = address_of(request)
        if address and of_tenant.address_streams:
            self._counters.append(Counter(f"@{address}", of_tenant.address_streams, "address_streams"))
        self._place = secrets.token_hex(8)

    async def __aenter__(self) -> bool:
        try:  # a client that leaves at once must not leave a place behind that nobody knows to be taken
            return await to_its_end(self._budgets.take_place(self._place, self._counters))
        except BaseException:
            await self._give_back()
            raise

    async def __aexit__(self, *_: object) -> None:
        await self._give_back()

    async def _give_back(self) -> None:
        await to_its_end(self._budgets.give_back(self._place, self._counters))
