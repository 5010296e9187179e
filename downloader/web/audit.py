"""What the audit log is told of calls: who had what done to which job, and who was turned away; one line each."""

from __future__ import annotations

import structlog
from aiohttp import web

from downloader.errors import RequestError
from downloader.observing import AUDIT
from downloader.web.address import caller_address
from downloader.web.caller import CALLER
from downloader.web.parts import Handler
from downloader.web.route import route_of

JOB_ID = web.RequestKey("job_id", str)
log = structlog.get_logger(AUDIT)
_TURNED_AWAY = frozenset({"key_required", "key_invalid", "token_invalid"})


@web.middleware
async def audited(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Note a call that does something, once it is answered, and one that had no right to be made."""
    route = route_of(request)
    try:
        answer = await handler(request)
    except RequestError as error:
        if error.code in _TURNED_AWAY:
            log.warning("audit.denied", code=error.code, method=request.method, client=caller_address(request))
        elif route is not None and route.audit:
            _note(request, route.audit, error.code)
        raise
    if route is not None and route.audit:
        _note(request, route.audit, str(answer.status))
    return answer


def _note(request: web.Request, action: str, result: str) -> None:
    caller = request.get(CALLER)
    event = f"audit.{action}"
    log.info(
        event,
        tenant=caller.tenant if caller else None,
        key_id=caller.key_id if caller else None,
        job_id=request.get(JOB_ID) or request.match_info.get("job_id", "")[:64] or None,
        result=result,
        client=caller_address(request),
    )
