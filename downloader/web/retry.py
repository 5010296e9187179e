"""POST /v1/download/{jobId}/retry: a new job for what an ended one could not do."""

from __future__ import annotations

import hashlib

from aiohttp import web

from downloader.errors import RequestError
from downloader.jobs import TERMINAL, FileStatus, JobRecord, JobRequest, JobState
from downloader.web.calls import record_of
from downloader.web.initiate import take_in
from downloader.web.parts import PARTS, TENANT

_PAGE_FILES = 1000


async def retry(request: web.Request) -> web.Response:
    """Take in a new job: the failed files of a completed job, all files of a failed or cancelled one; 202.

    Answers as `initiate` does. 409 while the job is active or has no failed files, 410 once its request is gone.
    """
    record = await record_of(request)
    if record.state not in TERMINAL:
        raise RequestError("job_not_finished", "The job is still active; cancel it first, or wait for its end.")
    asked = await request.app[PARTS].store.request(request[TENANT], record.job_id)
    if asked is None:
        raise RequestError("request_expired", "What this job was asked for is no longer kept; start a new job.")
    if record.state is JobState.COMPLETED:
        asked = asked.only(await _failed(request, record))
    if not asked.sources:
        raise RequestError("nothing_to_retry", "All files of this job are in its archive.")
    return await take_in(request, asked, len(asked.sources), _fingerprint(record.job_id, asked))


async def _failed(request: web.Request, record: JobRecord) -> list[int]:
    """The failed files of a job, by their places in its request."""
    if not record.snapshot.files_failed:
        return []
    store, failed = request.app[PARTS].store, []
    for start in range(0, record.snapshot.total_files, _PAGE_FILES):
        page = await store.files(record.job_id, after=start, limit=_PAGE_FILES)
        failed += [file.index for file in page if file.status is FileStatus.FAILED]
    return failed


def _fingerprint(job_id: str, asked: JobRequest) -> bytes:
    return hashlib.sha256(b"retry " + job_id.encode() + asked.to_json()).digest()
