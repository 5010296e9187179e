"""A history in the order in which it is judged: by job, by follower, by attempt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from downloader.jobs import TERMINAL
from tests.chaos.history import (
    REPLAY,
    Answered,
    Asked,
    Broken,
    Entry,
    Fault,
    Figures,
    Joined,
    Left,
    Seen,
    Told,
    Verified,
)

# How long after a fault of Redis its consequences may still show: a call that hangs is given up after its own time,
# and a lease that could not be renewed lapses later still.
REDIS_AFTERMATH_S = 7.0
# A job that was claimed just before its replica was killed may not yet stand in that replica's log.
UNLOGGED_S = 1.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt as the stream shows it: from its first event to the event that ended it, in seconds."""

    number: int
    begin: float
    end: float
    released: bool
    ended_job: bool


@dataclass(slots=True)
class Story:
    """What happened, sorted."""

    asked: set[int] = field(default_factory=set)
    answers: list[Answered] = field(default_factory=list)
    ids: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    numbers: dict[str, int] = field(default_factory=dict)
    joined: list[Joined] = field(default_factory=list)
    told: dict[str, list[Told]] = field(default_factory=lambda: defaultdict(list))
    frames: dict[str, list[Seen]] = field(default_factory=lambda: defaultdict(list))
    streams: dict[tuple[str, int], list[Seen]] = field(default_factory=lambda: defaultdict(list))
    replays: dict[str, list[Seen]] = field(default_factory=dict)
    verified: dict[str, Verified] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)

    def attempts(self, job_id: str) -> list[Attempt]:
        """The attempts at a job, from the whole of its stream."""
        found: list[Attempt] = []
        begun: tuple[int, float] | None = None
        for frame in self.replays.get(job_id, []):
            figures = frame.figures
            if figures is None:
                continue
            if figures.status == "processing":
                if begun is None:
                    begun = (figures.attempt, event_s(frame.id))
            elif begun is not None:
                number, begin = begun
                ended = figures.status in TERMINAL
                found.append(Attempt(number, begin, event_s(frame.id), figures.attempt < number, ended))
                begun = None
        return found

    def excuse(self, job_id: str, attempt: Attempt) -> Fault | None:
        """A fault that may have cost this attempt its lease."""
        for fault in self.faults:
            if fault.target.startswith("replica"):
                named = job_id in fault.jobs or attempt.begin <= fault.at <= attempt.begin + UNLOGGED_S
                if fault.kind != "term" and named and attempt.begin - 0.1 <= fault.at <= attempt.end:
                    return fault
            elif "redis" in fault.target and _overlaps(fault, attempt):
                return fault
        return None


def _overlaps(fault: Fault, attempt: Attempt) -> bool:
    return fault.at <= attempt.end and fault.until + REDIS_AFTERMATH_S >= attempt.begin


def told(entries: Iterable[Entry]) -> Story:
    """Sort a history."""
    story = Story()
    for entry in entries:
        match entry:
            case Asked():
                story.asked.add(entry.number)
            case Answered():
                _sort_answer(story, entry)
            case Seen():
                _sort_frame(story, entry)
            case Told():
                story.told[entry.job_id].append(entry)
            case Verified():
                story.verified[entry.job_id] = entry
            case _:
                _sort_event(story, entry)
    return story


def _sort_answer(story: Story, entry: Answered) -> None:
    story.answers.append(entry)
    if entry.status == 202:
        story.ids[entry.number].add(entry.job_id)
        story.numbers[entry.job_id] = entry.number


def _sort_frame(story: Story, entry: Seen) -> None:
    if entry.follower == REPLAY:
        story.replays.setdefault(entry.job_id, []).append(entry)
    else:
        story.streams[entry.job_id, entry.follower].append(entry)
        story.frames[entry.job_id].append(entry)


def _sort_event(story: Story, entry: Joined | Fault | Left | Broken) -> None:
    match entry:
        case Joined():
            story.joined.append(entry)
        case Fault():
            story.faults.append(entry)
        case Left():
            story.left.append(entry)
        case Broken():
            story.broken.append(entry)


def order(event_id: str) -> tuple[int, int]:
    """An event's place in time: milliseconds and a number within them."""
    ms, _, number = event_id.partition("-")
    return int(ms), int(number)


def event_s(event_id: str) -> float:
    """When an event happened, in seconds since the epoch."""
    return order(event_id)[0] / 1000


def is_end(frame: Seen) -> bool:
    """Whether a frame says that its job has ended."""
    return frame.figures is not None and frame.figures.status in TERMINAL


def is_nowhere(figures: Figures | None) -> bool:
    """Whether a frame says that there is no such job."""
    return figures is not None and figures.status == "not_found"
