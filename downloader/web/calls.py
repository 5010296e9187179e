"""The calls about one job: its status, its files, its archive, its end."""

from __future__ import annotations

import re
import time

from aiohttp import hdrs, web

from downloader.errors import Fault, InvalidRequest, RequestError
from downloader.jobs import TERMINAL, FileStatus, JobRecord, JobState
from downloader.web import render
from downloader.web.caller import token_for
from downloader.web.headers import etag_matches
from downloader.web.holding import hold
from downloader.web.lasting import to_its_end
from downloader.web.parts import PARTS, TENANT

LINKS = web.AppKey("links", render.Links)
FILES_LIMIT, FILES_LIMIT_MAX = 200, 1000
RETRY_S = "1"
NO_STORE = "no-store"

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_NUMBER = re.compile(r"[0-9]{1,9}")


def job_id(request: web.Request) -> str | None:
    """The job id of the path in its one spelling; None when it is no UUID, which is answered like an unknown job."""
    given = request.match_info["job_id"].lower()
    return given if _UUID.fullmatch(given) else None


def not_found() -> RequestError:
    """The one answer for unknown, expired and foreign jobs, which must not be told apart."""
    return RequestError("job_not_found", "There is no such job; it may have expired or been deleted.")


async def record_of(request: web.Request) -> JobRecord:
    """The caller's job that the path names; RequestError `job_not_found` when there is none."""
    wanted = job_id(request)
    record = await request.app[PARTS].store.record(request[TENANT], wanted) if wanted else None
    if record is None:
        raise not_found()
    return record


async def status(request: web.Request) -> web.Response:
    """The job; 304 when the caller has it already."""
    with_files = _flag(request, "files")
    record = await record_of(request)
    held: dict[str, str] = {}
    if record.state not in TERMINAL:
        held = await hold(request, record.job_id)
        record = await record_of(request) if held else record
    answer = await job_answer(request, record, with_files=with_files)
    answer.headers.update(held)
    return answer


async def cancel(request: web.Request) -> web.Response:
    """End the job if it is active, and show it; the same again changes nothing."""
    wanted = job_id(request)
    record = await to_its_end(request.app[PARTS].store.cancel(request[TENANT], wanted)) if wanted else None
    if record is None:
        raise not_found()
    return await job_answer(request, record, with_files=True)


async def delete(request: web.Request) -> web.Response:
    """End the job if it is active and forget it, with its archive; 204 also when there is nothing to forget."""
    wanted = job_id(request)
    if wanted:
        await to_its_end(request.app[PARTS].store.delete(request[TENANT], wanted))
    return web.Response(status=204)


async def job_answer(request: web.Request, record: JobRecord, *, with_files: bool) -> web.Response:
    """The job as `status` gives it; 304 when a reading caller has it already."""
    links, now_s = request.app[LINKS], time.time()
    link = links.link(record.snapshot, now_s)
    window = links.window(now_s) if link else 0
    etag = f'"{record.revision}-{window}-{record.queue_position or 0}"'
    headers = {hdrs.ETAG: etag, hdrs.CACHE_CONTROL: NO_STORE}
    if record.state not in TERMINAL:
        headers[hdrs.RETRY_AFTER] = RETRY_S
    if request.method in (hdrs.METH_GET, hdrs.METH_HEAD) and etag_matches(
        request.headers.get("If-None-Match", ""), etag
    ):
        return web.Response(status=304, headers=headers)
    files = None
    if with_files and record.snapshot.total_files <= render.INLINE_FILES:
        pages = request.app[PARTS].store.wire_files(record.job_id, after=0, limit=render.INLINE_FILES)
        files = [file async for page in pages for file in page]
    deliveries = await request.app[PARTS].store.callbacks.log(record.job_id) if record.callback else ()
    body = render.job(record, files, link, deliveries, await token_for(request, record.job_id))
    return web.Response(body=body, content_type="application/json", headers=headers)


async def files(request: web.Request) -> web.Response:
    """A page of the job's files, in the order of the request."""
    limit = number(request, "limit", FILES_LIMIT, least=1, most=FILES_LIMIT_MAX)
    after = number(request, "after", -1, least=0, most=10**9 - 1)
    record = await record_of(request)
    pages = request.app[PARTS].store.wire_files(record.job_id, after=after + 1, limit=limit)
    link = request.app[LINKS].link(record.snapshot, time.time())
    token = await token_for(request, record.job_id)
    body = await render.files_page(record, pages, token, is_there=link is not None)
    return web.Response(body=body, content_type="application/json", headers={hdrs.CACHE_CONTROL: NO_STORE})


async def download(request: web.Request) -> web.Response:
    """Lead to the archive by a link signed now; HEAD tells the same, but the link itself is for GET only."""
    record = await record_of(request)
    _require_finished(record)
    link = request.app[LINKS].link(record.snapshot, time.time())
    if link is None:
        raise _expired()
    return web.Response(status=302, headers={hdrs.LOCATION: link.url, hdrs.CACHE_CONTROL: NO_STORE})


async def kept_file(request: web.Request) -> web.Response:
    """Lead to one kept file by a link signed now."""
    record = await record_of(request)
    _require_finished(record)
    given = request.match_info["index"]
    index = int(given) if _NUMBER.fullmatch(given) else -1
    found = await request.app[PARTS].store.files(record.job_id, after=index, limit=1) if index >= 0 else []
    if not found:
        raise RequestError("not_found", f"The job has no file {given[:20]}; they are numbered from 0.")
    if record.archive is None or not record.archive.kept:
        raise RequestError("file_not_kept", "The files of this job were not kept; ask for it with options.keepFiles.")
    if found[0].status is not FileStatus.DONE:
        raise RequestError("file_not_kept", "This file could not be fetched, so there is nothing to lead to.")
    link = request.app[LINKS].to_file(record.snapshot, found[0], time.time())
    if link is None:
        raise _expired()
    return web.Response(status=302, headers={hdrs.LOCATION: link.url, hdrs.CACHE_CONTROL: NO_STORE})


def _expired() -> RequestError:
    return RequestError("archive_expired", "The archive has expired; start the job again to have it made anew.")


def _require_finished(record: JobRecord) -> None:
    snapshot = record.snapshot
    match record.state:
        case JobState.COMPLETED:
            return
        case JobState.FAILED:
            raise RequestError("job_failed", f"The job failed ({snapshot.error_code}): {snapshot.error}")
        case JobState.CANCELLED:
            raise RequestError("job_cancelled", f"There is no archive ({snapshot.error_code}): {snapshot.error}")
        case _:
            done = f"it is {snapshot.state.value}, {snapshot.progress} % done"
            raise RequestError("job_not_finished", f"The archive is not ready: {done}.", retry_after_s=int(RETRY_S))


def _flag(request: web.Request, name: str) -> bool:
    """A yes-or-no parameter that is yes when it is not given."""
    match request.query.get(name, "true").lower():
        case "true" | "1":
            return True
        case "false" | "0":
            return False
        case _:
            raise InvalidRequest((Fault(f"/{name}", f"the query parameter {name} must be true or false"),))


def number(request: web.Request, name: str, default: int, *, least: int, most: int) -> int:
    """A query parameter that is a number from `least` to `most`; InvalidRequest for anything else."""
    given = request.query.get(name)
    if given is None:
        return default
    if not _NUMBER.fullmatch(given) or not least <= int(given) <= most:
        raise InvalidRequest(
            (Fault(f"/{name}", f"the query parameter {name} must be a number from {least} to {most}"),)
        )
    return int(given)
