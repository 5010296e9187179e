"""POST /v1/download/{jobId}/redeliver: have an ended job's callback delivered again, now."""

from __future__ import annotations

from aiohttp import web

from downloader.web.calls import job_answer, record_of
from downloader.web.lasting import to_its_end
from downloader.web.parts import PARTS


async def redeliver(request: web.Request) -> web.Response:
    """Put the callback up for delivery with all its tries before it; 202 with the job as it is then.

    409 when the job has no callback or has not ended, 410 once its URL is no longer kept. The message is the same and
    has the same id, so a receiver that took it before may drop it.
    """
    record = await record_of(request)
    await to_its_end(request.app[PARTS].store.callbacks.again(record.job_id))
    answer = await job_answer(request, await record_of(request), with_files=True)
    answer.set_status(202)
    return answer
