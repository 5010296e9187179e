"""The shapes of what goes out as JSON: `render.py` builds exactly these, and the OpenAPI document is made from them.

They are typed dictionaries, so that a status of hundreds of files costs nothing beyond the dictionaries themselves.
"""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field, WithJsonSchema
from typing_extensions import TypedDict

from downloader.jobs import JobState
from downloader.wire import FileObject

JobId = Annotated[
    str,
    WithJsonSchema({"type": "string", "format": "uuid"}),
    Field(description="The job's id. It cannot be guessed."),
]
Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
Url = Annotated[str, WithJsonSchema({"type": "string", "format": "uri"})]
Path = Annotated[str, WithJsonSchema({"type": "string", "format": "uri-reference"})]
Count = Annotated[int, Field(ge=0)]

_STATE = {"type": "string", "enum": [state.value for state in JobState]}
Progress = Annotated[
    int, Field(ge=0, le=100, description="Whole percent; it never falls within an attempt. 100 only when completed.")
]
FilesCompleted = Annotated[Count, Field(description="Files that are in the archive, or will be.")]
FilesFailed = Annotated[Count, Field(description="Files that could not be had.")]
TotalFiles = Annotated[Count, Field(description="Files that were asked for.")]
BytesFetched = Annotated[Count, Field(description="Bytes fetched so far.")]
BytesTotal = Annotated[Count | None, Field(description="Bytes of all files, once every size is known.")]
CurrentFile = Annotated[str, Field(description="The name of a file that is being fetched.")]
DownloadUrl = Annotated[Url, Field(description="Where the archive lies, for whoever has the link, until `expiresAt`.")]
ExpiresAt = Annotated[Time, Field(description="When `downloadUrl` stops working; a later read gives a fresh one.")]
ErrorText = Annotated[str, Field(description="Why there is no archive, in one sentence.")]
ErrorCode = Annotated[str, Field(description="The same as a code; `/errors/{code}` explains it.")]
SubscribeUrl = Annotated[
    Path, Field(description="Where the job's events are, relative to the service; good for a browser as it stands.")
]
StatusUrl = Annotated[Path, Field(description="Where the job's status is, relative to the service.")]
AttemptNumber = Annotated[Count, Field(description="Which attempt at the job this is; 0 before the first.")]


class Initiated(TypedDict):
    """A job that was taken in."""

    jobId: JobId
    status: Annotated[Literal["queued"], Field(description="Always `queued`, also when the call is repeated.")]
    totalFiles: TotalFiles
    totalFileIds: Annotated[Count, Field(description="How many ids the request gave.")]
    subscribeUrl: SubscribeUrl
    statusUrl: StatusUrl
    createdAt: Time


class ArchiveObject(TypedDict):
    """The finished archive."""

    name: Annotated[str, Field(description="The name it is saved as.")]
    size: Annotated[Count, Field(description="Bytes.")]
    entries: Annotated[Count, Field(description="How many entries it has, reports included.")]
    etag: Annotated[str, Field(description="The entity tag that the store gave it.")]


class DeliveryObject(TypedDict):
    """One try to deliver a callback."""

    at: Annotated[Time, Field(description="When it ended.")]
    attempt: Annotated[int, Field(ge=1, description="Its number.")]
    status: Annotated[int | None, Field(description="The status of the receiver's answer.")]
    error: Annotated[str | None, Field(description="The code of what kept an answer from coming.")]
    ms: Annotated[Count, Field(description="How long it took, in milliseconds.")]


class CallbackObject(TypedDict):
    """The message that the job's end sends to its `callbackUrl`, and what became of it."""

    state: Annotated[
        Literal["pending", "delivered", "failed", "disabled"], Field(description="Disabled: its receiver answered 410.")
    ]
    attempts: Annotated[Count, Field(description="How often it was tried.")]
    nextAttemptAt: Annotated[Time | None, Field(description="When it is tried next.")]
    deliveries: NotRequired[Annotated[list[DeliveryObject], Field(description="The last 20 tries, newest last.")]]


class Figures(TypedDict):
    """The figures of a job that every answer and every event has."""

    jobId: JobId
    status: Annotated[str, WithJsonSchema(_STATE)]
    progress: Progress
    filesCompleted: FilesCompleted
    filesFailed: FilesFailed
    totalFiles: TotalFiles
    bytesFetched: BytesFetched
    bytesTotal: BytesTotal
    attempt: AttemptNumber


class JobObject(Figures):
    """The whole job."""

    currentFile: CurrentFile | None
    queuePosition: Annotated[int | None, Field(description="Its place among the caller's waiting jobs, from 1.")]
    files: NotRequired[
        Annotated[list[FileObject], Field(description="Its files, up to 200; a longer list is paged by `/files`.")]
    ]
    archive: ArchiveObject | None
    downloadUrl: DownloadUrl | None
    expiresAt: ExpiresAt | None
    archiveExpiresAt: Annotated[Time | None, Field(description="When the archive is removed.")]
    error: ErrorText | None
    errorCode: ErrorCode | None
    createdAt: Time
    startedAt: Time | None
    updatedAt: Time
    completedAt: Time | None
    processingTimeMs: Annotated[Count | None, Field(description="From the start to the end, or to the last change.")]
    subscribeUrl: SubscribeUrl
    statusUrl: StatusUrl
    requestId: Annotated[str, Field(description="The id of the call that started the job.")]
    callback: CallbackObject | None


class JobsPage(TypedDict):
    """A page of jobs, newest first, without their files."""

    jobs: list[JobObject]
    next: Annotated[str | None, Field(description="Give it as `after` for the page behind this one; null at the end.")]


class FilesPage(TypedDict):
    """A page of a job's files, in the order of the request."""

    files: list[FileObject]
    next: Annotated[int | None, Field(description="Give it as `after` for the page behind this one; null at the end.")]


class FetchingObject(TypedDict):
    """A file that arrives just now."""

    index: Annotated[int, Field(ge=0, description="Its place in the request, from 0.")]
    bytesFetched: Annotated[Count, Field(description="Its bytes so far; `files` events tell its size, if it is known.")]


class SnapshotEvent(Figures):
    """The job as it stands; what is not known is left out."""

    currentFile: NotRequired[CurrentFile]
    fetching: NotRequired[
        Annotated[list[FetchingObject], Field(description="Files that arrive just now, 32 at most; in live events.")]
    ]
    downloadUrl: NotRequired[DownloadUrl]
    expiresAt: NotRequired[ExpiresAt]
    error: NotRequired[ErrorText]
    errorCode: NotRequired[ErrorCode]


class NowhereEvent(TypedDict):
    """There is no such job: unknown, expired, deleted or somebody else's."""

    jobId: Annotated[str, Field(max_length=64, description="What stood in the path.")]
    status: Literal["not_found"]
    error: str
    errorCode: Literal["job_not_found"]


class FilesEvent(TypedDict):
    """Files that changed since the last such event."""

    jobId: JobId
    files: list[FileObject]


class ResetEvent(TypedDict):
    """Events may have been missed; the job as it stands follows."""

    jobId: JobId


class BusyEvent(TypedDict):
    """The stream cannot be served now; connect again after the pause."""

    reason: str
    retryMs: Annotated[Count, Field(description="The pause, in milliseconds.")]


EVENTS = {
    "progress": SnapshotEvent,
    "complete": SnapshotEvent,
    "error": SnapshotEvent | NowhereEvent,
    "files": FilesEvent,
    "reset": ResetEvent,
    "busy": BusyEvent,
}


class FaultObject(TypedDict):
    """One thing wrong with the request."""

    pointer: Annotated[str, Field(description="Where: a JSON pointer (RFC 6901), or `/name` of a parameter.")]
    detail: Annotated[str, Field(description="What is wrong, and what would be right.")]


class ProblemObject(TypedDict):
    """What went wrong (RFC 9457)."""

    type: Annotated[Path, Field(description="The page that explains the code.")]
    title: Annotated[str, Field(description="The same sentence for every problem of the code.")]
    status: Annotated[int, Field(ge=400, le=599, description="The HTTP status.")]
    detail: Annotated[str, Field(description="What happened here, and what to do.")]
    instance: Annotated[str, Field(description="The path that was called.")]
    code: Annotated[str, Field(description="The stable name of the problem.")]
    requestId: Annotated[str, Field(description="The id of the call; it finds the call in the service's log.")]
    error: Annotated[str, Field(description="`title` once more, for older clients.")]
    message: Annotated[str, Field(description="`detail` once more, for older clients.")]
    errors: NotRequired[Annotated[list[FaultObject], Field(description="The faults of the request, at most 20.")]]
    errorCount: NotRequired[Annotated[int, Field(ge=1, description="How many faults there are in all.")]]


class QueueObject(TypedDict):
    """How the queue stands."""

    waiting: Annotated[Count, Field(description="Jobs that wait for a worker.")]
    pausing: Annotated[Count, Field(description="Jobs that wait out a pause before another attempt.")]
    processing: Annotated[Count, Field(description="Jobs that are worked on.")]
    waitsSince: Annotated[
        Time | None,
        Field(description="When the job was taken in that waits longest, of the 400 tenants whose turn is next."),
    ]


class TenantObject(TypedDict):
    """What a tenant has in the queue and in the store."""

    tenant: str
    waiting: Count
    pausing: Count
    processing: Count
    waitsSince: Annotated[Time | None, Field(description="When its job was taken in that is next.")]
    storedBytes: Annotated[Count, Field(description="Bytes of its archives and kept files.")]


class RunningJobObject(TypedDict):
    """A job that is worked on."""

    jobId: str
    tenant: str
    replica: Annotated[str | None, Field(description="The `id` of the replica that has it; null when it is unknown.")]
    attempt: AttemptNumber
    alone: Annotated[bool, Field(description="It has taken workers down before, so its replica works on nothing else.")]
    progress: Progress
    filesCompleted: FilesCompleted
    filesFailed: FilesFailed
    totalFiles: TotalFiles
    bytesFetched: BytesFetched
    createdAt: Time
    startedAt: Annotated[Time, Field(description="When its first attempt began.")]
    leaseMs: Annotated[
        int, Field(description="For how long it is its replica's without a renewal; below 0 it is taken back soon.")
    ]


class ReplicaObject(TypedDict):
    """A process of the service."""

    id: str
    host: str
    pid: Count
    version: str
    since: Annotated[Time, Field(description="When it started.")]
    knownMs: Annotated[Count, Field(description="For how long it is still listed if nothing more is heard of it.")]
    draining: Annotated[bool, Field(description="It stops: it takes no more jobs.")]
    slots: Annotated[Count, Field(description="Jobs that it can work on at once.")]
    running: Annotated[Count, Field(description="Jobs that it works on.")]
    streams: Annotated[Count, Field(description="Event streams that it serves.")]
    memoryUsedBytes: Annotated[Count, Field(description="What of its memory budget is promised.")]
    memoryBudgetBytes: Annotated[Count, Field(description="Its memory.budget_bytes.")]


class MinuteObject(TypedDict):
    """What happened in one minute. A file counts once per attempt at its job."""

    at: Annotated[Time, Field(description="When the minute began.")]
    jobsCompleted: Count
    jobsFailed: Count
    jobsCancelled: Count
    filesDone: Count
    filesFailed: Count
    bytesFetched: Count


class FailuresObject(TypedDict):
    """Failures by code, most frequent first."""

    since: Time
    jobs: dict[str, Count]
    files: dict[str, Count]


class AllFailuresObject(TypedDict):
    """Failures of the last 60 minutes and of the last 24 hours by the clock, the one that is not over included."""

    hour: FailuresObject
    day: FailuresObject


class RecentJobObject(TypedDict):
    """A job that was taken in or has ended lately."""

    jobId: str
    tenant: str
    status: Annotated[str, WithJsonSchema(_STATE)]
    filesCompleted: FilesCompleted
    filesFailed: FilesFailed
    totalFiles: TotalFiles
    bytesFetched: BytesFetched
    archiveBytes: Annotated[Count | None, Field(description="The size of its archive.")]
    errorCode: ErrorCode | None
    createdAt: Time
    completedAt: Time | None
    tookMs: Annotated[Count | None, Field(description="From its start to its end.")]


class OverviewObject(TypedDict):
    """The whole service, over all tenants and replicas."""

    at: Annotated[Time, Field(description="When this was so.")]
    maintenance: Annotated[str | None, Field(description="What callers are told while no jobs are taken in.")]
    queue: QueueObject
    tenants: Annotated[list[TenantObject], Field(description="Those with jobs or archives, the busiest first.")]
    tenantsTotal: Annotated[Count, Field(description="How many there are, shown or not.")]
    storedBytes: Annotated[Count, Field(description="Bytes of archives and kept files of all of them.")]
    running: Annotated[list[RunningJobObject], Field(description="Longest at work first.")]
    replicas: list[ReplicaObject]
    replicasTotal: Annotated[
        Count, Field(description="How many there are, shown or not. One of an earlier version may tell too little.")
    ]
    minutes: Annotated[list[MinuteObject], Field(description="The last 60, oldest first; the last is not over.")]
    failures: AllFailuresObject
    recent: Annotated[list[RecentJobObject], Field(description="Latest first.")]


class CodeObject(TypedDict):
    """What a code means."""

    code: str
    kinds: Annotated[
        list[Literal["problem", "job", "file"]],
        Field(description="What carries it: an answer, a job's `errorCode`, or a file's `error.code`."),
    ]
    status: Annotated[int | None, Field(description="The HTTP status of a problem.")]
    title: str
    meaning: Annotated[str, Field(description="What happened.")]
    remedy: Annotated[str, Field(description="What to do.")]


class Liveness(TypedDict):
    """The process lives."""

    status: Literal["alive"]


class Readiness(TypedDict):
    """Whether calls are welcome."""

    status: Literal["ready", "starting", "draining"]


class HealthObject(TypedDict):
    """Each neighbour in detail."""

    status: Literal["healthy", "unhealthy"]
    checks: dict[str, Literal["ok", "error"]]


class ServiceDocument(TypedDict):
    """What this service is, and where its calls are."""

    name: Literal["downloader"]
    version: str
    links: Annotated[dict[str, str], Field(description="Paths by name; `{jobId}` stands for a job's id.")]
