"""The Lua scripts, one per transition of a job: record and event change in one step, with the server's clock.

A script is `lua/lib.lua` followed by its own file. Every script may be called twice with the same arguments
(after an answer that was lost) and then changes nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any

from redis.asyncio import ConnectionPool
from redis.commands.core import AsyncScript
from redis.exceptions import ConnectionError, NoScriptError, ReadOnlyError  # noqa: A004

from downloader.state.client import Client, translated
from downloader.state.convoy import Convoy

NAMES = (
    "enqueue",
    "claim",
    "renew",
    "report",
    "upload",
    "checkpoint",
    "settle",
    "release",
    "reap",
    "cancel",
    "delete",
    "charge",
    "place",
    "stay",
    "leave",
    "gone",
    "debris",
    "forsaken",
    "repair",
    "hooktake",
    "hooktold",
    "hookagain",
    "server",
    "census",
    "pulse",
    "overview",
)
Argument = str | bytes | int | float


class Scripts:
    """Runs the scripts on one client; a Redis that forgot them is told again (NOSCRIPT)."""

    def __init__(self, client: Client, prefix: str) -> None:
        self.prefix = f"{{{prefix}}}:"
        self._client = client
        self._scripts = {name: client.register_script(source_of(name)) for name in NAMES}
        # A cluster's client has a pool for each node and finds the right one itself.
        pool: ConnectionPool | None = getattr(client, "connection_pool", None)
        self._convoy = None if pool is None else Convoy(pool)

    async def run(self, name: str, *args: Argument, client: Client | None = None) -> Any:
        """Call a script; UnavailableError when Redis is away. `client` runs it on a connection of its own."""
        script: AsyncScript = self._scripts[name]
        arguments: Sequence[Argument] = (self.prefix, *args)
        with translated():
            if self._convoy is not None and client is None:
                try:
                    return await self._convoy.call("EVALSHA", script.sha, 1, self.prefix, *arguments)
                except (NoScriptError, ReadOnlyError, ConnectionError):
                    pass  # each goes on by itself: redis-py knows what is to be done then, and how often
            try:
                return await script(keys=[self.prefix], args=arguments, client=client)
            except NoScriptError:
                # It was told just now, but a failover lay between telling and calling: send it along with the call.
                execute: Any = (client or self._client).execute_command
                return await execute("EVAL", script.script, 1, self.prefix, *arguments)


def source_of(name: str) -> str:
    """The whole text of a script, with what all of them share."""
    folder = resources.files("downloader.state") / "lua"
    body = (folder / f"{name}.lua").read_text()
    shebang, rest = "", body
    if body.startswith("#!"):  # must stay the first line
        shebang, _, rest = body.partition("\n")
        shebang += "\n"
    return shebang + (folder / "lib.lua").read_text() + rest
