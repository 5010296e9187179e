"""Tries the contract: `python -m tests.contract --cases 2000`. Exit code 1 when an answer was not as documented."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys

from downloader.config import LogSettings
from downloader.logs import set_up
from tests.contract.trial import judge, target
from tests.servers import S3, Redis, start_valkey, start_weed

# About so many cases come of one example per call: in all phases together, beside those that are always the same.
CASES_PER_EXAMPLE = 25
ALWAYS = 500


def main() -> int:
    """Read the flags, put up the neighbours, run, and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.contract", description=__doc__)
    parser.add_argument("--cases", type=int, default=2000, help="how many cases there are to be at least (2000)")
    parser.add_argument("--seed", type=int, help="the seed that a run printed; any if none is given")
    parser.add_argument("--keys", action="store_true", help="have the service ask for a key")
    given = parser.parse_args()
    set_up(LogSettings(level="error"))
    with start_valkey() as redis, start_weed() as s3:
        return asyncio.run(_main(redis, s3, given))


async def _main(redis: Redis, s3: S3, given: argparse.Namespace) -> int:
    """Run until there were enough cases, each time with another seed; the first finding is the end."""
    seed, cases = given.seed if given.seed is not None else random.randrange(2**32), 0
    async with target(redis, s3, with_keys=given.keys) as service:
        while cases < given.cases:
            examples = max(5, (given.cases - cases - ALWAYS) // CASES_PER_EXAMPLE)
            verdict = await judge(service, examples, seed)
            cases += verdict.cases
            if not verdict.is_right:
                print(verdict.said)
                print(f"{cases} cases, {verdict.findings} findings; again with --seed {seed}")
                return 1
            seed += 1
    print(f"{cases} cases, 0 findings")
    return 0


if __name__ == "__main__":
    sys.exit(main())
