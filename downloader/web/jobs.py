"""GET /v1/download/jobs: the caller's jobs, newest first, a page at a time."""

from __future__ import annotations

import re
import time
from urllib.parse import urlencode

from aiohttp import hdrs, web

from downloader.errors import Fault, InvalidRequest
from downloader.jobs import JobState
from downloader.state.listing import Cursor
from downloader.web import render
from downloader.web.caller import tokens_for
from downloader.web.calls import LINKS, NO_STORE, number
from downloader.web.parts import PARTS, TENANT

JOBS_LIMIT, JOBS_LIMIT_MAX = 50, 200
_CURSOR = re.compile(r"([0-9]{1,15})-([0-9a-f-]{36})")


async def list_jobs(request: web.Request) -> web.Response:
    """A page of the caller's jobs, without their files; `next` and the Link header lead to the page behind it."""
    limit = number(request, "limit", JOBS_LIMIT, least=1, most=JOBS_LIMIT_MAX)
    states, after = _states(request), _cursor(request)
    page = await request.app[PARTS].listing.page(request[TENANT], after=after, limit=limit, states=states)
    links, now_s = request.app[LINKS], time.time()
    following = f"{page.next.created_ms}-{page.next.job_id}" if page.next else None
    token = await tokens_for(request)
    jobs = [(record, links.link(record.snapshot, now_s), token(record.job_id)) for record in page.records]
    body = render.jobs_page(jobs, following)
    answer = web.Response(body=body, content_type="application/json", headers={hdrs.CACHE_CONTROL: NO_STORE})
    if following:
        answer.headers[hdrs.LINK] = f'<{_path_of_next(limit, states, following)}>; rel="next"'
    return answer


def _path_of_next(limit: int, states: frozenset[JobState], following: str) -> str:
    """The next page's path (RFC 8288), with the filters of this one."""
    query = [("limit", str(limit)), *(("status", state.value) for state in sorted(states)), ("after", following)]
    return f"{render.BASE}/jobs?{urlencode(query)}"


def _states(request: web.Request) -> frozenset[JobState]:
    """The states asked for, repeated or separated by commas; none means all."""
    words = [word for given in request.query.getall("status", []) for word in given.split(",")]
    known = [state.value for state in JobState]
    if any(word not in known for word in words):
        raise InvalidRequest((Fault("/status", f"the query parameter status takes {', '.join(known)}"),))
    return frozenset(map(JobState, words))


def _cursor(request: web.Request) -> Cursor | None:
    given = request.query.get("after")
    if given is None:
        return None
    match = _CURSOR.fullmatch(given)
    if match is None:
        raise InvalidRequest((Fault("/after", "the query parameter after takes what the page before gave as next"),))
    return Cursor(int(match[1]), match[2])
