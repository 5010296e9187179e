"""What each replica tells of itself, and adds to the figures of all replicas, every few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

import structlog
from pydantic import Field, TypeAdapter, ValidationError

from downloader.errors import UnavailableError
from downloader.state.scripts import Argument, Scripts

PULSE_S = 2.0
# A replica that has not been heard of for so long is gone.
LIFE_S = 12.0
FAREWELL_S = 1.0
YEAR_10000_MS = 253_402_300_800_000

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Replica:
    """What a process tells of itself; sizes in bytes."""

    host: str
    pid: int
    version: str
    since_ms: Annotated[int, Field(ge=0, lt=YEAR_10000_MS)]
    slots: int
    running: int
    streams: int
    memory_used: int
    memory_total: int
    draining: bool


_REPLICA: TypeAdapter[Replica] = TypeAdapter(Replica)

Look = Callable[[], Replica]
Take = Callable[[], Mapping[str, int]]


def replica_from_json(told: bytes) -> Replica | None:
    """Read what a replica told; None when it is of a version that tells too little, or is nonsense."""
    try:
        return _REPLICA.validate_json(told)
    except ValidationError:
        return None


class Pulse:
    """Tells of one process for as long as it runs. Redis being away costs nothing but the telling.

    What was counted is kept until Redis has it, by the name of the count, so there are never more of them than names.
    """

    def __init__(self, scripts: Scripts, replica_id: str, look: Look, take: Take, life_s: float = LIFE_S) -> None:
        """`look` tells of the process, `take` what it has counted since it was asked last."""
        self._scripts = scripts
        self._id = replica_id
        self._look = look
        self._take = take
        self._life_ms = int(life_s * 1000)
        self._batch: Mapping[str, int] = {}
        self._number = 0
        self._is_told = True

    async def run(self) -> None:
        """Beat until cancelled, then say farewell."""
        try:
            while True:
                try:
                    await self.beat()
                except UnavailableError as error:
                    log.debug("pulse.missed", reason=error.message)
                except Exception:  # the rim: telling of the work must never end it
                    log.exception("pulse.failed")
                await asyncio.sleep(PULSE_S)
        finally:
            await self._farewell()

    async def beat(self) -> None:
        """Tell once; UnavailableError while Redis is away, which may have heard it nevertheless."""
        await self._tell(_REPLICA.dump_json(self._look()))

    async def _farewell(self) -> None:
        """Be no replica any more, with all told; without it the others see so when its life is over."""
        try:
            async with asyncio.timeout(FAREWELL_S):
                if not self._is_told:
                    await self._tell(b"")
                await self._tell(b"")
        except (UnavailableError, TimeoutError) as error:
            log.debug("pulse.no_farewell", reason=str(error))

    async def _tell(self, told: bytes) -> None:
        """What may have been heard is told again as the same batch, before anything that was counted since."""
        if self._is_told:
            self._batch, self._number = self._take(), self._number + 1
        self._is_told = False
        counted: list[Argument] = [word for pair in self._batch.items() for word in pair]
        await self._scripts.run("pulse", self._id, self._life_ms, told, self._number, *counted)
        self._is_told = True
