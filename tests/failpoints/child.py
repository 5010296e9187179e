"""What a child of the zygote is: the whole service, until SIGTERM or until it is killed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from downloader import lifetime, logs
from downloader.config import Settings
from downloader.service import running
from tests.failpoints.hook import Board


def serve(settings: dict[str, Any], announce: Callable[[int], None], board: Board, *, armed: bool) -> int:
    """Run the service and `announce` its port; with `armed` points count as soon as it is up. Gives the exit code."""
    checked = Settings.model_validate(settings)
    logs.set_up(checked.log)

    async def work(stop: lifetime.Stop) -> int:
        async with running(checked) as service:
            if armed:
                board.arm()
            announce(service.port)
            await stop.asked()
        return 0

    return lifetime.run(work)
