"""Who has used how much: calls per minute and open streams, counted in Redis for all replicas together."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from downloader.errors import UnavailableError
from downloader.state.client import REFUSES
from downloader.state.scripts import Scripts

# How long a place is kept for a stream whose process does not renew it, and how often that is done.
PLACE_LIFE_S = 60
PLACE_RENEWED_S = 20.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Counter:
    """Something that is counted for somebody: at most `limit` of it, which `setting` in `[limits]` says."""

    name: str
    limit: int
    setting: str


@dataclass(frozen=True, slots=True)
class Charge:
    """What came of a charge: by the tightest of its counters, its limit, what is left of it and when it is full.

    `counter` is its place among those that were charged.
    """

    allowed: bool
    limit: int
    remaining: int
    reset_s: int
    counter: int = 0

    @classmethod
    def of(cls, words: Sequence[int]) -> Charge | None:
        """Read a script's answer; None when nothing was counted."""
        if not words:
            return None
        allowed, limit, remaining, reset_s, number = map(int, words)
        return cls(bool(allowed), limit, remaining, reset_s, number - 1)


class Budgets:
    """Counts calls and open streams; every method raises UnavailableError while Redis is away."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts
        self._places: dict[str, set[str]] = defaultdict(set)

    async def charge(self, counters: Sequence[Counter]) -> Charge | None:
        """Charge one call to each counter, or to none of them when one is spent; None when nothing is counted.

        A Redis that takes no writes (a failover, a full disk) counts nothing, and stands in the way of no reading.
        """
        if not counters:
            return None
        words = [word for counter in counters for word in (counter.name, counter.limit)]
        try:
            return Charge.of(await self._scripts.run("charge", *words))
        except UnavailableError as error:
            _pass_over(error)
            return None

    async def take_place(self, place: str, counters: Sequence[Counter]) -> bool:
        """Take a stream's place, by a name of its own, under each counter; False when one is full.

        Where Redis takes no writes there is room for everybody.
        """
        words = [word for counter in counters for word in (counter.name, counter.limit)]
        try:
            if not await self._scripts.run("place", place, PLACE_LIFE_S * 1000, *words):
                return False
        except UnavailableError as error:
            _pass_over(error)
        for counter in counters:
            self._places[counter.name].add(place)
        return True

    async def give_back(self, place: str, counters: Sequence[Counter]) -> None:
        """Give a place back, if it was taken; one that Redis does not hear of now lapses by itself."""
        for counter in counters:
            self._places[counter.name].discard(place)
            if not self._places[counter.name]:
                del self._places[counter.name]
        try:
            await self._scripts.run("leave", place, *(counter.name for counter in counters))
        except UnavailableError as error:
            log.info("budgets.place_lapses", reason=error.message)

    async def run(self) -> None:
        """Renew the places of this process's streams until cancelled."""
        while True:
            await asyncio.sleep(PLACE_RENEWED_S)
            try:
                for name, places in list(self._places.items()):
                    await self._scripts.run("stay", PLACE_LIFE_S * 1000, name, *places)
            except UnavailableError as error:
                log.warning("budgets.not_renewed", reason=error.message)


def _pass_over(error: UnavailableError) -> None:
    """Let a refusal of Redis to write pass; what else is wrong with it rises."""
    if error.code != REFUSES:
        raise error
    log.debug("budgets.not_counted", reason=error.message)
