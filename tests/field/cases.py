"""All cases, in order."""

from __future__ import annotations

from tests.field import (
    addresses,
    archives,
    bodies,
    calls,
    connections,
    contents,
    framing,
    further,
    jobs,
    names,
    naming,
    redirects,
    resuming,
    statuses,
    store,
)
from tests.field.case import Case

_MODULES = (
    archives,
    names,
    bodies,
    resuming,
    redirects,
    statuses,
    connections,
    contents,
    addresses,
    store,
    jobs,
    framing,
    further,
    naming,
    calls,
)
CASES: tuple[Case, ...] = tuple(
    sorted((case for module in _MODULES for case in module.CASES), key=lambda case: case.id)
)


def chosen(only: str) -> list[Case]:
    """The cases that begin with one of these words; all if there are none."""
    words = tuple(word.strip().upper() for word in only.split(",") if word.strip())
    return [case for case in CASES if not words or case.id.startswith(words)]
