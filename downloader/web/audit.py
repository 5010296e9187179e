"""What the audit log is told of calls: who had what done to which job, and who was turned away; one line each."""

from __future__ import annotations

import asyncio

import structlog
from aiohttp import web

from downloader.errors import DownloaderError
from downloader.observing import AUDIT
from downloader.web.address import caller_address
from downloader.web.caller import CALLER
from downloader.web.parts import Handler
from downloader.web.route import route_of

JOB_ID = web.RequestKey("job_id", str)
log = structlog.get_logger(AUDIT)
# The caller has gone before the answer.
LEFT = "left"
_TURNED_AWAY = frozenset({"key_required", "key_invalid", "token_invalid", "admin_required"})


@web.middleware
async def audited(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Note a call that does something, however it ends, and one that had no right to be made."""
    route = route_of(request)
    action = route.audit if route is not None else ""
    client = caller_address(request)  # gone with the caller
    result = "internal"
    try:
        answer = await handler(request)
        result = str(answer.status)
    except DownloaderError as error:
        result = error.code
        raise
    except web.HTTPException as error:
        result = str(error.status)
        raise
    except asyncio.CancelledError:
        result = LEFT
        raise
    finally:  # what was begun is done, also for a caller who does not wait for the answer
        if result in _TURNED_AWAY:
            log.warning("audit.denied", code=result, method=request.method, client=client)
        elif action:
            _note(request, action, result, client)
    return answer


def _note(request: web.Request, action: str, result: str, client: str) -> None:
    caller = request.get(CALLER)
    event = f"audit.{action}"
    log.info(
        event,
        tenant=caller.tenant if caller else None,
        key_id=caller.key_id if caller else None,
        job_id=request.get(JOB_ID) or request.match_info.get("job_id", "")[:64] or None,
        result=result,
        client=client,
    )
