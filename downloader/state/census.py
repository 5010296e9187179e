"""How many jobs there are, over all replicas: read in one call, for those who watch the whole."""

from __future__ import annotations

from dataclasses import dataclass

from downloader.state.scripts import Scripts


@dataclass(frozen=True, slots=True)
class Census:
    """Jobs of all tenants: those that wait for a worker, that wait out a pause after a failure, that are worked on."""

    waiting: int
    pausing: int
    processing: int


async def census(scripts: Scripts) -> Census:
    """Count now, in a time that grows with the tenants that wait; UnavailableError while Redis is away."""
    waiting, pausing, processing = await scripts.run("census")
    return Census(int(waiting), int(pausing), int(processing))
