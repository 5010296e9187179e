"""Whether the process lives, wants work, and has what it needs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog
from aiohttp import web

from downloader.errors import DownloaderError
from downloader.web.parts import PARTS, Check
from downloader.web.render import encoded

CACHED_S = 5.0
CHECK_TIMEOUT_S = 3.0
NO_STORE = {"Cache-Control": "no-store"}

log = structlog.get_logger(__name__)


async def livez(_request: web.Request) -> web.Response:
    """200 as long as the event loop turns."""
    return _answer(200, {"status": "alive"})


async def readyz(request: web.Request) -> web.Response:
    """200 when calls are welcome; 503 only while starting or draining.

    An outage of Redis or S3 must not take every replica, and with them every stream, out of the proxy.
    """
    state = request.app[PARTS].state
    if state.draining:
        return _answer(503, {"status": "draining"})
    return _answer(200, {"status": "ready"}) if state.ready else _answer(503, {"status": "starting"})


async def health(request: web.Request) -> web.Response:
    """Each neighbour in detail, looked at no more often than every 5 s; 503 when one is away."""
    checks = await request.app[HEALTH].look()
    healthy = all(verdict == "ok" for verdict in checks.values())
    status = "healthy" if healthy else "unhealthy"
    return _answer(200 if healthy else 503, {"status": status, "checks": checks})


def _answer(status: int, body: Mapping[str, object]) -> web.Response:
    return web.Response(status=status, body=encoded(body), content_type="application/json", headers=NO_STORE)


@dataclass(slots=True)
class Health:
    """The checks and their last verdicts, `ok` or `error` each."""

    checks: Mapping[str, Check]
    _verdicts: dict[str, str] = field(default_factory=dict)
    _looked_at: float = float("-inf")
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def look(self) -> dict[str, str]:
        """The verdicts, at most CACHED_S old; many callers at once make one look."""
        async with self._turn:
            if time.monotonic() - self._looked_at >= CACHED_S:
                verdicts = await asyncio.gather(*(_verdict(name, check) for name, check in self.checks.items()))
                self._verdicts = dict(zip(self.checks, verdicts, strict=True))
                self._looked_at = time.monotonic()
            return self._verdicts


HEALTH = web.AppKey("health", Health)


async def _verdict(name: str, check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await check()
    except (DownloaderError, TimeoutError, OSError) as error:
        log.warning("health.error", check=name, reason=str(error) or "no answer in time")
        return "error"
    return "ok"
