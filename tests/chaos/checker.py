"""The rules, after Jepsen's total-queue checker: pure functions on a history, each giving its violations.

What is accepted must end, once, with the right files; each stream must be a part of the job's own, in order and whole
where it may not be thinned out; and nothing may be left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.chaos.history import Entry, Figures, Seen, Told
from tests.chaos.story import Attempt, Story, is_end, is_nowhere, order, told
from tests.chaos.workload import JobSpec

JobOf = Callable[[int], JobSpec]
CRASHES = 3
# 0: no answer came; 503: Redis was away. All else is no honest answer to an honest request.
HONEST = frozenset({0, 202, 503})
MOVES = frozenset(
    {
        ("queued", "processing"),
        ("processing", "processing"),
        ("processing", "queued"),
        ("processing", "completed"),
        ("processing", "failed"),
    }
)


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken rule, and how."""

    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.text}"


def check(entries: Iterable[Entry], job_of: JobOf) -> list[Violation]:
    """All violations in a history; `job_of` gives what was asked for under a number."""
    story = told(entries)
    return [Violation(rule, text) for rule, find in _rules(job_of).items() for text in find(story)]


def _rules(job_of: JobOf) -> dict[str, Callable[[Story], Iterator[str]]]:
    return {
        "lost": _lost,
        "answer": _answers,
        "double": _double,
        "wrong": lambda story: _wrong(story, job_of),
        "worker_lost": _worker_lost,
        "stream": _streams,
        "gap": _gaps,
        "counters": _counters,
        "leftover": _leftovers,
        "broken": lambda story: (entry.what for entry in story.broken),
    }


# Jobs


def _lost(story: Story) -> Iterator[str]:
    for number in sorted(story.asked - story.ids.keys()):
        yield f"job {number} was never accepted"
    for job_id, number in story.numbers.items():
        if not story.told[job_id]:
            yield f"job {number} ({job_id}) was accepted and has not ended"


def _answers(story: Story) -> Iterator[str]:
    for answer in story.answers:
        if answer.status not in HONEST:
            yield f"job {answer.number}: {answer.status} {answer.note}"


def _double(story: Story) -> Iterator[str]:
    for number, ids in story.ids.items():
        if len(ids) > 1:
            yield f"job {number} was made {len(ids)} times under one key: {sorted(ids)}"
    for job_id, answers in story.told.items():
        results = {_result(answer) for answer in answers}
        if len(results) > 1:
            yield f"{job_id} has {len(results)} results: {sorted(map(str, results))}"
    for job_id in story.numbers:
        yield from _ends(story, job_id)


def _result(answer: Told) -> tuple[object, ...]:
    return (answer.state, answer.error_code, answer.etag, answer.size, answer.entries, answer.done, answer.failed)


def _ends(story: Story, job_id: str) -> Iterator[str]:
    """All who followed a job saw one and the same end, and it is the one that the status tells."""
    frames = [*story.replays.get(job_id, []), *story.frames[job_id]]
    ends = {(frame.id, frame.figures.status) for frame in frames if frame.figures and is_end(frame)}
    if len({event_id for event_id, _ in ends}) > 1:
        yield f"{job_id} ended {len(ends)} times: {sorted(ends)}"
    states = {answer.state for answer in story.told[job_id]}
    for event_id, state in sorted(ends):
        if states and state not in states:
            yield f"{job_id}: event {event_id} says {state}, the status {sorted(states)}"


def _wrong(story: Story, job_of: JobOf) -> Iterator[str]:
    for job_id, number in story.numbers.items():
        if not story.told[job_id]:
            continue
        answer, spec = story.told[job_id][-1], job_of(number)
        if answer.error_code == "worker_lost":
            continue
        if answer.state != ("completed" if spec.completes else "failed"):
            yield f"job {number} ({job_id}) is {answer.state} {answer.error_code}, its files {_shown(answer)}"
        else:
            for problem in [*_wrong_files(answer, spec), *_wrong_archive(story, answer)]:
                yield f"job {number} ({job_id}): {problem}"


def _shown(answer: Told) -> str:
    return ", ".join(f"{name}: {status} {code}" for name, status, code, _ in answer.files)


def _wrong_files(answer: Told, spec: JobSpec) -> Iterator[str]:
    """A bad file is never called good; of a finished job every good file is, with its digest."""
    if answer.state == "completed" and len(answer.files) != len(spec.files):
        yield f"{len(answer.files)} files are told of, {len(spec.files)} were asked for"
    for (name, status, code, sha256), file in zip(answer.files, spec.files, strict=False):
        if file.bad and status == "done":
            yield f"{name} ({file.kind}) must fail and is called done"
        elif answer.state == "completed" and file.bad and status != "failed":
            yield f"{name} ({file.kind}) must fail and is {status}"
        elif answer.state == "completed" and not file.bad and (status, sha256) != ("done", file.sha256):
            yield f"{name} ({file.kind}) is {status} {code} with sha256 {sha256}"


def _wrong_archive(story: Story, answer: Told) -> Iterator[str]:
    if answer.state != "completed":
        return
    verified = story.verified.get(answer.job_id)
    if verified is None:
        yield "its archive was never had"
    else:
        yield from (f"its archive: {problem}" for problem in verified.problems)


def _worker_lost(story: Story) -> Iterator[str]:
    """A job is given up only after three of its attempts were cut off, each by something that we did."""
    for job_id, number in story.numbers.items():
        if all(answer.error_code != "worker_lost" for answer in story.told[job_id]):
            continue
        attempts = story.attempts(job_id)
        cut = [attempt for attempt in attempts if not attempt.released]
        excused = [attempt for attempt in cut if story.excuse(job_id, attempt) is not None]
        unseen = _before_anybody_looked(story, attempts)
        if len(excused) + unseen < CRASHES:
            yield (
                f"job {number} ({job_id}) was given up; {unseen} attempts were over before anybody looked, "
                f"{len(cut)} more were cut off, {len(excused)} by us: {cut}"
            )


def _before_anybody_looked(story: Story, attempts: Sequence[Attempt]) -> int:
    """Attempts that were cut off by us before the first follower got through: a stream is read from there on only."""
    if not attempts or all(fault.at >= attempts[0].begin for fault in story.faults):
        return 0
    return attempts[0].number - 1


# Streams


def _streams(story: Story) -> Iterator[str]:
    for (job_id, follower), frames in story.streams.items():
        for problem in _stream(frames):
            yield f"{job_id}, follower {follower}: {problem}"
    for job_id in story.numbers:
        if story.told[job_id] and not any(is_end(frame) for frame in story.replays.get(job_id, [])):
            yield f"{job_id}: its whole stream could not be read"


def _stream(frames: Sequence[Seen]) -> Iterator[str]:
    """Ids rise over all connections of a follower; nothing is reset or not found; the end comes once, at the end."""
    for frame in frames:
        if frame.event == "reset":
            yield "was reset, though its id was known"
        elif is_nowhere(frame.figures):
            yield "was told that there is no such job"
    told_ids = [frame for frame in frames if frame.id and not is_nowhere(frame.figures)]
    for before, after in pairwise(told_ids):
        if order(after.id) <= order(before.id):
            yield f"{after.event} {after.id} came after {before.event} {before.id}"
    ends = [frame for frame in told_ids if is_end(frame)]
    if len(ends) != 1:
        yield f"saw the end {len(ends)} times"
    if ends and told_ids[-1] != ends[-1]:
        yield f"{told_ids[-1].event} {told_ids[-1].id} came after the end {ends[-1].id}"


def _gaps(story: Story) -> Iterator[str]:
    """What a follower saw stands in the job's own stream, with the same content.

    Of snapshots only the newest need be sent; batches of file changes all must be, from the first event seen on.
    """
    for (job_id, follower), frames in story.streams.items():
        whole = {frame.id: frame for frame in story.replays.get(job_id, [])}
        seen = {frame.id: frame for frame in frames if frame.id and not is_nowhere(frame.figures)}
        if not whole or not seen:
            continue
        # The whole stream is read behind the first event that anybody saw.
        replay_begin, begin = min(map(order, whole)), min(map(order, seen))
        who = f"{job_id}, follower {follower}"
        for event_id, frame in seen.items():
            if order(event_id) >= replay_begin and event_id not in whole:
                yield f"{who}: saw {frame.event} {event_id}, which is not in the job's stream"
            elif event_id in whole and _content(frame) != (now := _content(whole[event_id])):
                yield f"{who}: {event_id} was {_content(frame)}, now it is {now}"
        for event_id, frame in whole.items():
            if frame.event == "files" and order(event_id) > begin and event_id not in seen:
                yield f"{who}: missed files {event_id}"


def _content(frame: Seen) -> tuple[str, Figures | None, str]:
    return frame.event, frame.figures, frame.digest


def _counters(story: Story) -> Iterator[str]:
    """In the whole stream: only legal moves, and counters that fall only with a new attempt."""
    for job_id, frames in story.replays.items():
        states = [(frame.id, frame.figures) for frame in frames if frame.figures is not None]
        for (_, before), (event_id, after) in pairwise(states):
            for problem in _step(before, after):
                yield f"{job_id} at {event_id}: {problem}"
        last = states[-1][1] if states else None
        if last and last.status == "completed" and (last.progress, last.done + last.failed) != (100, last.total):
            yield f"{job_id} completed with {last}"


def _step(before: Figures, after: Figures) -> Iterator[str]:
    if (before.status, after.status) not in MOVES:
        yield f"went from {before.status} to {after.status}"
    expected = _attempts_after(before, after)
    if after.attempt not in expected:
        yield f"attempt {after.attempt} came after {before.attempt} ({before.status} -> {after.status})"
    if before.status == "processing" and after.attempt == before.attempt:
        for name in ("progress", "done", "failed", "bytes_fetched"):
            had, has = getattr(before, name), getattr(after, name)
            if has < had:
                yield f"{name} fell from {had} to {has} within attempt {after.attempt}"


def _attempts_after(before: Figures, after: Figures) -> tuple[int, ...]:
    """A claim raises the attempt; a release by a replica that stops takes it back uncharged; else it stays."""
    if after.status == "processing" and before.status == "queued":
        return (before.attempt + 1,)
    if after.status == "queued":
        return (before.attempt, before.attempt - 1)
    return (before.attempt,)


# The end


def _leftovers(story: Story) -> Iterator[str]:
    for left in story.left:
        if left.found:
            yield f"{left.what}: {len(left.found)}: {', '.join(left.found[:20])}"
