"""What is shown of a job: bars for a person at a terminal, else lines, nothing, or one JSON object per line.

Everything but the JSON goes to standard error (the demo's to standard output): standard output has results only.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TextIO

from downloader.client.printing import remark, result
from downloader.client.stream import ENDED_FILES, Following
from downloader.client.text import amount, count, duration, printable
from downloader.errors import DownloaderError
from downloader.names import url_name

EACH_FILE_MAX = 20
MISSING_SHOWN = 20
EVERY_S = 5.0
WORDS = {"done": "ok", "failed": "missing"}


class View(Protocol):
    """Shows what becomes of a job; `say` is for what a person must know in any case."""

    def started(self, job_id: str, total: int, *, again: bool) -> None:
        """A job was posted, or one is taken up again."""

    def update(self, heard: Following) -> None:
        """Show what is new."""

    def posted(self, job_id: str, total: int) -> None:
        """A job was posted, and nobody waits here for its end."""

    def notice(self, text: str) -> None:
        """Tell of what is no error and no progress."""

    def saving(self, received: int, size: int) -> None:
        """So much of the archive is here."""

    def ended(self, job: dict[str, Any], missing: list[dict[str, Any]]) -> None:
        """The job has ended, and these of its files are missing."""

    def saved(self, path: str, size: int, compared: int | None) -> None:
        """The archive is at its place; so many files were compared."""

    def link(self, url: str) -> None:
        """The archive is there, and is not saved here."""

    def failed(self, error: DownloaderError, exit_code: int, lines: list[str]) -> None:
        """The command ends with this error, told in these lines."""


@contextmanager
def view_of(*, as_json: bool = False, quiet: bool = False, to: TextIO | None = None) -> Iterator[View]:
    """The view that fits `to` (standard error when not given), for as long as the block runs."""
    to = to or sys.stderr
    if as_json:
        yield JsonLines()
    elif quiet:
        yield Quiet(to)
    elif to.isatty() and os.environ.get("TERM") != "dumb":
        from downloader.client.bars import bars  # only here: `rich` takes its time to load

        with bars(to) as shown:
            yield shown
    else:
        yield Lines(to)


class Quiet:
    """Only what must be known: what is missing, and why a command failed."""

    def __init__(self, to: TextIO) -> None:
        self._to = to

    def say(self, text: str) -> None:
        """Print a line."""
        remark(self._to, text)

    def started(self, job_id: str, total: int, *, again: bool) -> None:
        """Nothing."""

    def posted(self, job_id: str, total: int) -> None:
        """Print its id."""
        del total
        result(job_id)

    def update(self, heard: Following) -> None:
        """Nothing."""

    def notice(self, text: str) -> None:
        """Nothing."""

    def saving(self, received: int, size: int) -> None:
        """Nothing."""

    def ended(self, job: dict[str, Any], missing: list[dict[str, Any]]) -> None:
        """Say why the job failed, or what is missing."""
        if job["status"] != "completed":
            why = job.get("error") or ("it was cancelled" if job["status"] == "cancelled" else "no reason is given")
            self.say(f"job {job['jobId']} {job['status']}: {printable(why)}")
        if missing:
            self.say(f"{len(missing)} of {count(job['totalFiles'], 'file')} missing:")
        for file in missing[:MISSING_SHOWN]:
            self.say(f"  {title(file)}: {why_missing(file)}")
        if len(missing) > MISSING_SHOWN:
            self.say(f"  and {len(missing) - MISSING_SHOWN} more; the archive's MISSING-FILES.txt and --json name all")

    def saved(self, path: str, size: int, compared: int | None) -> None:
        """Nothing."""

    def link(self, url: str) -> None:
        """Print it."""
        result(url)

    def failed(self, error: DownloaderError, exit_code: int, lines: list[str]) -> None:
        """Say it."""
        del error, exit_code
        for line in lines:
            self.say(line)


class Lines(Quiet):
    """Plain lines: each file of a small job as it ends, else the whole every few seconds, and what is missing."""

    def __init__(self, to: TextIO) -> None:
        super().__init__(to)
        self._told: set[int] = set()
        self._shown = 0
        self._last = ""
        self._said_at = time.monotonic()

    def started(self, job_id: str, total: int, *, again: bool) -> None:
        """Say which job it is."""
        self.say(f"job {job_id}: {'going on with ' if again else ''}{count(total, 'file')}")

    def notice(self, text: str) -> None:
        """Say it."""
        self.say(text)

    def update(self, heard: Following) -> None:
        """Print the files that have ended since, or how far the whole is."""
        is_small = 0 < heard.job.get("totalFiles", len(heard.files)) <= EACH_FILE_MAX
        for file in heard.changed:
            if file["status"] in WORDS and file["index"] not in self._told:
                self._told.add(file["index"])
                if (is_small or file["status"] == "failed") and self._shown < EACH_FILE_MAX:
                    self._shown += 1
                    self.say(f"  {WORDS[file['status']]:8}{title(file)}  {note_of(file)}")
        if heard.job and not is_small and self._is_time(ended=heard.ended):
            job = heard.job
            done = f"{ended_files(job)} of {count(job['totalFiles'], 'file')}"
            self._say_new(f"  {job['progress']:3} %  {done}, {amount(job['bytesFetched'])} fetched")

    def _say_new(self, text: str) -> None:
        if text != self._last:
            self._last = text
            self.say(text)

    def _is_time(self, *, ended: bool) -> bool:
        now = time.monotonic()
        if not ended and now - self._said_at < EVERY_S:
            return False
        self._said_at = now
        return True

    def saving(self, received: int, size: int) -> None:
        """Say how much of a long transfer is here."""
        if received < size and self._is_time(ended=False):
            self.say(f"  saving  {amount(received)} of {amount(size)}")

    def ended(self, job: dict[str, Any], missing: list[dict[str, Any]]) -> None:
        """Say what the job made, and what is missing."""
        if job["status"] == "completed":
            took = f" in {duration(job['processingTimeMs'] / 1000)}" if job.get("processingTimeMs") else ""
            size = f", archive of {amount(job['archive']['size'])}" if job.get("archive") else ""
            self.say(f"{job['filesCompleted']} of {count(job['totalFiles'], 'file')} packed{took}{size}")
        super().ended(job, missing)

    def saved(self, path: str, size: int, compared: int | None) -> None:
        """Say where it is."""
        verified = "" if compared is None else f", {count(compared, 'file')} compared"
        self.say(f"saved {printable(path)} ({amount(size)}{verified})")


class JsonLines:
    """One JSON object per line, its kind in `event`; texts are ASCII, so that no terminal takes harm."""

    def __init__(self) -> None:
        self._told: set[int] = set()
        self._figures: dict[str, Any] = {}
        self._saving_at = 0.0

    def put(self, event: str, **more: Any) -> None:
        """Print an object."""
        result(json.dumps({"event": event, **more}, separators=(",", ":")))

    def started(self, job_id: str, total: int, *, again: bool) -> None:
        """The first object of a job."""
        self.put("started", jobId=job_id, totalFiles=total, again=again)

    def posted(self, job_id: str, total: int) -> None:
        """The only object of a job that is left to itself."""
        self.started(job_id, total, again=False)

    def update(self, heard: Following) -> None:
        """The files that have ended since, each once, then the job."""
        for file in heard.changed:
            if file["status"] in ENDED_FILES and file["index"] not in self._told:
                self._told.add(file["index"])
                keys = ("index", "fileId", "name", "status", "size", "sha256", "error")
                self.put("file", **{key: file.get(key) for key in keys})
        if heard.job and not heard.ended and (figures := _figures(heard.job)) != self._figures:
            self._figures = figures
            self.put("progress", **figures)

    def notice(self, text: str) -> None:
        """What is no progress."""
        self.put("notice", message=text)

    def saving(self, received: int, size: int) -> None:
        """How much of the archive is here, once a second at most."""
        if received == size or time.monotonic() - self._saving_at >= 1:
            self._saving_at = time.monotonic()
            self.put("saving", received=received, size=size)

    def ended(self, job: dict[str, Any], missing: list[dict[str, Any]]) -> None:
        """The job's end: `completed`, `failed` or `cancelled`."""
        del missing  # each was a `file` event
        keys = ("error", "errorCode", "archive", "downloadUrl", "expiresAt", "processingTimeMs")
        self.put(job["status"], **_figures(job), **{key: job.get(key) for key in keys})

    def saved(self, path: str, size: int, compared: int | None) -> None:
        """Where the archive is."""
        self.put("saved", path=path, size=size, compared=compared)

    def link(self, url: str) -> None:
        """Nothing: the end of the job names it."""

    def failed(self, error: DownloaderError, exit_code: int, lines: list[str]) -> None:
        """The last object of a command that failed."""
        self.put(
            "error", code=printable(error.code), message="; ".join(lines).removeprefix("error: "), exitCode=exit_code
        )


def _figures(job: dict[str, Any]) -> dict[str, Any]:
    keys = ("jobId", "status", "progress", "filesCompleted", "filesFailed", "totalFiles", "bytesFetched", "bytesTotal")
    return {key: job.get(key) for key in keys}


def ended_files(job: dict[str, Any]) -> int:
    """How many files have come to their end, good or not."""
    return int(job["filesCompleted"]) + int(job["filesFailed"])


def title(file: dict[str, Any]) -> str:
    """What a person knows a file by: its name in the archive, else its URL's, else its id."""
    return printable(file.get("name") or url_name(file.get("originalUrl") or "") or file["fileId"], 120)


def why_missing(file: dict[str, Any]) -> str:
    """The reason, and its code."""
    error = file.get("error") or {}
    return f"{printable(error.get('message', 'no reason is given'))} ({printable(error.get('code', 'unknown'))})"


def note_of(file: dict[str, Any]) -> str:
    """A file's size, or the code of why it is missing."""
    if file["status"] == "failed":
        return printable((file["error"] or {}).get("code", ""))
    return amount(file["size"] or 0)
