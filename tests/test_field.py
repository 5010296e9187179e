"""The field cases (`python -m tests.field`): all that take seconds at once, those that take minutes one by one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.field.__main__ import run
from tests.field.bench import Bench, Loop, bench
from tests.field.case import Case, Row
from tests.field.cases import CASES
from tests.servers import S3, Redis

# What the product does otherwise than the collection asks for, by case and situation.
KNOWN_WRONG: dict[tuple[str, str], str] = {
    ("B30.2", "nothing where contentType says pdf"): "an empty file passes for any type that was asked for",
}


@pytest.fixture(scope="session")
def shared(valkey: Redis, s3: S3) -> Iterator[tuple[Bench, Loop]]:
    """The services of all cases, each started when first needed."""
    with bench(valkey, s3) as made:
        yield made


def _known(case: Case) -> Case:
    return case.without(what for number, what in KNOWN_WRONG if number == case.id)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_table_comes_out_right(shared: tuple[Bench, Loop]) -> None:
    """Every situation comes out as expected; the cases run side by side, as most of their time is spent waiting."""
    made, loop = shared
    found = loop.run(run(made, [_known(case) for case in CASES if not case.alone], slow=False), 290)
    _assert_all_right([(case.id, row) for case, rows, _ in found for row in rows])


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("case", [case for case in CASES if case.alone], ids=lambda case: case.id)
def test_what_is_measured_comes_out_right(case: Case, shared: tuple[Bench, Loop]) -> None:
    """The same for what must not be disturbed."""
    _assert_right(_known(case), shared)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "what"),
    [pytest.param(*key, marks=pytest.mark.xfail(reason=reason, strict=True)) for key, reason in KNOWN_WRONG.items()],
)
def test_known_to_be_wrong(number: str, what: str, shared: tuple[Bench, Loop]) -> None:
    """What does not come out as expected yet; the test fails when it does, so that the list stays true."""
    (case,) = (case for case in CASES if case.id == number)
    _assert_right(case.only(what), shared)


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
