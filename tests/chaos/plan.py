"""How much of what one run does, and in which time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """The size of a run. `jobs` and the kills are what must at least be reached within `limit_s`."""

    limit_s: float = 900.0
    jobs: int = 2000
    kills: int = 100
    redis_kills: int = 20
    replicas: int = 3
    followers: int = 2
    seed: int = 0
    # Over how long posts and kills are spread; the rest is for the last jobs and the look at what is left.
    busy_s: float = 675.0

    @property
    def outstanding_max(self) -> int:
        """Jobs that may be open at once: enough that every replica has work, few enough that nobody waits for long."""
        return self.replicas * 10
