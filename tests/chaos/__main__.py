"""Runs the chaos: `python -m tests.chaos`. Exit code 1 when a rule was broken or a number was not reached."""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import time
from contextlib import nullcontext
from pathlib import Path

from tests.chaos.checker import check
from tests.chaos.history import History
from tests.chaos.plan import Plan
from tests.chaos.report import listed, shortfalls, table
from tests.chaos.run import perform
from tests.chaos.workload import Workload


def main() -> int:
    """Read the flags, run, judge, and print what came of it."""
    plan, file = _given()
    # Whoever ends us must not leave replicas behind: end as by Ctrl-C, through all that closes them.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"seed {plan.seed}", flush=True)
    began = time.monotonic()
    with file.open("w", encoding="utf-8") if file else nullcontext() as lines:
        history = History(lines)
        outcome = asyncio.run(
            perform(plan, history, lambda line: print(f"{time.monotonic() - began:6.0f} s  {line}", flush=True))
        )
    violations = check(history.entries, Workload(plan.seed).job)
    missing = shortfalls(plan, outcome)
    print(table(history.entries, violations, outcome))
    for line in listed(violations):
        print(f"VIOLATION {line}")
    for line in missing:
        print(f"NOT REACHED {line}")
    return 1 if violations or missing else 0


def _given() -> tuple[Plan, Path | None]:
    standard = Plan()
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=standard.limit_s / 60, help="time for all of it")
    parser.add_argument("--jobs", type=int, default=standard.jobs, help="at least so many jobs")
    parser.add_argument("--kills", type=int, default=standard.kills, help="SIGKILLs of replicas at work")
    parser.add_argument("--redis-kills", type=int, default=standard.redis_kills, help="SIGKILLs of Valkey")
    parser.add_argument("--replicas", type=int, default=standard.replicas, help="replicas of the service")
    parser.add_argument("--followers", type=int, default=standard.followers, help="event streams per job")
    parser.add_argument("--seed", type=int, help="the same jobs and faults again; random if not given")
    parser.add_argument("--history", type=Path, metavar="FILE", help="write all that happens as JSON lines")
    given = parser.parse_args()
    limit_s = given.minutes * 60
    plan = Plan(
        limit_s=limit_s,
        jobs=given.jobs,
        kills=given.kills,
        redis_kills=given.redis_kills,
        replicas=given.replicas,
        followers=given.followers,
        seed=random.randrange(1_000_000) if given.seed is None else given.seed,
        busy_s=limit_s * standard.busy_s / standard.limit_s,
    )
    return plan, given.history


if __name__ == "__main__":
    sys.exit(main())
