"""What the demo shows: live bars for a person at a terminal, else plain lines."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from downloader.demo.follow import Following

ENDS = {"done": ("ok", "green"), "failed": ("missing", "red")}
BAR_COLUMNS = 28


class View(Protocol):
    """Shows what has been heard of a job."""

    def update(self, heard: Following) -> None:
        """Show what is new."""


def say(text: str = "") -> None:
    """Print a line at once, also into a pipe."""
    print(text, flush=True)


def amount(size_bytes: int) -> str:
    """A number of bytes for people."""
    return decimal(size_bytes)


@contextmanager
def view(names: Sequence[str]) -> Iterator[View]:
    """A view of files of these names, by index; bars when standard output is a terminal and NO_COLOR is not set."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        yield Lines(names)
        return
    columns = (TextColumn("{task.description}"), BarColumn(BAR_COLUMNS), TextColumn("{task.fields[note]}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(), refresh_per_second=8) as progress:
        yield Bars(progress, names)


class Lines:
    """One line per file that has come to its end."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._told: set[int] = set()

    def update(self, heard: Following) -> None:
        """Print the files that have ended since."""
        for index, file in heard.files.items():
            if file["status"] in ENDS and index not in self._told:
                self._told.add(index)
                say(f"  {ENDS[file['status']][0]:8}{self._names[index]}  {_note(file)}")


class Bars:
    """A bar for each file, which pulses while it is fetched, and one for the whole job."""

    def __init__(self, progress: Progress, names: Sequence[str]) -> None:
        self._progress = progress
        self._rows = [self._row(escape(name)) for name in names]
        self._shown = ["pending"] * len(names)
        self._whole = progress.add_task("[bold]the whole job", total=100, note="")

    def update(self, heard: Following) -> None:
        """Move the bars of the files that changed, and the job's."""
        for index, file in heard.files.items():
            if file["status"] != self._shown[index]:
                self._shown[index] = file["status"]
                self._move(self._rows[index], file)
        if heard.job:
            done = heard.job["progress"]
            note = f"{done} %, {amount(heard.job['bytesFetched'])} fetched"
            self._progress.update(self._whole, completed=done, note=note)

    def _row(self, name: str) -> TaskID:
        return self._progress.add_task(name, total=1, start=False, note="waiting")

    def _move(self, row: TaskID, file: dict[str, Any]) -> None:
        if file["status"] not in ENDS:
            self._progress.start_task(row)
            self._progress.update(row, total=None, note=file["status"])
            return
        done = file["status"] == "done"
        self._progress.update(row, total=1, completed=int(done), note=f"[{ENDS[file['status']][1]}]{_note(file)}")
        self._progress.stop_task(row)


def _note(file: dict[str, Any]) -> str:
    """A file's size, or why it is missing."""
    if file["status"] == "failed":
        return str((file["error"] or {}).get("code", ""))
    return amount(file["size"] or 0)
