"""Everything that can go wrong, as one tree.

    DownloaderError                 carries a stable `code` and a message that is safe to show
    ├── StartError                  the service cannot start: one line that names the remedy
    │   └── ConfigError             a setting is missing, unknown or wrong
    ├── RequestError                the caller's request cannot be served (the web maps codes to statuses)
    │   ├── InvalidRequest          the body or a parameter is wrong; lists every fault with its JSON pointer
    │   └── RateLimitedError        a budget of calls is used up until a known moment
    ├── UnavailableError            Redis or S3 does not answer now; the same call may work later
    ├── LeaseLostError              this attempt no longer owns its job; it must stop and publish nothing
    ├── SourceError                 one file could not be had; `transient` says whether another try may help
    │   └── SourceChangedError      the source's content changed between two attempts to fetch it
    ├── JobError                    the whole job fails with this code
    │   └── StorageError            the archive could not be stored
    └── ClientError                 a command of the client cannot go on
        ├── AskedWrongError         the list or the output cannot be used; nothing was begun
        ├── RefusedError            the service, or the store, says no
        ├── AwayError               the service, or the store, does not answer for too long
        └── SaveError               the archive cannot be written here

The domain knows codes only. `web/problems.py` has the table of HTTP statuses; whatever is not in this tree is
`internal`: logged with its traceback, never shown.
"""

from __future__ import annotations

from dataclasses import dataclass


class DownloaderError(Exception):
    """The root: a stable machine-readable `code` and a `message` without secrets."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class StartError(DownloaderError):
    """The service cannot start; the message is one line that names the cause and the remedy."""

    def __init__(self, message: str, code: str = "start_failed") -> None:
        super().__init__(code, message)


class ConfigError(StartError):
    """A setting is unknown, missing or has a bad value; the message names the key."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "config_invalid")


class RequestError(DownloaderError):
    """The caller's request cannot be served as it stands."""

    def __init__(self, code: str, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(code, message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a request: where (a JSON pointer, RFC 6901) and what, with the remedy."""

    pointer: str
    detail: str


class InvalidRequest(RequestError):
    """The body or a parameter does not fit; `faults` names each field and its remedy."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        summary = "; ".join(f"{fault.pointer or '/'}: {fault.detail}" for fault in faults[:3])
        super().__init__("invalid_request", summary)
        self.faults = faults


class RateLimitedError(RequestError):
    """The caller has used up a budget of `limit` calls; it is full again in `reset_s` seconds."""

    def __init__(self, what: str, limit: int, reset_s: int, setting: str) -> None:
        message = f"Too many {what} this minute: at most {limit} (limits.{setting})."
        super().__init__("rate_limited", message, retry_after_s=max(1, reset_s))
        self.limit = limit


class UnavailableError(DownloaderError):
    """A neighbour (Redis or S3) does not answer now; nothing is lost and a later call may work."""

    def __init__(self, neighbour: str, message: str, code: str = "unavailable") -> None:
        super().__init__(code, message)
        self.neighbour = neighbour


class LeaseLostError(DownloaderError):
    """The attempt's token is no longer the job's: another worker has it, or it was cancelled or deleted."""

    def __init__(self, message: str = "the job is no longer ours") -> None:
        super().__init__("lease_lost", message)


class SourceError(DownloaderError):
    """One file could not be had, by a code of the table in docs/sources.md."""

    def __init__(self, code: str, message: str, *, transient: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(code, message)
        self.transient = transient
        self.retry_after_s = retry_after_s


class SourceChangedError(SourceError):
    """The source's content changed while it was being fetched, so its parts cannot be joined."""

    def __init__(self, message: str = "the file changed at its source while it was being fetched") -> None:
        super().__init__("source_changed", message, transient=True)


class JobError(DownloaderError):
    """The whole job ends as failed with this code; `transient` says whether a later attempt may succeed."""

    def __init__(self, code: str, message: str, *, transient: bool = False) -> None:
        super().__init__(code, message)
        self.transient = transient


class StorageError(JobError):
    """The archive could not be stored or did not read back as written."""

    def __init__(self, code: str, message: str, *, transient: bool = True) -> None:
        super().__init__(code, message, transient=transient)


class ClientError(DownloaderError):
    """A command of the client cannot go on; the message is one line that names the remedy."""


class AskedWrongError(ClientError):
    """What was asked for cannot be begun: a line of a list is no URL, or the output is there already."""

    def __init__(self, message: str) -> None:
        super().__init__("asked_wrong", message)


class RefusedError(ClientError):
    """The service said no, with a code of its own; `faults` names what is wrong with a request."""

    def __init__(self, code: str, message: str, faults: tuple[Fault, ...] = (), *, status: int = 0) -> None:
        super().__init__(code, message)
        self.faults = faults
        self.status = status


class AwayError(ClientError):
    """The service or the store does not answer; the same command may work later, and goes on where it stopped.

    `retry_after_s` is what the service asks to wait for, 0 where it says nothing.
    """

    def __init__(self, message: str, code: str = "away", *, retry_after_s: float = 0) -> None:
        super().__init__(code, message)
        self.retry_after_s = retry_after_s


class SaveError(ClientError):
    """The archive cannot be written: no room, no right, or the reader of standard output has left."""

    def __init__(self, message: str) -> None:
        super().__init__("not_saved", message)
