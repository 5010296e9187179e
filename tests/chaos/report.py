"""The figures of a run, as a table."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

from tests.chaos.checker import Violation
from tests.chaos.history import Entry
from tests.chaos.plan import Plan
from tests.chaos.run import Outcome
from tests.chaos.story import Story, event_s, told

LISTED_PER_RULE = 40


def shortfalls(plan: Plan, outcome: Outcome) -> list[str]:
    """What was planned and not reached."""
    wanted = {
        "jobs": (outcome.posted, plan.jobs),
        "SIGKILLs of replicas": (outcome.kills, plan.kills),
        "SIGKILLs of Valkey": (outcome.redis_kills, plan.redis_kills),
    }
    lines = [f"{what}: {had} of {planned}" for what, (had, planned) in wanted.items() if had < planned]
    return lines + (
        [f"the time for posting was over (all took {outcome.duration_s:.0f} s)"] if outcome.timed_out else []
    )


def listed(violations: Sequence[Violation]) -> list[str]:
    """The violations as lines; of each rule no more than can be read."""
    lines = []
    for rule, count in Counter(violation.rule for violation in violations).items():
        lines += [str(violation) for violation in violations if violation.rule == rule][:LISTED_PER_RULE]
        if count > LISTED_PER_RULE:
            lines.append(f"{rule}: and {count - LISTED_PER_RULE} more")
    return lines


def table(entries: Iterable[Entry], violations: Sequence[Violation], outcome: Outcome) -> str:
    """All figures, one a line."""
    story = told(entries)
    rows = [*_jobs(story), *_faults(story), *_judged(story, violations), *_streams(story, outcome), *_times(story)]
    rows.append(("duration", f"{outcome.duration_s:.0f} s"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _jobs(story: Story) -> list[tuple[str, str]]:
    last = [answers[-1] for answers in story.told.values() if answers]
    states = Counter(answer.state for answer in last)
    codes = Counter(answer.error_code for answer in last if answer.error_code)
    posts = Counter(answer.note or str(answer.status) for answer in story.answers)
    attempts = Counter(max((a.number for a in story.attempts(job_id)), default=0) for job_id in story.replays)
    released = sum(attempt.released for job_id in story.replays for attempt in story.attempts(job_id))
    return [
        ("jobs accepted", str(len(story.numbers))),
        ("posts by answer", _counted(posts)),
        ("jobs by state", _counted(states)),
        ("failed by code", _counted(codes)),
        ("attempts per job", _counted(attempts)),
        ("attempts released by a stopping replica", str(released)),
    ]


def _faults(story: Story) -> list[tuple[str, str]]:
    kinds = Counter(
        f"{fault.kind} {'replica' if 'replica' in fault.target else fault.target}" for fault in story.faults
    )
    hit = sum(len(fault.jobs) for fault in story.faults if fault.kind == "kill")
    return [("faults", _counted(kinds)), ("jobs under way when their replica was killed", str(hit))]


def _judged(story: Story, violations: Sequence[Violation]) -> list[tuple[str, str]]:
    rules = Counter(violation.rule for violation in violations)
    given_up = sum(answers[-1].error_code == "worker_lost" for answers in story.told.values() if answers)
    sound = [archive for archive in story.verified.values() if not archive.problems]
    size = sum(archive.size for archive in sound)
    return [
        ("lost", str(rules["lost"])),
        ("double", str(rules["double"])),
        ("wrong", str(rules["wrong"])),
        ("leftovers", str(rules["leftover"])),
        ("violations of streams", str(rules["stream"] + rules["gap"] + rules["counters"])),
        ("other violations", str(rules["answer"] + rules["broken"] + rules["worker_lost"])),
        ("given up as worker_lost", str(given_up)),
        ("lapsed attempts without a fault of ours", str(_unexplained(story))),
        ("archives verified byte for byte", f"{len(sound)} with {size / 1e6:.0f} MB"),
    ]


def _unexplained(story: Story) -> int:
    """Attempts cut off though we broke nothing near: a machine too busy to renew a lease, or tried again after S3."""
    return sum(
        not attempt.released and not attempt.ended_job and story.excuse(job_id, attempt) is None
        for job_id in story.replays
        for attempt in story.attempts(job_id)
    )


def _streams(story: Story, outcome: Outcome) -> list[tuple[str, str]]:
    frames = Counter(frame.event for frames in story.streams.values() for frame in frames)
    return [
        ("frames", _counted(frames)),
        ("connections by status", _counted(Counter(str(joined.status) for joined in story.joined))),
        ("reconnects", str(outcome.reconnects)),
        ("falls seen though no attempt rose", str(_falls(story))),
    ]


def _falls(story: Story) -> int:
    """How often a follower saw a counter fall while the attempt did not rise.

    An attempt that is given back uncharged has the next one's number, and a follower that was not sent the snapshot
    between the two cannot tell them apart.
    """
    return sum(
        after.attempt <= before.attempt and (after.done < before.done or after.progress < before.progress)
        for frames in story.streams.values()
        for before, after in pairwise([frame.figures for frame in frames if frame.figures is not None])
    )


def takeovers(story: Story) -> list[tuple[float, float]]:
    """For each SIGKILL and job it hit: seconds until the job was queued again, and until its next attempt began."""
    found = []
    for fault in story.faults:
        for job_id in fault.jobs if fault.kind == "kill" else ():
            attempts = story.attempts(job_id)
            for hit, following in pairwise(attempts):
                if hit.begin <= fault.at < hit.end:
                    found.append((hit.end - fault.at, following.begin - fault.at))
    return found


def _times(story: Story) -> list[tuple[str, str]]:
    times = takeovers(story)
    lives = [event_s(frames[-1].id) - event_s(frames[0].id) for frames in story.replays.values() if len(frames) > 1]
    return [
        ("from SIGKILL to being queued again", _spread([queued for queued, _ in times])),
        ("from SIGKILL to the next attempt", _spread([begun for _, begun in times])),
        ("from a job's first event to its end", _spread(lives)),
    ]


def _spread(times: Sequence[float]) -> str:
    if not times:
        return "none"
    return f"median {statistics.median(times):.1f} s, most {max(times):.1f} s, of {len(times)}"


def _counted(counter: Counter[str] | Counter[int]) -> str:
    return (
        ", ".join(f"{name}: {count}" for name, count in sorted(counter.items(), key=lambda item: str(item[0]))) or "-"
    )
