"""The table: `python -m tests.field [--only B09,C] [--slow]`; status 1 if anything is WRONG."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time

from tests.field import cases
from tests.field.bench import Bench, bench
from tests.field.case import Case, Row
from tests.servers import start_valkey, start_weed

AT_ONCE = 9
# They wait or start services, so they go first.
LONG = ("E07", "D01", "B19", "C07", "D05", "B02", "E12", "E09", "D04", "C01.2", "D09", "E05", "B24", "B26.2")


def main() -> int:
    """Run what is asked for and print it."""
    parser = argparse.ArgumentParser(prog="python -m tests.field", description=__doc__)
    parser.add_argument("--only", default="", help="cases or groups, as in B09,C")
    parser.add_argument("--slow", action="store_true", help="the slow stories instead of the others")
    parser.add_argument("--wrong", action="store_true", help="print only what is WRONG")
    asked = parser.parse_args()
    logging.disable()  # the neighbours complain of the connections that the stories break
    chosen = cases.chosen(asked.only)
    begun = time.monotonic()
    with start_valkey() as valkey, start_weed() as s3, bench(valkey, s3) as (made, loop):
        found = loop.run(run(made, chosen, slow=asked.slow), 3600)
    rows = [row for _, several, _ in found for row in several]
    for case, several, took_s in found:
        _show(case, [row for row in several if not (asked.wrong and row.right)], took_s)
    wrong = sum(not row.right for row in rows)
    absent = sum(row.absent for row in rows)
    print(
        f"\n{len(found)} cases, {len(rows)} situations: {len(rows) - wrong - absent} right, {wrong} WRONG, "
        f"{absent} not tried here; {time.monotonic() - begun:.0f} s"
    )
    return 1 if wrong else 0


async def run(made: Bench, chosen: list[Case], *, slow: bool) -> list[tuple[Case, list[Row], float]]:
    """All at once, as far as they do not disturb each other; gives rows and seconds."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(case: Case) -> tuple[Case, list[Row], float]:
        async with gate:
            begun = time.monotonic()
            rows = await case.run(made, slow=slow)
            return case, rows, time.monotonic() - begun

    together = [case for case in chosen if not (case.alone or slow)]
    together.sort(key=lambda case: (case.id not in LONG, case.id[1:], case.id))  # the groups take turns
    await asyncio.gather(made.service(), made.service("store"))
    found = await asyncio.gather(*map(one, together))
    found += [await one(case) for case in chosen if case not in together]
    return sorted(((case, rows, took_s) for case, rows, took_s in found if rows), key=lambda each: each[0].id)


def _show(case: Case, rows: list[Row], took_s: float) -> None:
    if rows:
        print(f"\n{case.id}  {case.title}  ({took_s:.1f} s)")
    for row in rows:
        verdict = "-" if row.absent else "right" if row.right else "WRONG"
        got = row.got[:60] if row.right else row.got
        print(f"  {verdict:5}  {row.what[:64]:64}  {row.expected[:44]:44}  {got}")


if __name__ == "__main__":
    sys.exit(main())
