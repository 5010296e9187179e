"""What each problem means, and what its caller can do: two plain texts per code of `problems.TABLE`."""

from __future__ import annotations

from collections.abc import Mapping

REMEDIES: Mapping[str, tuple[str, str]] = {
    "invalid_request": (
        "A field of the body, a parameter or the request line itself is not as it must be.",
        "errors lists each fault with its place and what would be right; mend them and send the call again.",
    ),
    "invalid_json": (
        "The body is not JSON in UTF-8, or has a name twice in one object.",
        "detail says where; let a JSON library write the body.",
    ),
    "invalid_body": (
        "The body ended before its announced length, or its coding could not be undone.",
        "Send it again, whole, with the right Content-Length and Content-Encoding.",
    ),
    "idempotency_key_invalid": (
        "The Idempotency-Key is empty, too long, has blanks, or differs from X-Idempotency-Key.",
        "Send one key of 1 to 255 visible ASCII characters; a UUID is a good one.",
    ),
    "key_required": (
        "This service wants a key with this call, and there was none.",
        "Send Authorization: Bearer dl_...; the operator makes a key by: downloader keys new TENANT.",
    ),
    "key_invalid": (
        "The key is unknown, revoked or expired.",
        "Ask the operator for a new one.",
    ),
    "token_invalid": (
        "The read token in the address is not the one of this job.",
        "Use subscribeUrl and statusUrl as the initiate call gave them, or send a key.",
    ),
    "admin_required": (
        "The call is for operators, and the key has no admin right.",
        "Send an admin key; the operator makes one by: downloader keys new --admin ops.",
    ),
    "not_found": (
        "There is nothing at this address.",
        "See / and /docs for what there is.",
    ),
    "job_not_found": (
        "There is no such job. Unknown, expired, deleted and other callers' jobs are not told apart.",
        "See that the id is whole; if it is, the job's record has expired, so start a new job.",
    ),
    "file_not_kept": (
        "This file is not an object of its own: the job did not ask for that, or the file could not be had.",
        'Take it from the archive, or start the job again with "options": {"keepFiles": true}.',
    ),
    "method_not_allowed": (
        "The address exists, but not for this method.",
        "Use one of the methods in the Allow header.",
    ),
    "request_timeout": (
        "The head of the request did not arrive within the time there is for it.",
        "Send the request in one go; whoever sends it slowly holds a place that others need.",
    ),
    "body_timeout": (
        "The body did not arrive within the time there is for it.",
        "Send the call again over a quicker connection, or with a shorter list.",
    ),
    "job_not_finished": (
        "The job is still queued or at work.",
        "Follow subscribeUrl, or ask again after the seconds of Retry-After; to start over, cancel it first.",
    ),
    "job_failed": (
        "The job has failed, so there is no archive.",
        "detail has the job's own code and reason; retry the job or start a new one.",
    ),
    "job_cancelled": (
        "The job was cancelled, so there is no archive.",
        "Retry the job if it is wanted after all.",
    ),
    "nothing_to_retry": (
        "Every file of the job is in its archive.",
        "Download the archive; to have it made anew, start a new job.",
    ),
    "no_callback": (
        "The job was started without a callbackUrl.",
        "Follow the job by its stream or status; give callbackUrl with the next one.",
    ),
    "request_expired": (
        "What the job was asked for is kept for jobs.retry_ttl_s after its end, and that is over.",
        "Start a new job with the whole list.",
    ),
    "archive_expired": (
        "The archive was kept for jobs.archive_ttl_s, and that is over.",
        "Start the job again to have it made anew.",
    ),
    "body_too_large": (
        "The body is larger than server.max_body_bytes.",
        "Split the list into several jobs, or ask the operator for a higher limit.",
    ),
    "unsupported_media_type": (
        "The body was not announced as JSON.",
        "Send Content-Type: application/json.",
    ),
    "expectation_failed": (
        "The Expect header asks for something other than 100-continue.",
        "Leave the header out.",
    ),
    "idempotency_mismatch": (
        "The Idempotency-Key was used for another request within its life.",
        "Use a new key for each new request, and the old one only to repeat the same.",
    ),
    "queue_full": (
        "As many of your jobs are waiting as may wait.",
        "Try again after the seconds of Retry-After, when some of them have been worked on.",
    ),
    "rate_limited": (
        "More calls came than your share of a minute.",
        "Wait for the seconds of Retry-After; the RateLimit headers tell how much is left.",
    ),
    "quota_exceeded": (
        "The job is more than is left of your day's files or bytes, or your archives take all the room you may have.",
        "The detail says which. Wait for the seconds of Retry-After, or delete jobs that are no longer needed.",
    ),
    "internal": (
        "Something went wrong on our side.",
        "Try again; if it stays, tell the operator the requestId, which finds the call in the log.",
    ),
    "unavailable": (
        "Redis or the store of the archives does not answer now. Nothing is lost.",
        "Try again after the seconds of Retry-After, with the same Idempotency-Key.",
    ),
    "redis_full": (
        "Redis is out of memory, so that no new job can be remembered.",
        "Try again later; the operator has to give Redis more memory.",
    ),
    "maintenance": (
        "The service takes no new jobs at the moment; those it has are worked on.",
        "Try again after the seconds of Retry-After.",
    ),
}
