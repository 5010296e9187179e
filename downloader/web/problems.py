"""Every answer that is no success: RFC 9457 problems from one table of codes.

A code is known by the domain, its status only here. What is not in the table of errors is `internal`: logged with its
traceback, never shown. Older clients find the title in `error` and the detail in `message`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import structlog
from aiohttp import web
from pydantic_core import to_json

from downloader.errors import (
    DownloaderError,
    Fault,
    InvalidRequest,
    RateLimitedError,
    RequestError,
    UnavailableError,
)
from downloader.state.budgets import Charge
from downloader.web.limits import rate_headers
from downloader.web.parts import PARTS, REQUEST_ID, Handler

FAULTS_SHOWN = 20
UNAVAILABLE_RETRY_S = 2
CHALLENGE = 'Bearer realm="downloader"'  # RFC 6750, section 3
# Answers that say nothing about the call itself, but about who makes it and when.
REFUSALS = frozenset({401, 403, 429, 503})

TABLE: dict[str, tuple[int, str]] = {
    "invalid_request": (400, "The request is not valid"),
    "invalid_json": (400, "The body is not valid JSON"),
    "invalid_body": (400, "The body could not be read"),
    "idempotency_key_invalid": (400, "The idempotency key is not valid"),
    "key_required": (401, "A key is required"),
    "key_invalid": (401, "The key is not valid"),
    "token_invalid": (401, "The token is not valid"),
    "admin_required": (403, "An admin key is required"),
    "not_found": (404, "Not found"),
    "job_not_found": (404, "Job not found"),
    "file_not_kept": (404, "The file was not kept"),
    "method_not_allowed": (405, "Method not allowed"),
    "request_timeout": (408, "The request did not arrive in time"),
    "body_timeout": (408, "The body did not arrive in time"),
    "job_not_finished": (409, "The job is not finished"),
    "job_failed": (409, "The job failed"),
    "job_cancelled": (409, "The job was cancelled"),
    "nothing_to_retry": (409, "There is nothing to retry"),
    "no_callback": (409, "The job has no callback"),
    "request_expired": (410, "The request is no longer kept"),
    "archive_expired": (410, "The archive has expired"),
    "body_too_large": (413, "The body is too large"),
    "unsupported_media_type": (415, "Unsupported media type"),
    "expectation_failed": (417, "Expectation failed"),
    "idempotency_mismatch": (422, "The idempotency key was used with another request"),
    "queue_full": (429, "Too many jobs are waiting"),
    "rate_limited": (429, "Too many requests"),
    "quota_exceeded": (429, "A quota is used up"),
    "internal": (500, "Internal error"),
    "maintenance": (503, "Closed for maintenance"),
    "unavailable": (503, "Temporarily unavailable"),
    "redis_full": (503, "Temporarily unavailable"),
}
_OF_STATUS = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large", 415: "unsupported_media_type"}
_OF_STATUS |= {400: "invalid_request", 408: "body_timeout", 417: "expectation_failed"}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong, ready to be shown: nothing in it is secret."""

    code: str
    detail: str
    faults: tuple[Fault, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """The HTTP status of the code."""
        return TABLE[self.code][0]

    @property
    def title(self) -> str:
        """The same sentence for every problem of the code."""
        return TABLE[self.code][1]


def to_body(problem: Problem, instance: str, request_id: str) -> bytes:
    """The problem as JSON; at most FAULTS_SHOWN faults are listed, the rest is counted."""
    body: dict[str, Any] = {
        "type": f"/errors/{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": instance,
        "code": problem.code,
        "requestId": request_id,
        "error": problem.title,
        "message": problem.detail,
    }
    if problem.faults:
        shown = problem.faults[:FAULTS_SHOWN]
        body["errors"] = [{"pointer": fault.pointer, "detail": fault.detail} for fault in shown]
        body["errorCount"] = len(problem.faults)
    return to_json(body)


def answer(request: web.Request, problem: Problem) -> web.Response:
    """The problem as an HTTP response."""
    if problem.status in REFUSALS:
        request.app[PARTS].observer.meter.refused(problem.code)
    return web.Response(
        status=problem.status,
        body=to_body(problem, request.rel_url.raw_path, request.get(REQUEST_ID, "")),
        content_type="application/problem+json",
        headers={"Cache-Control": "no-store", **problem.headers},
    )


def from_error(error: DownloaderError) -> Problem | None:
    """The problem for one of our errors; None for those that must not be shown."""
    match error:
        case InvalidRequest():
            return Problem(error.code, _summary(error), error.faults)
        case RateLimitedError():
            spent = Charge(allowed=False, limit=error.limit, remaining=0, reset_s=error.retry_after_s or 1)
            headers = {**_retry_after(error.retry_after_s), **rate_headers(spent)}
            return Problem(error.code, error.message, headers=headers)
        case RequestError(code=code) if code in TABLE:
            challenge = {"WWW-Authenticate": CHALLENGE} if TABLE[code][0] == HTTPStatus.UNAUTHORIZED else {}
            return Problem(code, error.message, headers={**_retry_after(error.retry_after_s), **challenge})
        case UnavailableError():
            code = error.code if error.code in TABLE else "unavailable"
            return Problem(code, f"{error.message}; try again soon.", headers=_retry_after(UNAVAILABLE_RETRY_S))
        case _:
            return None


def _summary(error: InvalidRequest) -> str:
    more = len(error.faults) - 3
    return f"{error.message}; and {more} more" if more > 0 else error.message


def _retry_after(seconds: int | None) -> dict[str, str]:
    return {} if seconds is None else {"Retry-After": str(seconds)}


def from_http(error: web.HTTPException, request: web.Request) -> Problem:
    """The problem for what aiohttp itself refuses: an unknown path or method, a body over the limit."""
    code = _OF_STATUS.get(error.status, "internal" if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "not_found")
    match error:
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            return Problem(code, f"{error.method} is not possible here; use {allowed}.", headers={"Allow": allowed})
        case web.HTTPRequestEntityTooLarge():
            # What is left of the body is not worth reading, so the connection ends with the answer.
            limit = request.app[PARTS].settings.server.max_body_bytes
            return Problem(code, f"The body may have at most {limit} bytes (server.max_body_bytes).")
        case web.HTTPNotFound():
            return Problem(code, "There is nothing at this address; see / for what there is.")
        case _:
            return Problem(code, TABLE[code][1])


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever is raised into a problem; cancellation and redirects pass."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        return answer(request, from_http(error, request))
    except DownloaderError as error:
        problem = from_error(error)
        if problem is not None:
            return answer(request, problem)
        log.exception("http.internal", code=error.code)
    except web.RequestPayloadError:
        broken = answer(request, Problem("invalid_body", "The body is cut off or wrongly encoded."))
        broken.force_close()  # where the next request would begin on this connection is not known
        return broken
    except Exception:  # the rim: whatever has no name is logged and never shown
        log.exception("http.internal")
    return answer(request, Problem("internal", "Something went wrong on our side; the requestId helps to find it."))
