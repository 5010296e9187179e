"""What happened: every invocation and every acknowledgement, in the order in which the runner learned of it.

Times are seconds since the epoch: the ids of events carry the server's milliseconds of the same machine, so the two
can be compared.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import IO

REPLAY = -1


@dataclass(frozen=True, slots=True)
class Asked:
    """A job was posted to a replica."""

    at: float
    number: int
    replica: int


@dataclass(frozen=True, slots=True)
class Answered:
    """What a post was answered: `status` 0 when there was no answer, for the reason in `note`."""

    at: float
    number: int
    replica: int
    status: int
    job_id: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Joined:
    """A follower connected (or tried to) with the last id it had; `status` 0 when there was no answer."""

    at: float
    job_id: str
    follower: int
    replica: int
    last_id: str
    status: int


@dataclass(frozen=True, slots=True)
class Figures:
    """The snapshot of a state event, without what is made when it is sent (the link)."""

    status: str
    progress: int
    done: int
    failed: int
    total: int
    bytes_fetched: int
    attempt: int
    error_code: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame that a follower got; the follower REPLAY is the one who reads all of the stream at the end.

    `digest` tells the content of `files` frames apart.
    """

    at: float
    job_id: str
    follower: int
    event: str
    id: str
    figures: Figures | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """A status answer for a job that has ended; `files` are (name, status, error code, sha256)."""

    at: float
    job_id: str
    replica: int
    state: str
    error_code: str
    etag: str
    size: int
    entries: int
    done: int
    failed: int
    files: tuple[tuple[str, str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Verified:
    """An archive was downloaded by its link and compared with its sources; `problems` is empty when all was right."""

    at: float
    job_id: str
    size: int
    entries: int
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """What was broken, from `at` until `until`; `jobs` were being worked on by the replica that was hit."""

    at: float
    until: float
    kind: str
    target: str
    jobs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Left:
    """Something that must be empty at the end, and what was found there."""

    at: float
    what: str
    found: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Broken:
    """A replica did what it must never do: died by itself, answered 500, did not end when asked to."""

    at: float
    what: str


Entry = Asked | Answered | Joined | Seen | Told | Verified | Fault | Left | Broken


class History:
    """An append-only list, and the same as JSON lines in `file`."""

    def __init__(self, file: IO[str] | None = None) -> None:
        self.entries: list[Entry] = []
        self._file = file

    def add(self, entry: Entry) -> None:
        """Write down what happened."""
        self.entries.append(entry)
        if self._file is not None:
            self._file.write(json.dumps({"entry": type(entry).__name__.lower()} | asdict(entry)) + "\n")
