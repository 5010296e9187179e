"""The options that several commands take, and what they make of the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from downloader.errors import ConfigError

# Where a command stands in the list of commands.
FOR_FILES, FOR_SERVICE, FOR_OPERATORS = "Fetch files", "Run the service", "Operate a service"
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings file; ./config.toml if there is one.")
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Any other setting; may be repeated.")
]


def overrides(sets: list[str] | None, **flags: str | None) -> dict[str, str]:
    """The flags by dotted key; `--set` for the same key does not stand against the flag of its own."""
    found: dict[str, str] = {}
    for text in sets or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text} (flag): has no value; write --set section.key=value")
        found[key.strip()] = value
    names = {"host": "server.host", "port": "server.port", "log_level": "log.level"}
    return found | {names[flag]: value for flag, value in flags.items() if value is not None}


def examples(*lines: str) -> str:
    """The end of a command's help: what it looks like in use, line by line as it stands here."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])
