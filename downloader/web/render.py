"""From the words to the wire: camelCase JSON, times in ISO 8601 UTC, links signed at the moment they are read."""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from pydantic_core import to_json

from downloader.callbacks import Callback, Delivery
from downloader.jobs import (
    TERMINAL,
    Archive,
    FileResult,
    FileStatus,
    JobRecord,
    Snapshot,
    kept_key,
)
from downloader.state.store import Enqueued
from downloader.web.parts import Sign, SignedLink
from downloader.web.shapes import (
    ArchiveObject,
    CallbackObject,
    Figures,
    Initiated,
    JobObject,
    JobsPage,
    SnapshotEvent,
)
from downloader.wire import FileObject

BASE = "/v1/download"
INLINE_FILES = 200
WINDOW_S_MAX = 300


def encoded(value: Any) -> bytes:
    """Compact JSON; a number that JSON lacks (in a file's metadata) becomes null."""
    return to_json(value, inf_nan_mode="null")


def iso(ms: int) -> str:
    """Epoch milliseconds as `2026-01-31T12:00:00.000Z`."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _iso(ms: int | None) -> str | None:
    return None if ms is None else iso(ms)


def iso_time(time: datetime) -> str:
    """A time as `2026-01-31T12:00:00.000Z`."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Links:
    """Makes download links; within a window of `window_s` seconds the same job gets the same link."""

    sign: Sign
    window_s: int

    @classmethod
    def lasting(cls, sign: Sign, link_ttl_s: int) -> Links:
        """Links of the given life; the window is a quarter of it, 5 minutes at most."""
        return cls(sign, max(1, min(WINDOW_S_MAX, link_ttl_s // 4)))

    def window(self, now_s: float) -> int:
        """The number of the window that `now_s` lies in."""
        return int(now_s // self.window_s)

    def link(self, snapshot: Snapshot, now_s: float) -> SignedLink | None:
        """The link to a finished job's archive, None when there is no archive or it has expired."""
        expires_ms = snapshot.archive_expires_ms
        if snapshot.archive_key is None or expires_ms is None or now_s * 1000 >= expires_ms:
            return None
        return self.sign(snapshot.archive_key, snapshot.archive_name or "download.zip", expires_ms, now_s)

    def to_file(self, snapshot: Snapshot, file: FileResult, now_s: float) -> SignedLink | None:
        """The link to a kept file of a finished job, None when its archive has expired."""
        expires_ms = snapshot.archive_expires_ms
        if snapshot.archive_key is None or expires_ms is None or now_s * 1000 >= expires_ms:
            return None
        filename = (file.name or "").rpartition("/")[2] or "download"
        return self.sign(kept_key(snapshot.archive_key, file.index), filename, expires_ms, now_s)


def initiated(job: Enqueued, token: str | None = None) -> bytes:
    """The answer to an initiate call; the same again for a repeat of it, whatever became of the job since."""
    body: Initiated = {
        "jobId": job.job_id,
        "status": "queued",
        "totalFiles": job.total_files,
        "totalFileIds": job.total_file_ids,
        "subscribeUrl": stream_path(job.job_id, token),
        "statusUrl": status_path(job.job_id, token),
        "createdAt": iso(job.created_ms),
    }
    return encoded(body)


def status_path(job_id: str, token: str | None) -> str:
    """Where the job's status is read."""
    return with_token(f"{BASE}/status/{job_id}", token)


def stream_path(job_id: str, token: str | None) -> str:
    """Where the job's events are."""
    return with_token(f"{BASE}/subscribe/{job_id}", token)


def with_token(path: str, token: str | None) -> str:
    """The path with the job's read token, for callers who were asked for a key."""
    return f"{path}?token={token}" if token else path


def job(
    record: JobRecord,
    files: Sequence[FileObject] | None,
    link: SignedLink | None,
    deliveries: Sequence[Delivery] = (),
    token: str | None = None,
) -> bytes:
    """The whole job; `files` None leaves them out (many, or not wanted)."""
    return encoded(_job(record, files, link, deliveries, token))


def _job(
    record: JobRecord,
    files: Sequence[FileObject] | None,
    link: SignedLink | None,
    deliveries: Sequence[Delivery] | None = None,
    token: str | None = None,
) -> JobObject:
    snapshot = record.snapshot
    body: JobObject = {
        **_figures(record.job_id, snapshot),
        "currentFile": snapshot.current_file,
        "queuePosition": record.queue_position,
        "files": list(with_links(record, files or (), token, is_there=link is not None)),
        "archive": _archive(record.archive),
        "downloadUrl": link.url if link else None,
        "expiresAt": iso_time(link.expires_at) if link else None,
        "archiveExpiresAt": _iso(snapshot.archive_expires_ms),
        "error": snapshot.error,
        "errorCode": snapshot.error_code,
        "createdAt": iso(record.created_ms),
        "startedAt": _iso(record.started_ms),
        "updatedAt": iso(record.updated_ms),
        "completedAt": _iso(record.completed_ms),
        "processingTimeMs": _processing_ms(record),
        "subscribeUrl": stream_path(record.job_id, token),
        "statusUrl": status_path(record.job_id, token),
        "requestId": record.request_id,
        "callback": _callback(record.callback, deliveries),
    }
    if files is None:
        del body["files"]
    return body


def _callback(callback: Callback | None, deliveries: Sequence[Delivery] | None) -> CallbackObject | None:
    """The callback; `deliveries` None leaves out its tries."""
    if callback is None:
        return None
    body: CallbackObject = {
        "state": callback.state.value,
        "attempts": callback.attempts,
        "nextAttemptAt": _iso(callback.next_ms),
    }
    if deliveries is not None:
        body["deliveries"] = [
            {
                "at": iso(delivery.at_ms),
                "attempt": delivery.number,
                "status": delivery.attempt.status,
                "error": delivery.attempt.error,
                "ms": delivery.attempt.ms,
            }
            for delivery in deliveries
        ]
    return body


def jobs_page(jobs: Sequence[tuple[JobRecord, SignedLink | None, str | None]], following: str | None) -> bytes:
    """A page of jobs, each with its link and its read token, without their files.

    `following` is what to give as `after` for the page behind it, None at the end.
    """
    body: JobsPage = {
        "jobs": [_job(record, None, link, token=token) for record, link, token in jobs],
        "next": following,
    }
    return encoded(body)


def _figures(job_id: str, snapshot: Snapshot) -> Figures:
    return {
        "jobId": job_id,
        "status": snapshot.state.value,
        "progress": snapshot.progress,
        "filesCompleted": snapshot.files_completed,
        "filesFailed": snapshot.files_failed,
        "totalFiles": snapshot.total_files,
        "bytesFetched": snapshot.bytes_fetched,
        "bytesTotal": snapshot.bytes_total,
        "attempt": snapshot.attempt,
    }


def _archive(archive: Archive | None) -> ArchiveObject | None:
    """The archive without its key: where it lies in the bucket is nobody's business."""
    if archive is None:
        return None
    return {"name": archive.name, "size": archive.size, "entries": archive.entries, "etag": archive.etag}


def _processing_ms(record: JobRecord) -> int | None:
    """From the start to the end, or to the last change: not to now, so that equal records give equal answers."""
    if record.started_ms is None:
        return None
    until = record.completed_ms if record.state in TERMINAL and record.completed_ms else record.updated_ms
    return max(0, until - record.started_ms)


async def files_page(
    record: JobRecord, pages: AsyncIterable[Sequence[FileObject]], token: str | None = None, *, is_there: bool
) -> bytes:
    """A page of files, which come some at a time; `next` is what to give as `after` for the page behind it, or null.

    `is_there`: the archive has not expired, and neither have the files kept with it.
    """
    pieces: list[bytes] = []
    last = -1
    async for files in pages:
        if files:
            pieces.append(encoded(with_links(record, files, token, is_there=is_there))[1:-1])
            last = files[-1]["index"]
    following = last if pieces and last + 1 < record.snapshot.total_files else None
    return b'{"files":[%b],"next":%b}' % (b",".join(pieces), encoded(following))


def with_links(
    record: JobRecord, files: Sequence[FileObject], token: str | None, *, is_there: bool
) -> Sequence[FileObject]:
    """The files; those that were kept with the path that leads to their link."""
    if is_there and record.archive is not None and record.archive.kept:
        for file in files:
            if file["status"] == FileStatus.DONE:
                file["downloadUrl"] = with_token(f"{BASE}/{record.job_id}/files/{file['index']}", token)
    return files


def snapshot_body(job_id: str, snapshot: Snapshot, link: SignedLink | None) -> bytes:
    """The snapshot of an event; what is not known is left out."""
    body = cast("SnapshotEvent", _figures(job_id, snapshot))  # an event has them, and what is known besides
    if snapshot.current_file is not None:
        body["currentFile"] = snapshot.current_file
    if snapshot.fetching:
        body["fetching"] = [{"index": index, "bytesFetched": received} for index, received in snapshot.fetching]
    if link is not None:
        body |= {"downloadUrl": link.url, "expiresAt": iso_time(link.expires_at)}
    if snapshot.error is not None:
        body["error"] = snapshot.error
    if snapshot.error_code is not None:
        body["errorCode"] = snapshot.error_code
    return encoded(body)
