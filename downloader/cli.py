"""The command line: `serve`, `config`, `openapi`, `doctor`, `reconcile`, `demo`, and what others add.

Here and in the modules of commands only what makes the help is loaded at once: it, and the completion of a shell,
answer without the rest of the house.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from downloader import __version__, commands, fetch
from downloader.errors import ConfigError
from downloader.options import FOR_OPERATORS, FOR_SERVICE, ConfigFile, Sets, examples, overrides

if TYPE_CHECKING:
    from downloader.config import Settings
    from downloader.lifetime import Stop

EXIT_WRONG_SETTING = 2


class Grouped(TyperGroup):
    """Lists the commands under what they are for, in the order in which they were added."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section for each purpose."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                shown = command.get_short_help_str(formatter.width - 20)
                sections.setdefault(getattr(command, "rich_help_panel", "") or "Commands", []).append((name, shown))
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)


app = typer.Typer(
    name="downloader",
    cls=Grouped,
    help="Collects files from many URLs and hands back one ZIP archive.",
    epilog=examples(
        "downloader fetch https://example.com/a.pdf https://example.com/b.pdf",
        "downloader serve",
        "downloader fetch @list.txt -o out.zip --server http://127.0.0.1:8080",
        "downloader fetch --help",
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
fetch.add_to(app)
Host = Annotated[str | None, typer.Option(help="Address to listen on (server.host).")]
Port = Annotated[str | None, typer.Option(metavar="PORT", help="Port to listen on, 0 for any (server.port).")]
Level = Annotated[str | None, typer.Option("--log-level", help="debug, info, warning or error (log.level).")]
LogLevel = Literal["debug", "info", "warning", "error"]


def main() -> None:
    """Run the command line of this process; a wrong setting is one line on standard error and exit code 2."""
    _hold_standard_streams()
    try:
        app(prog_name="downloader")  # also as `python -m downloader`: a completion needs the one name
    except ConfigError as error:
        typer.echo(f"error: {error.message}", err=True)
        sys.exit(EXIT_WRONG_SETTING)


def _hold_standard_streams() -> None:
    """Give the first three descriptors a place where the caller has closed them, as cron jobs and daemons do.

    Else the next file or socket gets their numbers, and with them what is printed; uvloop takes that for a fault of its
    own and aborts. Whoever reads or prints meanwhile still hears that it is not possible.
    """
    for descriptor, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, mode), True)  # noqa: FBT003 - a function of the system
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for the life of the process


@app.callback(invoke_without_command=True)  # else `--version` would need a command beside it
def _common(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"downloader {__version__}")
        raise typer.Exit


@app.command(
    rich_help_panel=FOR_SERVICE,
    short_help="Run the service.",
    epilog=examples(
        "downloader serve",
        "downloader serve --port 9000 --log-level debug",
        "downloader serve --set sources.allow_networks=10.0.0.0/8",
        "downloader serve --config /etc/downloader/config.toml",
    ),
)
def serve(
    config: ConfigFile = None,
    host: Host = None,
    port: Port = None,
    sets: Sets = None,
    log_level: Level = None,
) -> None:
    """Run the service until SIGTERM or Ctrl-C; a second one ends it at once."""
    from downloader import lifetime, logs, settings

    effective = settings.load(config, overrides(sets, host=host, port=port, log_level=log_level))
    logs.set_up(effective.log)
    raise typer.Exit(lifetime.run(lambda stop: _serve(effective, stop)))


@app.command(
    "config",
    rich_help_panel=FOR_SERVICE,
    epilog=examples("downloader config", "downloader config --reference > config.toml"),
)
def show_config(
    config: ConfigFile = None,
    sets: Sets = None,
    *,
    reference: Annotated[bool, typer.Option("--reference", help="Print every key with its default instead.")] = False,
) -> None:
    """Print the settings in effect, as TOML, secrets masked."""
    from downloader import settings

    if reference:
        typer.echo(settings.reference(), nl=False)
        return
    typer.echo(settings.show(settings.load(config, overrides(sets))))


@app.command(rich_help_panel=FOR_SERVICE, epilog=examples("downloader openapi > openapi.json"))
def openapi(config: ConfigFile = None, sets: Sets = None) -> None:
    """Print the OpenAPI document as this service would serve it."""
    from downloader import settings
    from downloader.web.contract.serve import Contract
    from downloader.web.routes import ROUTES

    typer.echo(Contract(ROUTES, settings.load(config, overrides(sets))).readable(), nl=False)


@app.command(
    rich_help_panel=FOR_OPERATORS,
    short_help="Compare the bucket with what is remembered.",
    epilog=examples("downloader reconcile", "downloader reconcile --fix --older-than 7200"),
)
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
    from downloader import lifetime, logs, settings
    from downloader.config import LogSettings
    from downloader.reconcile import reconcile as compare

    effective = settings.load(config, overrides(sets))
    logs.set_up(LogSettings(level="warning"))
    raise typer.Exit(lifetime.run(lambda _: compare(effective, typer.echo, fix=fix, older_than_s=older_than)))


@app.command(
    rich_help_panel=FOR_OPERATORS,
    short_help="Look for what keeps the service from working.",
    epilog=examples("downloader doctor", "downloader doctor --config config.toml --json"),
)
def doctor(
    config: ConfigFile = None,
    sets: Sets = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")] = False,
) -> None:
    """Look at settings, machine, Redis and store, one line each; status 1 if something keeps the service from working.

    Safe beside a running service; what it writes to look, it removes.
    """
    from downloader import lifetime, logs, settings
    from downloader.config import LogSettings
    from downloader.doctor import doctor as examine

    logs.set_up(LogSettings(level="error"))
    raise typer.Exit(
        lifetime.run(lambda _: examine(lambda: settings.load(config, overrides(sets)), typer.echo, as_json=as_json))
    )


@app.command(
    rich_help_panel=FOR_SERVICE,
    short_help="Show the service at work on one job.",
    epilog=examples("downloader demo --exit", "downloader demo --port 8080"),
)
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
    from downloader import lifetime, logs
    from downloader.config import LogSettings
    from downloader.demo import run_demo

    logs.set_up(LogSettings(level=log_level, format="console"))
    code = lifetime.run(
        lambda stop: run_demo(port, data_dir, None if leave else stop.asked),
        interrupted=lifetime.EXIT_INTERRUPTED,
    )
    raise typer.Exit(code)


commands.add_to(app)


async def _serve(effective: Settings, stop: Stop) -> int:
    from downloader import lifetime
    from downloader.service import running

    lifetime.raise_open_files()
    async with running(effective) as service:
        # Flushed by echo: who starts the service through a pipe waits for this line.
        typer.echo(f"downloader {__version__} listening on {service.url}")
        await stop.asked()
    return 0
