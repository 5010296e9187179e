"""What a callback says, and its signature: Standard Webhooks (https://www.standardwebhooks.com), version 1.

The payload is thin: what the job has come to and where its status is. No link and no source's URL is in it, so it may
be logged at the other end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from pydantic_core import to_json
from standardwebhooks import Webhook

from downloader.callbacks import Message, MessageData
from downloader.jobs import JobRecord

# An error's sentence is ours and short, but a payload must stay thin whatever it says.
ERROR_CHARS = 500


def payload(record: JobRecord, status_url: Callable[[str], str]) -> str:
    """The message about an ended job as JSON, the same for every attempt to deliver it; under 2 kB."""
    snapshot = record.snapshot
    data: MessageData = {
        "jobId": record.job_id,
        "status": snapshot.state.value,
        "filesCompleted": snapshot.files_completed,
        "filesFailed": snapshot.files_failed,
        "totalFiles": snapshot.total_files,
        "error": snapshot.error[:ERROR_CHARS] if snapshot.error else None,
        "errorCode": snapshot.error_code,
        "statusUrl": status_url(record.job_id),
    }
    ended = datetime.fromtimestamp((record.completed_ms or record.updated_ms) / 1000, UTC)
    timestamp = ended.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    message: Message = {"type": f"job.{snapshot.state.value}", "timestamp": timestamp, "data": data}
    return to_json(message).decode()


def message_id(job_id: str) -> str:
    """The id of the message about the job's end, by which receivers tell a repeat."""
    return f"msg_{job_id}"


def signed_headers(job_id: str, body: str, secrets: Sequence[str], now: datetime) -> Mapping[str, str]:
    """The headers that go with `body`, with one signature for each secret; `now` must be in UTC."""
    identity = message_id(job_id)
    return {
        "webhook-id": identity,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign(identity, now, body) for secret in secrets),
    }
