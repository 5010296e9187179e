"""The events of a job, one frozen value each, and their form in the Redis streams.

A `progress`, `complete` or `error` event carries the job's whole snapshot, so a lost one never matters; a `files`
event carries a batch of changed files as ready-made JSON. `id` is the Redis stream id, the same in the job's own
stream and in the live one.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from downloader.jobs import TERMINAL, Fetching, JobState, Snapshot

EventName = Literal["progress", "complete", "error"]
ID_CHARS_MAX = 41
_ID = re.compile(r"(\d{1,20})-(\d{1,20})")


@dataclass(frozen=True, slots=True)
class StateEvent:
    """The job's snapshot after a change; `name` follows from the state."""

    id: str
    snapshot: Snapshot

    @property
    def name(self) -> EventName:
        """The event's name on the wire: `complete`, `error` (failed or cancelled) or `progress`."""
        if self.snapshot.state is JobState.COMPLETED:
            return "complete"
        return "error" if self.terminal else "progress"

    @property
    def terminal(self) -> bool:
        """True for the last event of a job."""
        return self.snapshot.state in TERMINAL


@dataclass(frozen=True, slots=True)
class FilesEvent:
    """Files that changed; `payload` is a JSON array of file objects as in the status answer."""

    id: str
    payload: bytes
    terminal: Literal[False] = False


JobEvent = StateEvent | FilesEvent


def event_order(event_id: str) -> tuple[int, int] | None:
    """A stream id `<ms>-<n>` as a pair that sorts, or None when the text is no such id."""
    return _order(event_id) if len(event_id) <= ID_CHARS_MAX else None


@functools.lru_cache(1024)  # the same few are asked for by each of those who get the event
def _order(event_id: str) -> tuple[int, int] | None:
    match = _ID.fullmatch(event_id)
    return (int(match[1]), int(match[2])) if match else None


def event_from_fields(event_id: str, fields: Mapping[bytes, bytes]) -> JobEvent:
    """Read one entry of an event stream."""
    if fields.get(b"k") == b"files":
        return FilesEvent(event_id, fields[b"f"])
    return StateEvent(event_id, snapshot_from_fields(fields))


def snapshot_from_fields(fields: Mapping[bytes, bytes]) -> Snapshot:
    """Read a snapshot from the fields that a job record and an event entry have in common."""
    return Snapshot(
        state=JobState(fields[b"state"].decode()),
        progress=int(fields.get(b"progress") or 0),
        files_completed=int(fields.get(b"done") or 0),
        files_failed=int(fields.get(b"failed") or 0),
        total_files=int(fields.get(b"total") or 0),
        bytes_fetched=int(fields.get(b"bytes") or 0),
        bytes_total=integer(fields, b"btotal"),
        current_file=text(fields, b"current"),
        attempt=int(fields.get(b"attempt") or 0),
        fetching=_fetching(fields.get(b"fetching", b"")),
        error=text(fields, b"err"),
        error_code=text(fields, b"ecode"),
        archive_key=text(fields, b"akey"),
        archive_name=text(fields, b"aname"),
        archive_expires_ms=integer(fields, b"aexp"),
    )


def fetching_to_field(fetching: Fetching) -> str:
    """The files that arrive, as an event keeps them: `0:1048576 3:512`. The record does not: it is soon not true."""
    return " ".join(f"{index}:{received}" for index, received in fetching)


def _fetching(field: bytes) -> Fetching:
    pairs = (word.partition(b":") for word in field.split())
    return tuple((int(index), int(received)) for index, _, received in pairs)


def integer(fields: Mapping[bytes, bytes], name: bytes) -> int | None:
    """The field as a number, None when it is absent or empty."""
    raw = fields.get(name)
    return int(raw) if raw else None


def text(fields: Mapping[bytes, bytes], name: bytes) -> str | None:
    """The field as text, None when it is absent or empty."""
    raw = fields.get(name)
    return raw.decode() if raw else None
