"""What is told of the calls that start, follow and end jobs."""

from __future__ import annotations

from downloader.jobs import JobState
from downloader.web import shapes
from downloader.web.contract import examples
from downloader.web.contract.headers import (
    IDEMPOTENCY_KEY,
    IF_NONE_MATCH,
    LAST_EVENT_ID,
    PREFER,
    RATES,
)
from downloader.web.contract.operation import EVENTS, Answer, Content, Link, Operation, Parameter

JOB_ID = Parameter(
    "jobId",
    "path",
    "The job's id, as `jobId` was when it was taken in. Whatever is no id is an unknown job.",
    {"type": "string", "minLength": 1},
    examples.JOB_ID,
)
_FROM_BODY = {"jobId": "$response.body#/jobId"}
_LINKS = (
    Link("status", "getStatus", _FROM_BODY, "The job's status."),
    Link("subscribe", "subscribe", _FROM_BODY, "The job's events."),
    Link("files", "listFiles", _FROM_BODY, "The job's files."),
    Link("file", "downloadFile", {**_FROM_BODY, "index": "0"}, "Its first file, if the job keeps its files."),
    Link("download", "download", _FROM_BODY, "The job's archive, once it is made."),
    Link("cancel", "cancel", _FROM_BODY, "End the job."),
    Link("retry", "retry", _FROM_BODY, "A new job for what an ended one could not do."),
    Link("redeliver", "redeliver", _FROM_BODY, "The job's callback once more."),
    Link("delete", "deleteJob", _FROM_BODY, "End the job and forget it."),
)
_AFTER_CANCEL = tuple(link for link in _LINKS if link.name in {"status", "retry", "delete"})
_JOB = Content(shapes.JobObject, example=examples.JOB)
_JOB_HEADERS = ("ETag", "Cache-Control", "Retry-After?", *RATES)
_TAKEN = (
    Answer(
        202,
        "The job is taken in. Follow it at `subscribeUrl` or `statusUrl`.",
        (Content(shapes.Initiated, example=examples.INITIATED),),
        ("Location", "Retry-After", "Cache-Control", "Idempotency-Replayed?", *RATES),
        _LINKS,
    ),
    Answer(
        200,
        "The job at its end, for callers who prefer to wait for it.",
        (_JOB,),
        ("ETag", "Cache-Control", "Preference-Applied", "Idempotency-Replayed?", *RATES),
        _LINKS,
    ),
)

INITIATE = Operation(
    "initiate",
    "Jobs",
    "Start a job",
    "Post the list of files; the answer comes at once with the job's id, and the files are fetched, checked and packed "
    "in the background. The body has one of two forms: `files`, or ids with their URLs position by position. Names "
    "may be spelled in camelCase or in snake_case, each once; an unknown name is refused.",
    _TAKEN,
    (IDEMPOTENCY_KEY, PREFER),
    takes_body=True,
    problems=(
        "invalid_request",
        "invalid_json",
        "invalid_body",
        "idempotency_key_invalid",
        "idempotency_mismatch",
        "body_timeout",
        "body_too_large",
        "unsupported_media_type",
        "queue_full",
        "rate_limited",
        "quota_exceeded",
        "maintenance",
        "redis_full",
    ),
)
LIST = Operation(
    "listJobs",
    "Jobs",
    "List your jobs",
    "Your jobs, newest first, without their files. `next`, and the Link header, lead to the page behind.",
    (
        Answer(
            200,
            "A page of jobs.",
            (Content(shapes.JobsPage, example=examples.JOBS_PAGE),),
            ("Cache-Control", "Link?", *RATES),
        ),
    ),
    (
        Parameter(
            "limit",
            "query",
            "How many jobs a page has.",
            {"type": "integer", "minimum": 1, "maximum": 200, "default": 50},
            20,
        ),
        Parameter(
            "after",
            "query",
            "What the page before gave as `next`.",
            {"type": "string", "pattern": "^[0-9]{1,15}-[0-9a-f-]{36}$"},
        ),
        Parameter(
            "status",
            "query",
            "Only jobs in these states; may be repeated or separated by commas.",
            {"type": "array", "items": {"enum": [state.value for state in JobState]}},
            ["completed"],
        ),
    ),
    problems=("invalid_request",),
)
STATUS = Operation(
    "getStatus",
    "Jobs",
    "Ask how a job stands",
    "The whole job. `progress` is a whole number of percent and never falls within an attempt. The files are listed up "
    "to 200; a longer list is paged by `/files`.",
    (
        Answer(200, "The job.", (_JOB,), (*_JOB_HEADERS, "Preference-Applied?")),
        Answer(304, "Nothing has changed since the ETag that was sent.", (), (*_JOB_HEADERS, "Preference-Applied?")),
    ),
    (
        JOB_ID,
        Parameter(
            "files",
            "query",
            "`false` leaves the files out.",
            {"type": "string", "enum": ["true", "false", "1", "0"], "default": "true"},
            "false",
        ),
        IF_NONE_MATCH,
        PREFER,
    ),
    problems=("invalid_request", "job_not_found"),
)
SUBSCRIBE = Operation(
    "subscribe",
    "Jobs",
    "Follow a job",
    "Server-Sent Events. The first event is where the job stands now, or with the id of the last event seen whatever "
    "was missed; the stream ends after `complete` or `error`. Each `progress`, `complete` and `error` has the whole "
    "snapshot, so a lost one does no harm. A comment every 15 seconds keeps the connection open. What cannot be served "
    "is said inside the stream (`busy`, or `error` for a job that does not exist), because an EventSource never comes "
    "back from an error status.",
    (
        Answer(
            200,
            "The events, each as described here; `data` is JSON.",
            (Content(shapes.EVENTS, EVENTS, examples.TRANSCRIPT),),
            ("Cache-Control",),
        ),
        Answer(204, "The job has ended and you have seen it end; do not connect again."),
    ),
    (
        JOB_ID,
        LAST_EVENT_ID,
        Parameter(
            "lastEventId",
            "query",
            "The same as the header, for a new EventSource object. `last_event_id` is the same.",
            {"type": "string"},
            examples.EVENT_ID,
        ),
    ),
    problems=("job_not_found",),
)
CANCEL = Operation(
    "cancel",
    "Jobs",
    "Cancel a job",
    "Ends the job if it is queued or at work. The same again changes nothing.",
    (Answer(200, "The job as it is now.", (_JOB,), _JOB_HEADERS, _AFTER_CANCEL),),
    (JOB_ID,),
    problems=("job_not_found",),
)
RETRY = Operation(
    "retry",
    "Jobs",
    "Retry a job",
    "A new job: for the failed files of a completed job, for all files of a failed or cancelled one.",
    _TAKEN,
    (JOB_ID, IDEMPOTENCY_KEY, PREFER),
    problems=(
        "idempotency_key_invalid",
        "idempotency_mismatch",
        "job_not_found",
        "job_not_finished",
        "nothing_to_retry",
        "request_expired",
        "queue_full",
        "rate_limited",
        "quota_exceeded",
        "maintenance",
        "redis_full",
    ),
)
REDELIVER = Operation(
    "redeliver",
    "Jobs",
    "Deliver a job's callback again",
    "Puts the callback of an ended job up for delivery with all its tries before it. The message has the same id as "
    "before, so a receiver that took it may drop it.",
    (Answer(202, "The job; `callback` tells how its delivery stands.", (_JOB,), _JOB_HEADERS),),
    (JOB_ID,),
    problems=("job_not_found", "job_not_finished", "no_callback", "request_expired"),
)
DELETE = Operation(
    "deleteJob",
    "Jobs",
    "Delete a job",
    "Ends the job if it is active, forgets it and removes its archive. The same again changes nothing.",
    (Answer(204, "The job is not there (any more).", headers=RATES),),
    (JOB_ID,),
)
