"""What is told of the calls for operators."""

from __future__ import annotations

from downloader.web import shapes
from downloader.web.contract.examples import JOB_ID
from downloader.web.contract.headers import IF_NONE_MATCH, RATES
from downloader.web.contract.operation import HTML, Answer, Content, Operation

_REPLICA = "9f2c41d07b3ae855"
_TENANT = {
    "tenant": "acme",
    "waiting": 3,
    "pausing": 0,
    "processing": 1,
    "waitsSince": "2026-01-31T11:59:58.000Z",
    "storedBytes": 734003200,
}
_RUNNING = {
    "jobId": JOB_ID,
    "tenant": "acme",
    "replica": _REPLICA,
    "attempt": 1,
    "alone": False,
    "progress": 42,
    "filesCompleted": 8,
    "filesFailed": 1,
    "totalFiles": 20,
    "bytesFetched": 73400320,
    "createdAt": "2026-01-31T11:59:50.000Z",
    "startedAt": "2026-01-31T11:59:50.020Z",
    "leaseMs": 17300,
}
_SEEN = {
    "id": _REPLICA,
    "host": "downloader-1",
    "pid": 7,
    "version": "0.1.0",
    "since": "2026-01-31T09:00:00.000Z",
    "knownMs": 12800,
    "draining": False,
    "slots": 4,
    "running": 1,
    "streams": 2,
    "memoryUsedBytes": 67108864,
    "memoryBudgetBytes": 536870912,
}
_MINUTE = {
    "at": "2026-01-31T11:59:00.000Z",
    "jobsCompleted": 12,
    "jobsFailed": 1,
    "jobsCancelled": 0,
    "filesDone": 240,
    "filesFailed": 3,
    "bytesFetched": 1288490188,
}
_RECENT = {
    "jobId": JOB_ID.replace("6f96", "7a10"),
    "tenant": "bolt",
    "status": "failed",
    "filesCompleted": 0,
    "filesFailed": 2,
    "totalFiles": 2,
    "bytesFetched": 0,
    "archiveBytes": None,
    "errorCode": "all_files_failed",
    "createdAt": "2026-01-31T11:59:41.000Z",
    "completedAt": "2026-01-31T11:59:42.310Z",
    "tookMs": 1290,
}
_HOUR = {
    "since": "2026-01-31T11:01:00.000Z",
    "jobs": {"all_files_failed": 1},
    "files": {"http_status:404": 2, "timeout": 1},
}
_EXAMPLE = {
    "at": "2026-01-31T12:00:00.000Z",
    "maintenance": None,
    "queue": {"waiting": 3, "pausing": 0, "processing": 1, "waitsSince": "2026-01-31T11:59:58.000Z"},
    "tenants": [_TENANT],
    "tenantsTotal": 1,
    "storedBytes": 734003200,
    "running": [_RUNNING],
    "replicas": [_SEEN],
    "replicasTotal": 1,
    "minutes": [_MINUTE],
    "failures": {"hour": _HOUR, "day": _HOUR | {"since": "2026-01-30T13:00:00.000Z"}},
    "recent": [_RECENT],
}

OVERVIEW = Operation(
    "getOverview",
    "Service",
    "The whole service at a glance",
    "For operators: the queue, jobs that are worked on and who has them, replicas, throughput, failures by code, and "
    "recent jobs, over all tenants and replicas. The page `/admin` shows it. It wants a key with the admin right "
    "(`downloader keys new --admin TENANT`), from its own machine too. Lists are cut off at 200 running jobs, "
    "100 tenants, 100 replicas and 50 recent jobs.",
    (Answer(200, "How all stands.", (Content(shapes.OverviewObject, example=_EXAMPLE),), ("Cache-Control", *RATES)),),
)
PAGE = Operation(
    "adminPage",
    "Service",
    "The admin view",
    "A page that shows the overview, live. It holds nothing by itself: it asks for an admin key, and keeps it for as "
    "long as its tab is open.",
    (
        Answer(200, "The page.", (Content(str, HTML),), ("ETag", "Cache-Control")),
        Answer(304, "You have it already.", (), ("ETag", "Cache-Control")),
    ),
    (IF_NONE_MATCH,),
)
