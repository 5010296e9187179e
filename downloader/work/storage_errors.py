"""The border with S3: every error of the SDK, the HTTP client and the store becomes one of ours, by one table.

Messages name what was tried and the store's code, never a URL, a key or a credential.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import aiohttp
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    ProxyConnectionError,
    ReadTimeoutError,
    ResponseStreamingError,
    SSLError,
)
from botocore.parsers import ResponseParserError

from downloader.errors import StorageError

FOREIGN = (ClientError, BotoCoreError, ResponseParserError, aiohttp.ClientError, TimeoutError, OSError)


@dataclass(frozen=True, slots=True)
class Failure:
    """What a failed call means.

    `transient`: the same call may work later. `ambiguous`: it may have taken effect, or still will. `slow_down`: the
    store wants fewer requests. `gone`: the upload does not exist (any more).
    """

    code: str
    transient: bool
    ambiguous: bool = False
    slow_down: bool = False
    gone: bool = False


UNREACHED = Failure("storage_unavailable", transient=True)
UNANSWERED = Failure("storage_unavailable", transient=True, ambiguous=True)
BUSY = Failure("storage_unavailable", transient=True, slow_down=True)
BROKEN = Failure("storage_unavailable", transient=True)
GONE = Failure("storage_failed", transient=False, gone=True)
TOO_LARGE = Failure("archive_too_large", transient=False)
REFUSED = Failure("storage_failed", transient=False)

# The first row that fits counts. EndpointConnectionError stands for everything aiohttp calls a connection error, a
# reset in the middle of the answer included, so `failure_of` looks at what is beneath it.
BY_CLASS: tuple[tuple[type[BaseException], Failure], ...] = (
    (ConnectTimeoutError, UNREACHED),
    (ProxyConnectionError, UNREACHED),
    (SSLError, UNREACHED),
    (EndpointConnectionError, UNANSWERED),
    (ConnectionClosedError, UNANSWERED),
    (ReadTimeoutError, UNANSWERED),
    (ResponseStreamingError, UNANSWERED),
    (HTTPClientError, UNANSWERED),
    (ResponseParserError, UNANSWERED),
    (CredentialRetrievalError, UNREACHED),
    (BotoCoreError, REFUSED),
    (aiohttp.ClientError, UNANSWERED),
    (TimeoutError, UNANSWERED),
    (OSError, UNANSWERED),
)
BY_CODE: dict[str, Failure] = {
    "SlowDown": BUSY,
    "SlowDownRead": BUSY,
    "SlowDownWrite": BUSY,
    "ServiceUnavailable": BUSY,
    "Throttling": BUSY,
    "ThrottlingException": BUSY,
    "RequestLimitExceeded": BUSY,
    "TooManyRequests": BUSY,
    "InternalError": BROKEN,
    "RequestTimeout": BROKEN,
    "OperationAborted": BROKEN,
    "IncompleteBody": BROKEN,
    "BadDigest": BROKEN,
    "XAmzContentChecksumMismatch": BROKEN,
    "NoSuchUpload": GONE,
    "EntityTooLarge": TOO_LARGE,
    "NotImplemented": REFUSED,
}
BY_STATUS: dict[int, Failure] = {
    # A gateway gave up waiting: the store behind it may still be at work.
    408: UNANSWERED,
    429: BUSY,
    499: UNANSWERED,
    501: REFUSED,
    502: UNANSWERED,
    503: BUSY,
    504: UNANSWERED,
}


class CallError(StorageError):
    """One call to the store failed; see `Failure` for the flags. `retry_after_s` is the store's own wish."""

    def __init__(self, failure: Failure, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(failure.code, message, transient=failure.transient)
        self.ambiguous = failure.ambiguous
        self.slow_down = failure.slow_down
        self.gone = failure.gone
        self.retry_after_s = retry_after_s


class PartError(CallError):
    """One try to upload a part failed; whether and when to try again is the caller's to decide."""


def failure_of(error: BaseException) -> Failure:
    """Look the error up in the tables."""
    if isinstance(error, ClientError):
        return _failure_of_answer(store_code(error), status_of(error))
    if isinstance(error, EndpointConnectionError) and isinstance(error.__context__, aiohttp.ClientConnectorError):
        return UNREACHED
    return next((failure for kind, failure in BY_CLASS if isinstance(error, kind)), REFUSED)


def sentence(error: BaseException, doing: str) -> str:
    """One line without secrets: what was tried, and what the store or the SDK called its failure."""
    if isinstance(error, ClientError):
        return f"{doing}: the store answered {status_of(error)} {store_code(error)}".rstrip()
    if failure_of(error) is REFUSED:
        return f"{doing}: the request could not be made ({type(error).__name__})"
    return f"{doing}: the store does not answer ({type(error).__name__})"


def status_of(error: ClientError) -> int:
    """The HTTP status of the store's answer; 0 when there was none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def store_code(error: ClientError) -> str:
    """The store's own error code; empty when it is not a plain word."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    return code if re.fullmatch(r"[A-Za-z0-9.]{1,64}", code) else ""


@contextmanager
def translated(doing: str, kind: type[CallError] = CallError) -> Iterator[None]:
    """Let no foreign error out: raises `kind`, a StorageError, from the original."""
    try:
        yield
    except FOREIGN as error:
        raise kind(failure_of(error), sentence(error, doing), retry_after_s=_retry_after_s(error)) from error


def _failure_of_answer(code: str, status: int) -> Failure:
    if code in BY_CODE:
        return BY_CODE[code]
    if status in BY_STATUS:
        return BY_STATUS[status]
    return BROKEN if status >= 500 else REFUSED


def _retry_after_s(error: BaseException) -> float | None:
    if not isinstance(error, ClientError):
        return None
    value = str(error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("retry-after", ""))
    return float(value) if re.fullmatch(r"[0-9]{1,6}", value) else None
