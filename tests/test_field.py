"""The field cases (`python -m tests.field`), one test for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.field.bench import Bench, Loop, bench
from tests.field.case import Case
from tests.field.cases import CASES
from tests.servers import S3, Redis

# What the product does otherwise than the collection asks for, by case and situation.
KNOWN_WRONG: dict[tuple[str, str], str] = {
    ("B03", "half of it without a length, RST"): "a reset is taken for the end of a body that has no length",
    ("B03", "it is told that this length was not verified"): "length_verified is known but shown nowhere",
}

# Ninety seconds for the whole table.
pytestmark = pytest.mark.deep


@pytest.fixture(scope="session")
def shared(valkey: Redis, s3: S3) -> Iterator[tuple[Bench, Loop]]:
    """The services of all cases, each started when first needed."""
    with bench(valkey, s3) as made:
        yield made


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_it_comes_out_right(case: Case, shared: tuple[Bench, Loop]) -> None:
    """Every situation of the case comes out as expected."""
    _assert_right(case.without(what for number, what in KNOWN_WRONG if number == case.id), shared)


@pytest.mark.parametrize(
    ("number", "what"),
    [pytest.param(*key, marks=pytest.mark.xfail(reason=reason, strict=True)) for key, reason in KNOWN_WRONG.items()],
)
def test_known_to_be_wrong(number: str, what: str, shared: tuple[Bench, Loop]) -> None:
    """What does not come out as expected yet; the test fails when it does, so that the list stays true."""
    (case,) = (case for case in CASES if case.id == number)
    _assert_right(case.only(what), shared)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", [case for case in CASES if case.slow], ids=lambda case: case.id)
def test_slow_situations_come_out_right(case: Case, shared: tuple[Bench, Loop]) -> None:
    """The same for those that take long."""
    _assert_right(case, shared, slow=True)


def _assert_right(case: Case, shared: tuple[Bench, Loop], *, slow: bool = False) -> None:
    made, loop = shared
    rows = loop.run(case.run(made, slow=slow), 880)
    wrong = [row for row in rows if not row.right]
    assert not wrong, "\n".join(f"{row.what}: expected {row.expected}, got {row.got}" for row in wrong)
