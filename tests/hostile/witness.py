"""An independent witness: Python itself tells of every connect of this process, whoever asks for it.

It hears the audit event `socket.connect`, which is raised below asyncio and below anything of ours. Who was dialling
for what is known by a context variable, since a task inherits the context of whoever began it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache

errand: ContextVar[str] = ContextVar("errand", default="?")


@dataclass(slots=True)
class Witness:
    """Where this process has connected to, and what for."""

    dials: list[tuple[str, str]] = field(default_factory=list)
    strangers: frozenset[int | None] = frozenset()

    def outside(self, *allowed: str) -> list[tuple[str, str]]:
        """Dials to any other address than the allowed ones."""
        return [dial for dial in self.dials if dial[0] not in allowed]


_watching: list[Witness] = []


@contextmanager
def watching() -> Iterator[Witness]:
    """Note every connect to an Internet address until the block ends.

    Threads that were there before have errands of their own and are not listened to.
    """
    _listen()
    witness = Witness(strangers=frozenset(each.ident for each in threading.enumerate()) - {threading.get_ident()})
    _watching.append(witness)
    try:
        yield witness
    finally:
        _watching.remove(witness)


@cache
def _listen() -> None:
    """Once for the process: an audit hook stays for good."""
    sys.addaudithook(_heard)


def _heard(event: str, arguments: tuple[object, ...]) -> None:
    if event == "socket.connect" and _watching and isinstance(address := arguments[1], tuple):
        for witness in _watching:
            if threading.get_ident() not in witness.strangers:
                witness.dials.append((str(address[0]), errand.get()))
