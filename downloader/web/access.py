"""Who calls: the holder of a key, of a job's read token, or, where the service is open, anybody.

Without a key there is one tenant, and by default only this machine may call as it.
"""

from __future__ import annotations

import hmac
import re

from aiohttp import web

from downloader.config import AccessSettings
from downloader.errors import RequestError, UnavailableError
from downloader.keys import PUBLIC_TENANT
from downloader.web.address import Way, way_of
from downloader.web.caller import AWAY, CALLER, Caller, read_token
from downloader.web.calls import job_id
from downloader.web.limits import charge_denied
from downloader.web.parts import PARTS, TENANT, Handler
from downloader.web.route import Budget, Need, Route, route_of

# Whose jobs nobody has: what a token opens whose job is gone.
NO_TENANT = ""
SEND_KEY = "send a key in the header Authorization: Bearer dl_... (made with: downloader keys new TENANT)"
REMEDY = (
    'Without a key this service takes calls from its own machine only (access.open = "loopback"), directly and in'
    f" HTTP/1.1: {SEND_KEY}."
    " Set access.open = true to let everybody in who can reach it."
)
CLOSED = f"This service takes no calls without a key: {SEND_KEY}."
WRONG_KEY = "The key is unknown, revoked or expired; ask the operator of this service for a new one."
NO_BEARER = "The Authorization header must be, once: Bearer dl_... (the key as it was printed)."
NOT_ITS_OWN = "The token is not the one of this job; take subscribeUrl and statusUrl as initiate gave them."

ADMIN_CLOSED = (
    "The admin view wants a key with the admin right, on this machine too: send one in the header "
    "Authorization: Bearer dl_... (made with: downloader keys new --admin ops)."
)
NO_ADMIN = "This key has no admin right; the operator of this service makes one with: downloader keys new --admin ops."

FIGURES = "Figures are for this machine only; give them a port of their own with telemetry.metrics_port."
THIS_MACHINE = AccessSettings(open="loopback")
_BEARER = re.compile(r"(?i)bearer +(\S+) *")


@web.middleware
async def access(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a call pass when its caller may make it, with the tenant it is made for."""
    route = route_of(request)
    if route is not None and route.need is Need.MACHINE:
        check_open(THIS_MACHINE, way_of(request), FIGURES)
    elif route is not None and route.need is not Need.NOTHING:
        try:
            caller = await _caller(request, route)
        except UnavailableError as error:
            if route.budget is not Budget.STREAM:
                raise
            request[AWAY] = error
            caller = Caller(NO_TENANT)
        except RequestError:
            await charge_denied(request)
            raise
        request[CALLER], request[TENANT] = caller, caller.tenant
    return await handler(request)


async def _caller(request: web.Request, route: Route) -> Caller:
    """Who calls; RequestError `key_required`, `key_invalid`, `token_invalid` or `admin_required` for nobody."""
    parts = request.app[PARTS]
    shown = _shown_key(request)
    if shown is not None:
        key = await parts.keys.verify(shown)
        if key is None:
            raise RequestError("key_invalid", WRONG_KEY)
        if route.need is Need.ADMIN and not key.admin:
            raise RequestError("admin_required", NO_ADMIN)
        return Caller(key.tenant, key.key_id)
    if route.need is Need.ADMIN:
        raise RequestError("key_required", ADMIN_CLOSED)
    token = request.query.get("token")
    if route.need is Need.READ and token is not None:
        return await _holder(request, token)
    check_open(parts.settings.access, way_of(request))
    return Caller(PUBLIC_TENANT)


def _shown_key(request: web.Request) -> str | None:
    """The key that the call shows; None for none. Other schemes are none: a proxy's own login may pass through.

    What was meant as a key and is none must not end in the open tenant's jobs, so it is refused: RequestError
    `key_invalid`.
    """
    given = request.headers.getall("Authorization", [])
    if not given:
        return None
    scheme = given[0].partition(" ")[0].lower()
    if len(given) == 1 and scheme and scheme != "bearer" and not scheme.startswith("dl_"):
        return None
    bearer = _BEARER.fullmatch(given[0])
    if bearer is None or len(given) > 1:
        raise RequestError("key_invalid", NO_BEARER)
    return bearer[1]


async def _holder(request: web.Request, token: str) -> Caller:
    """Who holds a job's read token calls for the job's tenant, as far as that job goes."""
    parts, wanted = request.app[PARTS], job_id(request)
    right = read_token(await parts.keys.token_secret(), wanted or "")
    if wanted is None or not hmac.compare_digest(right.encode(), token.encode("utf-8", "replace")):
        raise RequestError("token_invalid", NOT_ITS_OWN)
    return Caller(await parts.store.tenant_of(wanted) or NO_TENANT, by_token=True)


def check_open(settings: AccessSettings, way: Way, remedy: str = REMEDY) -> None:
    """Let a call without a key pass where the service is open for it; RequestError `key_required` where it is not."""
    if settings.open is False:
        raise RequestError("key_required", CLOSED)
    if settings.open == "loopback" and not way.is_from_here:
        raise RequestError("key_required", remedy)
