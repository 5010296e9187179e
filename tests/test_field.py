"""The field cases (`python -m tests.field`): all that take seconds at once, those that take minutes one by one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.field.bench import Bench, Loop, bench
from tests.field.case import Case, Row
from tests.field.cases import CASES
from tests.servers import S3, Redis

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared(valkey: Redis, s3: S3) -> Iterator[tuple[Bench, Loop]]:
    """The services of all cases, each started when first needed."""
    with bench(valkey, s3) as made:
        yield made


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(300)
def test_the_table_comes_out_right() -> None:
    """Every situation comes out as expected, by the command that people type; in a process of its own.

    The sources of the table break connections in every way there is, and nobody is to hear of that but the service.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.field", "--wrong"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


@pytest.mark.deep
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", [case for case in CASES if case.slow], ids=lambda case: case.id)
def test_long_situations_come_out_right(case: Case, shared: tuple[Bench, Loop]) -> None:
    """The same for those that take long: gigabytes, seventy thousand files, a store that never gets better."""
    _assert_right(case, shared, slow=True)


def _assert_right(case: Case, shared: tuple[Bench, Loop], *, slow: bool = False) -> None:
    made, loop = shared
    _assert_all_right([(case.id, row) for row in loop.run(case.run(made, slow=slow), 880)])


def _assert_all_right(rows: list[tuple[str, Row]]) -> None:
    wrong = [f"{number} {row.what}: expected {row.expected}, got {row.got}" for number, row in rows if not row.right]
    assert not wrong, "\n".join(wrong)
