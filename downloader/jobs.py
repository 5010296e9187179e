"""The words for a job: what is asked for, what becomes of each file, and the one table of states.

All values are frozen and do no I/O. `JobRequest` is what the caller wants, `JobRecord` what is remembered of the
job, `FileResult` what became of one file.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import TypeAdapter

from downloader.callbacks import Callback
from downloader.s3url import SCHEME, is_s3

FileId = int | str
# Nearly every URL up to its query, told by one look: no userinfo, nothing that has to be taken apart.
_PLAIN_URL = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-9]+)?(?:/[^?#]*|(?=[?#])|\Z)")


class JobState(enum.StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


# The one table: every move a job may make. A lapsed or released attempt goes back to `queued`.
# `state/lua/*.lua` make these moves and no others; `tests/test_jobs.py` holds them to it.
TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.PROCESSING, JobState.FAILED, JobState.CANCELLED}),
    JobState.PROCESSING: frozenset({JobState.QUEUED, JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED}),
    JobState.COMPLETED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}
TERMINAL: frozenset[JobState] = frozenset(state for state, after in TRANSITIONS.items() if not after)


class FileStatus(enum.StrEnum):
    """Where one file of a job is."""

    PENDING = "pending"
    FETCHING = "fetching"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Checksum:
    """A digest the caller expects: `algorithm` is sha256, md5 or crc32, `hex` its lower-case value."""

    algorithm: Literal["sha256", "md5", "crc32"]
    hex: str

    LENGTHS: ClassVar[dict[str, int]] = {"sha256": 64, "md5": 32, "crc32": 8}

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `sha256:<hex>`, `md5:<hex>` or `crc32:<hex>`; ValueError names what is wrong."""
        algorithm, colon, value = text.partition(":")
        algorithm = algorithm.strip().lower()
        value = value.strip().lower()
        if not colon or algorithm not in ("sha256", "md5", "crc32"):
            raise ValueError("use 'sha256:<hex>', 'md5:<hex>' or 'crc32:<hex>'")
        length = cls.LENGTHS[algorithm]
        if not re.fullmatch(rf"[0-9a-f]{{{length}}}", value):
            raise ValueError(f"{algorithm} takes {length} hexadecimal digits")
        return cls(algorithm, value)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Source:
    """One file that is asked for: `index` is its place in the request, from 0."""

    index: int
    file_id: FileId
    url: str
    name: str | None = None
    size: int | None = None
    checksum: Checksum | None = None
    content_type: str | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        """Leave out the URL's secrets and all headers, so that a log line cannot betray them."""
        return f"Source({self.index}, {self.file_id!r}, {public_url(self.url)!r})"


@dataclass(frozen=True, slots=True)
class Options:
    """How the archive is made; the defaults are the service's, taken from the configuration."""

    compress: Literal["auto"] | bool = "auto"
    on_error: Literal["skip", "fail"] = "skip"
    manifest: bool = False
    reproducible: bool = False
    keep_files: bool = False


@dataclass(frozen=True, slots=True)
class JobRequest:
    """Everything a worker needs to do the job; kept in a record of its own because it may hold secrets."""

    sources: tuple[Source, ...]
    archive_name: str
    options: Options = Options()
    callback_url: str = field(default="", repr=False)
    version: int = 1

    def to_json(self) -> bytes:
        """Encode for the request record."""
        return _REQUEST.dump_json(self, exclude_defaults=True)

    def only(self, indexes: Iterable[int]) -> JobRequest:
        """The same request for some of its files, numbered anew."""
        kept = [self.sources[index] for index in indexes]
        return replace(self, sources=tuple(replace(source, index=index) for index, source in enumerate(kept)))

    @classmethod
    def from_json(cls, blob: bytes) -> JobRequest:
        """Decode a request record written by this version or the one before."""
        return _REQUEST.validate_json(blob)


_REQUEST: TypeAdapter[JobRequest] = TypeAdapter(JobRequest)


@dataclass(frozen=True, slots=True)
class FileError:
    """Why one file is missing: a stable code and one plain sentence."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class FileResult:
    """What is known of one file; sizes in bytes, digests as lower-case hex.

    `length_verified` is False where the source's answer ended by closing the connection, so that a cut would not show.
    """

    index: int
    file_id: FileId
    url: str
    name: str | None = None
    status: FileStatus = FileStatus.PENDING
    size: int | None = None
    content_type: str | None = None
    sha256: str | None = None
    crc32: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    error: FileError | None = None
    length_verified: bool | None = None


@dataclass(frozen=True, slots=True)
class Archive:
    """The finished archive as an object of the bucket; `kept` says that its files are objects of their own too."""

    key: str
    name: str
    size: int
    entries: int
    etag: str
    kept: bool = False


# Files that arrive just now: the place of each in the request, and its bytes so far.
Fetching = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The figures of a job that every event carries; counters in files and bytes, times in epoch milliseconds."""

    state: JobState
    progress: int
    files_completed: int
    files_failed: int
    total_files: int
    bytes_fetched: int
    bytes_total: int | None
    current_file: str | None
    attempt: int
    fetching: Fetching = ()
    error: str | None = None
    error_code: str | None = None
    archive_key: str | None = None
    archive_name: str | None = None
    archive_expires_ms: int | None = None


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What is remembered of a job (all but its request); times in epoch milliseconds of the Redis server."""

    job_id: str
    tenant: str
    snapshot: Snapshot
    total_file_ids: int
    archive: Archive | None
    queue_position: int | None
    created_ms: int
    started_ms: int | None
    updated_ms: int
    completed_ms: int | None
    request_id: str
    event_id: str
    revision: int
    callback: Callback | None = None

    @property
    def state(self) -> JobState:
        """The job's state."""
        return self.snapshot.state


@dataclass(frozen=True, slots=True)
class Claim:
    """One attempt at a job, ours as long as `token` is the job's; the token is epoch and a random nonce.

    `base` is the token of the earlier attempt that left a checkpoint, "" if none did. `alone`: the job is suspected
    of taking workers down, so its process works on nothing else meanwhile. `started_ms` is when the job was taken from
    the queue for the first time.
    """

    job_id: str
    tenant: str
    token: str
    attempt: int
    request: JobRequest
    request_id: str
    traceparent: str
    created_ms: int
    base: str = ""
    alone: bool = False
    started_ms: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Completed:
    """The attempt made the archive."""

    archive: Archive
    done: int
    failed: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt found that the job cannot be done; `transient` asks for another attempt if the budget allows."""

    code: str
    message: str
    transient: bool = False


Outcome = Completed | Failed


class Settlement(enum.Enum):
    """What became of an attempt's outcome: it is the job's, the job is queued again, or it was not ours to say."""

    DONE = "ok"
    AGAIN = "again"
    LOST = "lost"

    def __bool__(self) -> bool:
        """True when the attempt was ours."""
        return self is not Settlement.LOST


@dataclass(frozen=True, slots=True)
class Figures:
    """The moving figures of a running job: files, bytes, and `progress` in whole percent (at most 99)."""

    done: int = 0
    failed: int = 0
    bytes_fetched: int = 0
    bytes_total: int | None = None
    progress: int = 0
    current_file: str | None = None
    fetching: Fetching = ()


def kept_folder(archive_key: str) -> str:
    """Where the kept files of an archive lie: the first part of their keys, with a slash at its end."""
    return archive_key.removesuffix(".zip") + "/"


def kept_key(archive_key: str, index: int) -> str:
    """The key of the kept file at `index` of the request."""
    return f"{kept_folder(archive_key)}{index}"


def public_url(url: str) -> str:
    """The URL without userinfo, query and fragment: the only form that may be shown or logged."""
    if (plain := _PLAIN_URL.match(url)) is not None:
        return plain[0]
    if is_s3(url):
        bucket, slash, key = url[len(SCHEME) :].partition("/")
        return f"{SCHEME}{bucket.rpartition('@')[2]}{slash}{key}"
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "(unreadable URL)"
    return f"{parts.scheme}://{host}{parts.path}"
