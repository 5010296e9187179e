"""What the answers of a service are made of, looked at before anything else touches them.

Behind a URL may be anybody: another API, a proxy with a page of its own, or someone who wishes harm. Whatever is read
of an answer anywhere stands here; that there is more in it does not matter.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from downloader.client.server import JOB_ID, split_url

Fits = Callable[[Any], bool]

NUMBER_MAX = 2**63
_ID = re.compile(JOB_ID)
_WORD = re.compile(r"[!-~]{1,200}")  # a state, a code, a time: safe to be shown as it is
_LINK = re.compile(r"[!-~]+")
_ETAG = re.compile(r"[!-~]*")
_SURROGATE = re.compile("[\ud800-\udfff]")


def _number(value: Any) -> bool:
    return type(value) is int and 0 <= value < NUMBER_MAX


def _text(value: Any) -> bool:
    return isinstance(value, str) and _SURROGATE.search(value) is None


def _id(value: Any) -> bool:
    return _number(value) or _text(value)


def _link(value: Any) -> bool:
    return isinstance(value, str) and _LINK.fullmatch(value) is not None and split_url(value) is not None


def _like(pattern: re.Pattern[str]) -> Fits:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _maybe(fits: Fits) -> Fits:
    return lambda value: value is None or fits(value)


def _each(fits: Fits) -> Fits:
    return lambda value: isinstance(value, list) and all(map(fits, value))


def _object(**fields: Fits) -> Fits:
    return lambda value: isinstance(value, dict) and all(fits(value.get(name)) for name, fits in fields.items())


def _anything(_: Any) -> bool:
    return True


_job_id, _word = _like(_ID), _like(_WORD)
PROBLEM = _object(
    code=_word,
    detail=_maybe(_text),
    errors=_maybe(_each(_object(pointer=_maybe(_text), detail=_maybe(_text)))),
)
ACCEPTED = _object(jobId=_job_id, totalFiles=_number)
FILE = _object(
    index=_number,
    fileId=_id,
    status=_word,
    name=_maybe(_text),
    originalUrl=_maybe(_text),
    size=_maybe(_number),
    sha256=_maybe(_word),
    error=_maybe(_object(code=_text, message=_text)),
)
# A status answer, one of a list, and an event: each has a part of what may come.
JOB = _object(
    jobId=_job_id,
    status=_word,
    progress=_number,
    filesCompleted=_number,
    filesFailed=_number,
    totalFiles=_number,
    bytesFetched=_number,
    files=_maybe(_each(FILE)),
    fetching=_maybe(_each(_object(index=_number, bytesFetched=_number))),
    archive=_maybe(_object(name=_text, size=_number, etag=_maybe(_like(_ETAG)))),
    downloadUrl=_maybe(_link),
    createdAt=_maybe(_word),
    error=_maybe(_text),
    processingTimeMs=_maybe(_number),
)
LISTED = _object(jobId=_job_id, createdAt=_word)
JOBS = _object(jobs=_each(lambda job: JOB(job) and LISTED(job)), next=_maybe(_word))
FILES = _object(files=_each(FILE), next=_maybe(_number))
_NOWHERE = _object(status=_like(re.compile("not_found")), error=_maybe(_text))
_EVENTS: dict[str, Fits] = {
    "progress": JOB,
    "files": _object(files=_each(FILE)),
    "complete": JOB,
    "error": lambda data: JOB(data) or _NOWHERE(data),
    "retry": _object(ms=_number),
    "busy": _object(reason=_maybe(_text), retryMs=_maybe(_number)),
}


def fits_event(name: str, data: Any) -> bool:
    """Whether an event of this name has what is read of it; of a kind that is not known nothing is read."""
    return _EVENTS.get(name, _anything)(data)
