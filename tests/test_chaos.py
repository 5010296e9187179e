"""The chaos run in its short form, and its judge: a checker that lets a bad history pass would prove nothing."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.archives import judged
from tests.chaos.checker import check
from tests.chaos.history import (
    REPLAY,
    Answered,
    Asked,
    Broken,
    Entry,
    Fault,
    Figures,
    History,
    Joined,
    Left,
    Seen,
    Told,
    Verified,
)
from tests.chaos.leftovers import compared
from tests.chaos.plan import Plan
from tests.chaos.replicas import ReplicaLog
from tests.chaos.report import listed, shortfalls, table, takeovers
from tests.chaos.run import Outcome, perform
from tests.chaos.story import told
from tests.chaos.workload import FileSpec, JobSpec, Kind, Workload

JOB = "4b5e7c1e-0000-4000-8000-000000000000"
OUTCOME = Outcome(posted=1, kills=1, redis_kills=0, reconnects=1, duration_s=1.0, timed_out=False)


def file(index: int, kind: Kind = Kind.PLAIN) -> FileSpec:
    return FileSpec(0, index, f"seed-{index}", 100 + index, kind, text=False, pause_s=0.0, checked=False)


SPEC = JobSpec(0, (file(0), file(1, Kind.GONE)), on_error="skip", manifest=False)
GOOD = SPEC.files[0]


def spec_of(_number: int) -> JobSpec:
    return SPEC


def figures(status: str, attempt: int, done: int = 0, failed: int = 0, progress: int = 0) -> Figures:
    return Figures(status, progress, done, failed, 2, 100 * done, attempt)


# A job whose first attempt was killed with its replica; the stream as the server has it.
STREAM: tuple[tuple[str, str, Figures | None], ...] = (
    ("1000-0", "progress", figures("queued", 0)),
    ("2000-0", "progress", figures("processing", 1)),
    ("3000-0", "files", None),
    ("3000-1", "progress", figures("processing", 1, done=1, progress=49)),
    ("6000-0", "progress", figures("queued", 1, done=1, progress=49)),
    ("7000-0", "progress", figures("processing", 2)),
    ("8000-0", "files", None),
    ("8000-1", "progress", figures("processing", 2, done=1, failed=1, progress=99)),
    ("9000-0", "complete", figures("completed", 2, done=1, failed=1, progress=100)),
)


def seen(follower: int, *ids: str) -> list[Entry]:
    """The frames with these ids, all when none is given, as a follower saw them."""
    return [
        Seen(0.0, JOB, follower, event, event_id, snapshot, "" if snapshot else event_id)
        for event_id, event, snapshot in STREAM
        if not ids or event_id in ids
    ]


def result(at: float = 10.0, replica: int = 0) -> Told:
    files = (("0/0.bin", "done", "", GOOD.sha256), ("0/1.bin", "failed", "not_found", ""))
    return Told(at, JOB, replica, "completed", "", "etag", 222, 2, 1, 1, files)


def history() -> list[Entry]:
    """A history with a kill in it, in which everything went as it must."""
    return [
        Asked(0.5, 0, 0),
        Answered(0.6, 0, 0, 0, note="ServerDisconnectedError"),
        Asked(0.7, 0, 1),
        Answered(0.8, 0, 1, 202, JOB),
        Joined(0.9, JOB, 0, 1, "", 200),
        *seen(0, "1000-0", "2000-0", "3000-0", "3000-1"),
        Fault(3.5, 3.6, "kill", "replica 1", (JOB,)),
        Joined(3.7, JOB, 0, 0, "3000-1", 200),
        *seen(0, "7000-0", "8000-0", "9000-0"),
        *seen(1, "7000-0", "8000-0", "8000-1", "9000-0"),
        result(),
        Verified(11.0, JOB, 222, 2, ()),
        result(12.0, replica=1),
        *seen(REPLAY)[1:],
        Left(13.0, "multipart uploads", ()),
    ]


def test_a_good_history_passes() -> None:
    """A kill, a lost answer and a reconnect that leaves out older snapshots break no rule."""
    assert check(history(), spec_of) == []


def test_figures_tell_of_attempts_and_takeovers() -> None:
    """The table can be made, and the time from a kill to the next attempt is told from the stream."""
    story = told(history())
    assert [(a.number, a.begin, a.end, a.ended_job) for a in story.attempts(JOB)] == [
        (1, 2.0, 6.0, False),
        (2, 7.0, 9.0, True),
    ]
    assert takeovers(story) == [(2.5, 3.5)]
    text = table(history(), [], OUTCOME)
    assert "jobs accepted" in text
    assert "kill replica: 1" in text


def without(kind: type[Entry], where: Callable[[object], bool] = lambda _: True) -> list[Entry]:
    return [entry for entry in history() if not (isinstance(entry, kind) and where(entry))]


def with_(*more: Entry) -> list[Entry]:
    return [*history(), *more]


def changed(event_id: str, follower: int, **values: object) -> list[Entry]:
    """The history with one follower's frame changed."""
    return [
        replace(entry, **values)  # type: ignore[arg-type]
        if isinstance(entry, Seen) and (entry.id, entry.follower) == (event_id, follower)
        else entry
        for entry in history()
    ]


def last_files(*files: tuple[str, str, str, str]) -> list[Entry]:
    return [replace(entry, files=files) if isinstance(entry, Told) else entry for entry in history()]


BAD: dict[str, tuple[str, list[Entry]]] = {
    "a job that never ended": ("lost", without(Told)),
    "a job that nobody accepted": ("lost", with_(Asked(1.0, 1, 0), Answered(1.1, 1, 0, 0))),
    "an honest request refused": ("answer", with_(Answered(1.0, 0, 0, 500, note="internal"))),
    "two jobs under one key": (
        "double",
        with_(Answered(1.0, 0, 0, 202, "another"), replace(result(), job_id="another")),
    ),
    "two archives of one job": ("double", with_(replace(result(14.0), etag="another"))),
    "a state that changed after the end": ("double", with_(replace(result(14.0), state="failed", etag=""))),
    "two ends in the stream": (
        "double",
        with_(Seen(0.0, JOB, REPLAY, "complete", "9500-0", figures("completed", 2, 1, 1, 100))),
    ),
    "an end that the status does not tell": (
        "double",
        changed("9000-0", REPLAY, figures=figures("failed", 2, 1, 1)),
    ),
    "an archive with wrong bytes": (
        "wrong",
        [*without(Verified), Verified(11.0, JOB, 9, 2, ("wrong bytes: 0/0.bin",))],
    ),
    "an archive nobody could have": ("wrong", without(Verified)),
    "a failed job that had good files": (
        "wrong",
        [replace(entry, state="failed") if isinstance(entry, Told) else entry for entry in history()],
    ),
    "a bad file called good": (
        "wrong",
        last_files(("0/0.bin", "done", "", GOOD.sha256), ("0/1.bin", "done", "", "x")),
    ),
    "a good file called bad": (
        "wrong",
        last_files(("0/0.bin", "failed", "timeout", ""), ("0/1.bin", "failed", "not_found", "")),
    ),
    "another file's digest": (
        "wrong",
        last_files(("0/0.bin", "done", "", file(5).sha256), ("0/1.bin", "failed", "not_found", "")),
    ),
    "a job given up after one kill": (
        "worker_lost",
        [
            replace(entry, state="failed", error_code="worker_lost") if isinstance(entry, Told) else entry
            for entry in history()
        ],
    ),
    "an event twice": ("stream", with_(*seen(0, "9000-0"))),
    "an event out of order": ("stream", with_(*seen(2, "3000-0"), *seen(2, "2000-0"), *seen(2, "9000-0"))),
    "a stream without an end": ("stream", with_(*seen(2, "2000-0"))),
    "an event after the end": ("stream", with_(*seen(2, "9000-0"), Seen(0.0, JOB, 2, "files", "9001-0"))),
    "a stream reset though its id was known": ("stream", with_(Seen(5.0, JOB, 2, "reset", ""), *seen(2, "9000-0"))),
    "a job that was not found": (
        "stream",
        with_(Seen(5.0, JOB, 2, "error", "0-0", figures("not_found", 0)), *seen(2, "9000-0")),
    ),
    "a stream that could not be read again": ("stream", without(Seen, lambda e: getattr(e, "follower", 0) == REPLAY)),
    "a batch of files left out": ("gap", with_(*seen(2, "7000-0", "9000-0"))),
    "an event that is not in the stream": (
        "gap",
        with_(Seen(5.0, JOB, 2, "files", "7500-0"), *seen(2, "8000-0", "9000-0")),
    ),
    "an event with other content than before": ("gap", changed("7000-0", 1, figures=figures("processing", 2, done=1))),
    "a counter that fell within an attempt": (
        "counters",
        changed("3000-1", REPLAY, figures=figures("processing", 1, done=-1)),
    ),
    "an attempt that fell": ("counters", changed("7000-0", REPLAY, figures=figures("processing", 1))),
    "an attempt counted twice": ("counters", changed("7000-0", REPLAY, figures=figures("processing", 3))),
    "a job worked on that was never claimed": ("counters", changed("7000-0", REPLAY, figures=figures("completed", 1))),
    "a complete job at 99 percent": (
        "counters",
        changed("9000-0", REPLAY, figures=figures("completed", 2, done=1, failed=1, progress=99)),
    ),
    "an upload left behind": ("leftover", with_(Left(14.0, "multipart uploads", ("a", "b")))),
    "a replica that died": ("broken", with_(Broken(5.0, "replica 0 died by itself with 1"))),
}


@pytest.mark.parametrize("story", BAD, ids=lambda story: story.replace(" ", "-"))
def test_a_bad_history_is_caught(story: str) -> None:
    """Each of these histories breaks at least the rule that is meant for it."""
    rule, entries = BAD[story]
    found = check(entries, spec_of)
    assert rule in {violation.rule for violation in found}, found
    assert listed(found)


def test_a_released_attempt_is_not_charged() -> None:
    """A replica that stops gives the job back: its attempt is taken back, and that is no fall of a counter."""
    entries = changed("6000-0", REPLAY, figures=figures("queued", 0, done=1, progress=49))
    again = [
        replace(entry, figures=replace(entry.figures, attempt=1))
        if isinstance(entry, Seen) and entry.figures is not None and int(entry.id.partition("-")[0]) >= 7000
        else entry
        for entry in entries
    ]
    assert check(again, spec_of) == []
    assert [attempt.released for attempt in told(again).attempts(JOB)] == [True, False]


def lost_by_worker(kills: int) -> list[Entry]:
    """A job that was given up after three attempts, so many of which were killed."""
    frames = [
        (f"{n}000-0", figures(status, n // 2))
        for n, status in ((2, "processing"), (3, "queued"), (4, "processing"), (5, "queued"), (6, "processing"))
    ] + [("7000-0", figures("failed", 3))]
    stream = [("error" if f.status == "failed" else "progress", event_id, f) for event_id, f in frames]
    entries: list[Entry] = [Asked(0.0, 0, 0), Answered(0.1, 0, 0, 202, JOB)]
    for follower in (0, REPLAY):
        entries += [Seen(0.0, JOB, follower, event, event_id, f) for event, event_id, f in stream]
    entries += [Fault(2.5 + 2 * n, 2.6 + 2 * n, "kill", "replica 0", (JOB,)) for n in range(kills)]
    return [*entries, Told(8.0, JOB, 0, "failed", "worker_lost", "", 0, 0, 0, 0)]


def test_a_job_may_be_given_up_after_three_kills_only() -> None:
    """`worker_lost` needs three attempts that were cut off by us; two are too few."""
    assert check(lost_by_worker(3), spec_of) == []
    assert [violation.rule for violation in check(lost_by_worker(2), spec_of)] == ["worker_lost"]


def archive(*entries: tuple[str, bytes]) -> bytes:
    with io.BytesIO() as buffer:
        with zipfile.ZipFile(buffer, "w") as made:
            for name, data in entries:
                made.writestr(name, data)
        return buffer.getvalue()


def test_an_archive_is_compared_with_its_sources() -> None:
    """The good file and the report of what is missing may be in it, byte for byte, and nothing else."""
    whole = archive((GOOD.name, GOOD.content), ("MISSING-FILES.txt", b"one"))
    assert judged(SPEC, whole) == []
    assert judged(SPEC, archive()) == [f"missing: {GOOD.name}"]
    assert judged(SPEC, archive((GOOD.name, GOOD.content[:-1] + b"?"))) == [f"wrong bytes: {GOOD.name}"]
    swapped = archive((GOOD.name, GOOD.content), (SPEC.files[1].name, b"page not found"))
    assert judged(SPEC, swapped) == [f"must not be in it: {SPEC.files[1].name}"]
    assert judged(SPEC, whole[: len(whole) // 2])[0].startswith("does not open")
    torn = bytearray(whole)
    torn[len(GOOD.name) + 40] ^= 1
    assert judged(SPEC, bytes(torn))[0].startswith("does not open")


def test_the_bucket_is_compared_with_the_visible_archives() -> None:
    """One object for each archive, as it is described: a second one, a stranger or another content is told."""
    archives = {"a": (1, "x"), "b": (2, "y")}
    objects = [(1, "x", "a/1-0.zip"), (2, "y", "b/1-0.zip")]
    assert not any(compared(archives, objects).values())
    twice = compared(archives, [*objects, (2, "y", "b/2-0.zip")])
    assert [line.partition(" ")[0] for line in twice["objects besides the archives"]] == ["b/1-0.zip", "b/2-0.zip"]
    assert compared(archives, [*objects, (1, "z", ".probe/1")])["objects besides the archives"]
    assert compared(archives, [objects[0], (2, "z", "b/1-0.zip")])["archives without object"]


def test_the_workload_follows_from_its_seed() -> None:
    """The same seed gives the same jobs; some are large, some files bad, and a bad file is never its own content."""
    first, again, other = Workload(1), Workload(1), Workload(2)
    numbers: Sequence[int] = range(200)
    assert [first.job(n) for n in numbers] == [again.job(n) for n in numbers]
    assert first.job(0) != other.job(0)
    files = [file for n in numbers for file in first.job(n).files]
    assert {file.kind for file in files} == set(Kind)
    assert max(sum(file.size for file in first.job(n).files) for n in numbers) > 10 * 1024 * 1024
    assert min(file.size for file in files) == 0
    assert {first.job(n).completes for n in numbers} == {True, False}


def test_a_replica_log_tells_of_running_jobs_and_faults(tmp_path: Path) -> None:
    """Jobs that began and did not end are running; errors and tracebacks are faults; a half line waits."""
    log = ReplicaLog(tmp_path / "log.jsonl")
    log.read()
    log.path.write_text(
        '{"event": "job.started", "job_id": "a", "level": "info"}\n'
        '{"event": "job.started", "job_id": "b", "level": "info"}\n'
        '{"event": "job.completed", "job_id": "a", "level": "info"}\n'
        "Traceback (most recent call last):\n"
        '{"event": "service.died", "level": "critical"}\n'
        '{"event": "job.completed", "job_id": "b"'
    )
    log.read()
    assert log.running == {"b"}
    assert len(log.faults) == 2
    with log.path.open("a") as file:
        file.write(', "level": "info"}\n')
    log.read()
    assert log.running == set()


def test_what_was_not_reached_is_said() -> None:
    """A run that made too few kills in its time does not pass for a good one."""
    plan = Plan(jobs=2, kills=1, redis_kills=1)
    short = replace(OUTCOME, timed_out=True)
    assert [line.partition(":")[0] for line in shortfalls(plan, short)][:2] == ["jobs", "SIGKILLs of Valkey"]
    assert len(shortfalls(plan, short)) == 3
    assert shortfalls(Plan(jobs=1, kills=1, redis_kills=0), OUTCOME) == []


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(400)
async def test_a_short_run_breaks_no_rule() -> None:
    """Some 120 jobs, ten SIGKILLs of replicas, two of Valkey and all other faults: nothing is lost, double or left."""
    plan = Plan(limit_s=300, jobs=120, kills=10, redis_kills=2, seed=7, busy_s=45)
    log = History()
    outcome = await perform(plan, log, print)
    violations = check(log.entries, Workload(plan.seed).job)
    print(f"seed {plan.seed}\n{table(log.entries, violations, outcome)}")
    assert [*listed(violations), *shortfalls(plan, outcome)] == []
