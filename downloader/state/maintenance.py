"""Maintenance mode: while it lasts no replica takes a job in; what was taken in goes on to its end."""

from __future__ import annotations

from downloader.state.client import Client, answered
from downloader.state.scripts import Scripts


class Maintenance:
    """The switch, seen by all replicas with the next call; every method raises UnavailableError while Redis is away."""

    def __init__(self, client: Client, scripts: Scripts) -> None:
        self._client = client
        self._name = f"{scripts.prefix}maintenance"

    async def begin(self, message: str) -> None:
        """Take no more jobs; callers are told `message`."""
        await answered(self._client.set(self._name, message))

    async def end(self) -> bool:
        """Take jobs again; False when that was so already."""
        return bool(await answered(self._client.delete(self._name)))

    async def message(self) -> str | None:
        """What callers are told, None when there is no maintenance."""
        message = await answered(self._client.get(self._name))
        return None if message is None else str(message.decode("utf-8", "replace"))
