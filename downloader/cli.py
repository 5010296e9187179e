"""The command line: `serve`, `config`, `openapi`, `doctor`, `reconcile`, `demo`, and what `commands.py` adds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from downloader import __version__, commands, lifetime, logs, settings
from downloader.config import LogSettings, Settings
from downloader.errors import ConfigError
from downloader.options import ConfigFile, Sets, overrides

app = typer.Typer(
    name="downloader",
    help="Collects files from many URLs and hands back one ZIP archive.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
Host = Annotated[str | None, typer.Option(help="Address to listen on (server.host).")]
Port = Annotated[str | None, typer.Option(metavar="PORT", help="Port to listen on, 0 for any (server.port).")]
Level = Annotated[str | None, typer.Option("--log-level", help="debug, info, warning or error (log.level).")]
LogLevel = Literal["debug", "info", "warning", "error"]


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
    effective = settings.load(config, overrides(sets, host=host, port=port, log_level=log_level))
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
    typer.echo(settings.show(settings.load(config, overrides(sets))))


@app.command()
def openapi(config: ConfigFile = None, sets: Sets = None) -> None:
    """Print the OpenAPI document as this service would serve it."""
    from downloader.web.contract.serve import Contract  # only here, as in `_serve`
    from downloader.web.routes import ROUTES

    typer.echo(Contract(ROUTES, settings.load(config, overrides(sets))).readable(), nl=False)


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

    effective = settings.load(config, overrides(sets))
    logs.set_up(LogSettings(level="warning"))
    raise typer.Exit(lifetime.run(lambda _: compare(effective, typer.echo, fix=fix, older_than_s=older_than)))


@app.command()
def doctor(
    config: ConfigFile = None,
    sets: Sets = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")] = False,
) -> None:
    """Look at settings, machine, Redis and store, one line each; status 1 if something keeps the service from working.

    Safe beside a running service; what it writes to look, it removes.
    """
    from downloader.doctor import doctor as examine  # only here, as in `_serve`

    logs.set_up(LogSettings(level="error"))
    raise typer.Exit(
        lifetime.run(lambda _: examine(lambda: settings.load(config, overrides(sets)), typer.echo, as_json=as_json))
    )


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


commands.add_to(app)


async def _serve(effective: Settings, stop: lifetime.Stop) -> int:
    from downloader.service import running  # only here: `config` and `--help` answer without loading the whole house

    lifetime.raise_open_files()
    async with running(effective) as service:
        # Flushed by echo: who starts the service through a pipe waits for this line.
        typer.echo(f"downloader {__version__} listening on {service.url}")
        await stop.asked()
    return 0
