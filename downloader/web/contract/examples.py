"""The examples of the document: real calls, and answers as the service gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

JOB_ID = "6f9619ff-8b86-4d11-b42d-00c04fc964ff"
EVENT_ID = "1769860801250-0"
_REQUEST_ID = "2f1c0b7d9a5e4c7fb0a2f6c1d3e4a5b6"
_LINK = f"https://s3.example.com/downloads/{JOB_ID}/1-9f2c41d07b3ae855.zip?X-Amz-Signature=..."

# By name: what the call says, and its body. Each is accepted by the service as it stands.
REQUESTS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "files": (
        "Two files",
        {
            "archiveName": "standards",
            "files": [
                {"url": "https://www.rfc-editor.org/rfc/rfc9110.txt", "name": "http/semantics.txt"},
                {"url": "https://www.rfc-editor.org/rfc/rfc9457.txt"},
            ],
        },
    ),
    "everything": (
        "Every field",
        {
            "archiveName": "report.zip",
            "files": [
                {
                    "id": "cover",
                    "url": "https://example.com/cover.png",
                    "name": "images/cover.png",
                    "size": 13504,
                    "checksum": "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                    "contentType": "image/png",
                    "headers": {"Authorization": "Bearer of-the-source"},
                }
            ],
            "options": {
                "compress": "auto",
                "onError": "skip",
                "manifest": True,
                "keepFiles": True,
                "reproducible": False,
                "format": "zip",
            },
        },
    ),
    "ids": (
        "Ids and their URLs, position by position",
        {
            "fileIds": [17, "a-18"],
            "sourceUrls": ["https://example.com/files/17", "https://example.com/files/18"],
        },
    ),
    "snake_case": (
        "The same in snake_case",
        {
            "file_ids": [17, "a-18"],
            "source_urls": ["https://example.com/files/17", "https://example.com/files/18"],
        },
    ),
}

INITIATED = {
    "jobId": JOB_ID,
    "status": "queued",
    "totalFiles": 2,
    "totalFileIds": 0,
    "subscribeUrl": f"/v1/download/subscribe/{JOB_ID}",
    "statusUrl": f"/v1/download/status/{JOB_ID}",
    "createdAt": "2026-01-31T12:00:00.000Z",
}
_DONE = {
    "index": 0,
    "fileId": 0,
    "name": "http/semantics.txt",
    "originalUrl": "https://www.rfc-editor.org/rfc/rfc9110.txt",
    "status": "done",
    "size": 502941,
    "contentType": "text/plain",
    "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "crc32": "1c291ca3",
    "lengthVerified": True,
    "metadata": {"mediaType": "text/plain"},
    "error": None,
}
_MISSING = _DONE | {
    "index": 1,
    "fileId": 1,
    "name": None,
    "originalUrl": "https://www.rfc-editor.org/rfc/rfc9457.txt",
    "status": "failed",
    "size": None,
    "contentType": None,
    "sha256": None,
    "crc32": None,
    "lengthVerified": None,
    "metadata": None,
    "error": {"code": "http_status:404", "message": "the source answered with status 404"},
}
_FIGURES = {
    "jobId": JOB_ID,
    "status": "completed",
    "progress": 100,
    "filesCompleted": 1,
    "filesFailed": 1,
    "totalFiles": 2,
    "bytesFetched": 502941,
    "bytesTotal": 502941,
    "attempt": 1,
}
_UNLISTED = _FIGURES | {
    "currentFile": None,
    "queuePosition": None,
    "archive": {"name": "standards.zip", "size": 143212, "entries": 2, "etag": "3907e5309fd977860901e46eb0a1c529"},
    "downloadUrl": _LINK,
    "expiresAt": "2026-01-31T13:00:00.000Z",
    "archiveExpiresAt": "2026-02-01T12:00:02.500Z",
    "error": None,
    "errorCode": None,
    "createdAt": "2026-01-31T12:00:00.000Z",
    "startedAt": "2026-01-31T12:00:00.020Z",
    "updatedAt": "2026-01-31T12:00:02.500Z",
    "completedAt": "2026-01-31T12:00:02.500Z",
    "processingTimeMs": 2480,
    "subscribeUrl": f"/v1/download/subscribe/{JOB_ID}",
    "statusUrl": f"/v1/download/status/{JOB_ID}",
    "requestId": _REQUEST_ID,
    "callback": None,
}
JOB = _UNLISTED | {"files": [_DONE, _MISSING]}
JOBS_PAGE = {"jobs": [_UNLISTED], "next": f"1769860800000-{JOB_ID}"}
FILES_PAGE = {"files": [_DONE, _MISSING], "next": None}

TRANSCRIPT = f"""\
retry: 2417

event: progress
id: 1769860800250-0
data: {{"jobId":"{JOB_ID}","status":"processing","progress":49,"filesCompleted":1,"filesFailed":0,"totalFiles":2,\
"bytesFetched":502941,"bytesTotal":null,"attempt":1,"currentFile":"rfc9457.txt",\
"fetching":[{{"index":1,"bytesFetched":16384}}]}}

: still here

event: files
id: 1769860801100-0
data: {{"jobId":"{JOB_ID}","files":[{{"index":1,"fileId":1,"name":null,"originalUrl":\
"https://www.rfc-editor.org/rfc/rfc9457.txt","status":"failed","size":null,"contentType":null,"sha256":null,\
"crc32":null,"lengthVerified":null,"metadata":null,"error":{{"code":"http_status:404","message":\
"the source answered with status 404"}}}}]}}

event: complete
id: {EVENT_ID}
data: {{"jobId":"{JOB_ID}","status":"completed","progress":100,"filesCompleted":1,"filesFailed":1,"totalFiles":2,\
"bytesFetched":502941,"bytesTotal":502941,"attempt":1,"downloadUrl":"{_LINK}","expiresAt":"2026-01-31T13:00:00.000Z"}}

"""

MESSAGE = {
    "type": "job.completed",
    "timestamp": "2026-01-31T12:00:02.500Z",
    "data": {
        "jobId": JOB_ID,
        "status": "completed",
        "filesCompleted": 1,
        "filesFailed": 1,
        "totalFiles": 2,
        "error": None,
        "errorCode": None,
        "statusUrl": f"https://downloads.example.com/v1/download/status/{JOB_ID}",
    },
}
HEALTH = {"status": "healthy", "checks": {"redis": "ok", "storage": "ok", "workers": "ok"}}
SICK = {"status": "unhealthy", "checks": {"redis": "ok", "storage": "error", "workers": "ok"}}
SERVICE = {
    "name": "downloader",
    "version": "0.1.0",
    "links": {"initiate": "/v1/download/initiate", "status": "/v1/download/status/{jobId}", "docs": "/docs"},
}
CODE = {
    "code": "job_not_found",
    "kinds": ["problem"],
    "status": 404,
    "title": "Job not found",
    "meaning": "There is no such job. Unknown, expired, deleted and other callers' jobs are not told apart.",
    "remedy": "See that the id is whole; if it is, the job's record has expired, so start a new job.",
}


def problem(code: str, status: int, title: str, detail: str) -> dict[str, Any]:
    """A problem as an answer has it."""
    return {
        "type": f"/errors/{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": f"/v1/download/status/{JOB_ID}",
        "code": code,
        "requestId": _REQUEST_ID,
        "error": title,
        "message": detail,
    }
