"""The command line: `serve`, `config`, `reconcile` and `demo`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from downloader import __version__, lifetime, logs, settings
from downloader.config import LogSettings, Settings
from downloader.errors import ConfigError

app = typer.Typer(
    name="downloader",
    help="Collects files from many URLs and hands back one ZIP archive.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings file; ./config.toml if there is one.")
]
Host = Annotated[str | None, typer.Option(help="Address to listen on (server.host).")]
Port = Annotated[str | None, typer.Option(metavar="PORT", help="Port to listen on, 0 for any (server.port).")]
Level = Annotated[str | None, typer.Option("--log-level", help="debug, info, warning or error (log.level).")]
LogLevel = Literal["debug", "info", "warning", "error"]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Any other setting; may be repeated.")
]


def main() -> None:
    """Run the command line of this process; a wrong setting is one line on standard error and exit code 2."""
    try:
        app()
    except ConfigError as error:
        typer.echo(f"error: {error.message}", err=True)
        sys.exit(lifetime.EXIT_NOT_STARTED)


@app.callback(invoke_without_command=True)  # else `--version` would need a command beside it
def _common(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"downloader {__version__}")
        raise typer.Exit


@app.command()
def serve(
    config: ConfigFile = None,
    host: Host = None,
    port: Port = None,
    sets: Sets = None,
    log_level: Level = None,
) -> None:
    """Run the service until SIGTERM or Ctrl-C; a second one ends it at once."""
    effective = settings.load(config, _overrides(sets, host=host, port=port, log_level=log_level))
    logs.set_up(effective.log)
    raise typer.Exit(lifetime.run(lambda stop: _serve(effective, stop)))


@app.command("config")
def show_config(
    config: ConfigFile = None,
    sets: Sets = None,
    *,
    reference: Annotated[bool, typer.Option("--reference", help="Print every key with its default instead.")] = False,
) -> None:
    """Print the settings in effect, as TOML, secrets masked."""
    if reference:
        typer.echo(settings.reference(), nl=False)
        return
    typer.echo(settings.show(settings.load(config, _overrides(sets))))


@app.command()
def reconcile(
    config: ConfigFile = None,
    sets: Sets = None,
    *,
    fix: Annotated[
        bool, typer.Option("--fix", help="Delete what nobody knows of, put lost jobs back into the queue.")
    ] = False,
    older_than: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Leave alone what is younger in the bucket.")
    ] = 3600,
) -> None:
    """Compare the bucket with what is remembered; status 1 if something does not agree and was not mended."""
    from downloader.reconcile import reconcile as compare  # only here, as in `_serve`

    effective = settings.load(config, _overrides(sets))
    logs.set_up(LogSettings(level="warning"))
    raise typer.Exit(lifetime.run(lambda _: compare(effective, typer.echo, fix=fix, older_than_s=older_than)))


@app.command()
def demo(
    *,
    leave: Annotated[
        bool, typer.Option("--exit", help="End after the job; status 0 if the archive was right.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port of the service; 0 for any free one.")] = 0,
    data_dir: Annotated[Path | None, typer.Option(help="Keep the data here; else they go when the demo ends.")] = None,
    log_level: Annotated[LogLevel, typer.Option(help="Least level that is logged.")] = "warning",
) -> None:
    """Show the whole service at work on real parts: one job of a dozen files, good, slow and broken."""
    from downloader.demo import run_demo  # only here: the demo's parts are no part of the service

    logs.set_up(LogSettings(level=log_level, format="console"))
    code = lifetime.run(
        lambda stop: run_demo(port, data_dir, None if leave else stop.asked),
        interrupted=lifetime.EXIT_INTERRUPTED,
    )
    raise typer.Exit(code)


async def _serve(effective: Settings, stop: lifetime.Stop) -> int:
    from downloader.service import running  # only here: `config` and `--help` answer without loading the whole house

    async with running(effective) as service:
        # Flushed by echo: who starts the service through a pipe waits for this line.
        typer.echo(f"downloader {__version__} listening on {service.url}")
        await stop.asked()
    return 0


def _overrides(sets: list[str] | None, **flags: str | None) -> dict[str, str]:
    """The flags by dotted key; `--set` for the same key does not stand against the flag of its own."""
    overrides: dict[str, str] = {}
    for text in sets or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text} (flag): has no value; write --set section.key=value")
        overrides[key.strip()] = value
    names = {"host": "server.host", "port": "server.port", "log_level": "log.level"}
    return overrides | {names[flag]: value for flag, value in flags.items() if value is not None}
