"""The words for callbacks: one message to the caller's `callbackUrl` when a job ends, and what became of it.

A job has at most one: a delivery is tried until the receiver takes it, refuses it for good or the tries are used up.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field
from typing_extensions import TypedDict

if TYPE_CHECKING:  # a job's record holds what is said here
    from downloader.jobs import JobRecord


class MessageData(TypedDict):
    """The job that has ended. No link and no source's URL is here, so it may be logged."""

    jobId: Annotated[str, Field(description="The job's id.")]
    status: Annotated[str, Field(pattern="^(completed|failed|cancelled)$", description="How it has ended.")]
    filesCompleted: Annotated[int, Field(ge=0, description="Files that are in the archive.")]
    filesFailed: Annotated[int, Field(ge=0, description="Files that could not be had.")]
    totalFiles: Annotated[int, Field(ge=0, description="Files that were asked for.")]
    error: Annotated[str | None, Field(description="Why there is no archive, in one sentence.")]
    errorCode: Annotated[str | None, Field(description="The same as a code; `/errors/{code}` explains it.")]
    statusUrl: Annotated[str, Field(description="Where the job's status is.")]


class Message(TypedDict):
    """What is posted to a `callbackUrl`, by the rules of Standard Webhooks."""

    type: Annotated[str, Field(pattern=r"^job\.(completed|failed|cancelled)$", description="What has happened.")]
    timestamp: Annotated[str, Field(description="When, in ISO 8601, UTC.")]
    data: MessageData


class CallbackState(enum.StrEnum):
    """What became of a job's callback; `pending` also before the job's end."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Callback:
    """Where a job's callback is; `next_ms` is when it is tried next, in epoch ms, None when it is not."""

    state: CallbackState
    attempts: int
    next_ms: int | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to deliver: the answer's status, or the code of what kept it from coming; `ms` is how long it took."""

    status: int | None
    error: str | None
    ms: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """An attempt as it is remembered: its number, from 1, and when it ended, in epoch milliseconds."""

    at_ms: int
    number: int
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class DueCallback:
    """A callback to be delivered now, ours to deliver as long as `token` is its token.

    `number` is that of this attempt since the callback was last put up for delivery, from 1. `url` is empty when the
    request is no longer kept.
    """

    record: JobRecord
    token: str
    receiver: str
    sender: str
    number: int
    url: str
