"""Live bars: one for each file that is being fetched, as many as fit, and one for the whole job."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from downloader.client.printing import Terminal
from downloader.client.stream import Following
from downloader.client.text import amount, count, duration
from downloader.client.views import Lines, ended_files, note_of, title
from downloader.errors import DownloaderError

ROWS_MAX = 12
# What stands below the rows of files: the whole job, the archive that is saved, and the prompt.
ROWS_FREE = 5
NARROW_COLUMNS = 70
WINDOW_S = 8.0
PER_SECOND = 8
# The places of rows, from above.
FILES, WHOLE, ARCHIVE = range(3)


@contextmanager
def bars(to: TextIO) -> Iterator[Bars]:
    """Bars on the terminal `to` for as long as the block runs; the last ones stay, and below them what came of it."""
    console = Console(file=cast("TextIO", Terminal(to)), highlight=False, soft_wrap=False)
    narrow = console.width < NARROW_COLUMNS
    columns: tuple[ProgressColumn, ...] = (
        _Name(table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis", min_width=8)),
        BarColumn(10 if narrow else 24),
        TextColumn("{task.fields[note]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
    )
    with _Board(
        *columns, console=console, expand=True, refresh_per_second=PER_SECOND, redirect_stdout=False
    ) as progress:
        shown = Bars(to, progress, narrow=narrow)
        yield shown
    for line in shown.last:
        console.print(Text(line), soft_wrap=True)


class _Board(Progress):
    """Bars in their order: files, the whole job, the archive."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """One table of all rows."""
        yield self.make_tasks_table(sorted(self.tasks, key=lambda task: task.fields["place"]))


class _Name(ProgressColumn):
    """What a row is about; never read as markup."""

    def render(self, task: Task) -> Text:
        """The row's text, the whole job's in bold."""
        return Text(task.description, style="bold" if task.fields["place"] == WHOLE else "")


class Pace:
    """How fast a number grows, over the last few seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque()

    def per_second(self, value: float) -> float:
        """Take in the value of now; the rate, 0 while it is not known."""
        now = time.monotonic()
        if self._seen and value < self._seen[-1][1]:  # another attempt began anew
            self._seen.clear()
        self._seen.append((now, value))
        while len(self._seen) > 2 and now - self._seen[0][0] > WINDOW_S:
            self._seen.popleft()
        first, before = self._seen[0]
        return (value - before) / (now - first) if now - first > 0.5 else 0.0


class Bars(Lines):
    """A bar for each file on its way; files that are missing leave a line above, the others nothing."""

    def __init__(self, to: TextIO, progress: Progress, *, narrow: bool) -> None:
        super().__init__(to)
        self.last: list[str] = []
        self._is_over = False
        self._progress = progress
        self._narrow = narrow
        self._rows: dict[int, TaskID] = {}
        self._whole: TaskID | None = None
        self._archive: TaskID | None = None
        self._bytes, self._percent, self._received = Pace(), Pace(), Pace()

    def say(self, text: str) -> None:
        """Print a line above the bars; what is said once the job has ended comes below them."""
        if self._is_over:
            self.last.append(text)
        else:
            self.notice(text)

    def notice(self, text: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(Text(text), soft_wrap=True)

    def posted(self, job_id: str, total: int) -> None:
        """Print its id where no bars are."""
        self._progress.stop()
        super().posted(job_id, total)

    def link(self, url: str) -> None:
        """Print it below the bars: standard output may be the same terminal."""
        self._progress.stop()
        super().link(url)

    def ended(self, job: dict[str, Any], missing: list[dict[str, Any]]) -> None:
        """Keep what the job made for the end."""
        self._is_over = True
        super().ended(job, missing)

    def failed(self, error: DownloaderError, exit_code: int, lines: list[str]) -> None:
        """Keep it for the end."""
        self._is_over = True
        super().failed(error, exit_code, lines)

    def update(self, heard: Following) -> None:
        """Move the bars of the files that changed, and the job's."""
        for file in heard.changed:
            self._file(file)
        if heard.job:
            self._job(heard.job)
        for arriving in heard.job.get("fetching") or ():
            if arriving["index"] not in self._rows and arriving["index"] in heard.files:
                self._file(heard.files[arriving["index"]])  # when it began, all rows were taken
            self._arrives(arriving["index"], arriving["bytesFetched"])
        if heard.ended:
            for row in self._rows.values():
                self._progress.remove_task(row)
            self._rows.clear()

    def _file(self, file: dict[str, Any]) -> None:
        index, status = file["index"], file["status"]
        if status == "fetching":
            self._row(index, title(file), file["size"])
        elif (row := self._rows.pop(index, None)) is not None:
            self._progress.remove_task(row)
        if status == "failed" and index not in self._told:
            self._told.add(index)
            if len(self._told) <= ROWS_MAX:
                self.say(f"  missing {title(file)}  {note_of(file)}")

    def _row(self, index: int, name: str, size: int | None) -> None:
        note = amount(size) if size else ""
        if index in self._rows:
            self._progress.update(self._rows[index], description=name, total=size, note=note)
        elif len(self._rows) < min(ROWS_MAX, max(1, self._progress.console.height - ROWS_FREE)):
            self._rows[index] = self._progress.add_task(name, total=size, note=note, place=FILES)

    def _arrives(self, index: int, received: int) -> None:
        if (row := self._rows.get(index)) is None:
            return
        size = self._progress.tasks[self._progress.task_ids.index(row)].total
        note = f"{amount(received)} of {amount(int(size))}" if size else amount(received)
        self._progress.update(row, completed=received, note=note)

    def _job(self, job: dict[str, Any]) -> None:
        done = job["progress"]
        files = f"{ended_files(job)} of {count(job['totalFiles'], 'file')}"
        if self._whole is None:
            self._whole = self._progress.add_task(files, total=100, note="", place=WHOLE)
        self._progress.update(self._whole, completed=done, description=files, note=self._figures(job))

    def _figures(self, job: dict[str, Any]) -> str:
        if job["status"] == "queued":
            return "waiting for its turn"
        parts = [f"{job['progress']:3} %", amount(job["bytesFetched"])]
        speed, pace = self._bytes.per_second(job["bytesFetched"]), self._percent.per_second(job["progress"])
        if speed and not self._narrow and job["status"] == "processing":
            parts.append(f"{amount(round(speed))}/s")
            parts += [f"{duration((100 - job['progress']) / pace)} left"] if pace else []
        return "  ".join(parts)

    def saving(self, received: int, size: int) -> None:
        """Move the bar of the archive."""
        if self._archive is None:
            self._archive = self._progress.add_task("saving the archive", total=size, note="", place=ARCHIVE)
        speed = self._received.per_second(received)
        note = f"{amount(received)} of {amount(size)}"
        if speed and not self._narrow:
            note += f"  {amount(round(speed))}/s"
            note += f"  {duration((size - received) / speed)} left" if received < size else ""
        self._progress.update(self._archive, completed=received, note=note)
