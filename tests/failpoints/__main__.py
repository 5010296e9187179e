"""Runs the matrix: `python -m tests.failpoints`. Exit code 1 when a rule was broken, 130 when it was interrupted."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from contextlib import suppress

from tests.failpoints.matrix import Plan, Report, perform
from tests.failpoints.shapes import SHAPES
from tests.failpoints.stage import staged
from tests.servers import S3, Redis, start_valkey, start_weed

INTERRUPTED = 130


def main() -> int:
    """Read the flags, put up the neighbours, run, and say what came of it."""
    plan, show = _plan()
    report = Report()
    through = False
    with start_valkey() as redis, start_weed() as s3, suppress(asyncio.CancelledError):
        asyncio.run(_main(plan, redis, s3, report, show=show))
        through = True
    if show == "unreached":
        print("\n".join(report.unreached))
    if show != "points":
        print(report.summary)
    if report.failed:
        return 1
    return 0 if through else INTERRUPTED


async def _main(plan: Plan, redis: Redis, s3: S3, report: Report, *, show: str) -> None:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background jobs ignore the first
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    async with staged(redis, s3) as stage:
        if show == "points":
            print("\n".join(stage.points))
        else:
            await perform(stage, plan, lambda line: print(line, flush=True), report)


def _plan() -> tuple[Plan, str]:
    parser = argparse.ArgumentParser(prog="python -m tests.failpoints", description=__doc__)
    parser.add_argument("--workers", type=int, default=3, help="runs side by side (3)")
    shapes = ", ".join(f"{number}: {shape.story}" for number, shape in SHAPES.items())
    parser.add_argument("--shapes", default="", help=f"numbers with commas between ({shapes})")
    parser.add_argument("--points", default="", help="only points whose name this regular expression finds")
    parser.add_argument("--hits", choices=("first", "last", "both"), default="first", help="which hit kills (first)")
    parser.add_argument("--sample", type=int, help="so many of them, picked by --seed")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another sample (0)")
    parser.add_argument(
        "--list",
        choices=("points", "unreached"),
        default="",
        help="print all points and leave, or, after the runs, the sites that no shape comes by",
    )
    given = parser.parse_args()
    numbers = tuple(int(number) for number in given.shapes.split(",") if number) or tuple(SHAPES)
    plan = Plan(numbers, given.points, given.hits, given.sample, given.seed, given.workers)
    return plan, given.list


if __name__ == "__main__":
    sys.exit(main())
