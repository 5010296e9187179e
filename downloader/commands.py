"""The operator's commands: `keys`, `maintenance`, `redeliver`. They work beside a running service."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from downloader.options import FOR_OPERATORS, ConfigFile, Sets, examples, overrides

if TYPE_CHECKING:
    from downloader.config import Settings

keys = typer.Typer(
    help="Make, list and revoke API keys.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=examples("downloader keys new acme --name 'the shop'", "downloader keys list"),
)


@keys.command(
    "new",
    epilog=examples(
        "downloader keys new acme",
        "downloader keys new acme --name 'the shop' --expires-days 90",
        "downloader keys new acme > shop.key",
    ),
)
def new_key(
    tenant: Annotated[str, typer.Argument(help="Whose key it is; jobs are seen by their tenant only.")],
    config: ConfigFile = None,
    sets: Sets = None,
    *,
    name: Annotated[str, typer.Option(help="What the key is for, to tell it from others.")] = "",
    expires_days: Annotated[float | None, typer.Option(min=0, help="Days until it stops working.")] = None,
    admin: Annotated[
        bool, typer.Option("--admin", help="Let its holder see /admin: all tenants and replicas.")
    ] = False,
) -> None:
    """Make a key and print it, alone, on standard output; it cannot be shown again."""
    _run(
        config,
        sets,
        lambda operate, to: operate.new_key(to, typer.echo, _tell, tenant, name, expires_days, admin=admin),
    )


@keys.command("list", epilog=examples("downloader keys list", "downloader keys list --config config.toml"))
def list_keys(config: ConfigFile = None, sets: Sets = None) -> None:
    """List the keys, without their secrets."""
    _run(config, sets, lambda operate, to: operate.list_keys(to, typer.echo, _tell))


@keys.command("revoke", epilog=examples("downloader keys revoke 4k2x9q0a7b1c"))
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="The key's id, as `keys list` shows it, or the whole key.")],
    config: ConfigFile = None,
    sets: Sets = None,
) -> None:
    """Revoke a key; all replicas know within 5 seconds."""
    _run(config, sets, lambda operate, to: operate.revoke_key(to, typer.echo, _tell, key_id))


def maintenance(
    wanted: Annotated[Literal["on", "off", "status"], typer.Argument(help="What to do.")] = "status",
    config: ConfigFile = None,
    sets: Sets = None,
    *,
    message: Annotated[str, typer.Option(help="What callers are told meanwhile.")] = "",
) -> None:
    """Take no new jobs on any replica (503); those that were taken in go on to their end."""
    _run(config, sets, lambda operate, to: operate.maintenance(to, typer.echo, _tell, wanted, message))


def redeliver(
    job_id: Annotated[str, typer.Argument(help="An ended job with a callbackUrl.")],
    config: ConfigFile = None,
    sets: Sets = None,
) -> None:
    """Have a job's callback delivered once more, now."""
    _run(config, sets, lambda operate, to: operate.redeliver(to, typer.echo, _tell, job_id))


def add_to(app: typer.Typer) -> None:
    """Make these commands part of `app`."""
    app.add_typer(keys, name="keys", rich_help_panel=FOR_OPERATORS)
    app.command(
        rich_help_panel=FOR_OPERATORS,
        short_help="Take no new jobs for a while.",
        epilog=examples(
            "downloader maintenance on --message 'Back at 17:00.'",
            "downloader maintenance status",
            "downloader maintenance off",
        ),
    )(maintenance)
    app.command(
        rich_help_panel=FOR_OPERATORS,
        epilog=examples("downloader redeliver 0b7c2f4e-9f5d-4c1e-8a53-0d1f7c9be001"),
    )(redeliver)


def _tell(text: str) -> None:
    typer.echo(text, err=True)


def _run(
    config: Path | None, sets: list[str] | None, work: Callable[[Any, Settings], Coroutine[Any, Any, int]]
) -> None:
    # Only here: `--help` answers without loading the whole house.
    from downloader import lifetime, logs, operate, settings

    effective = settings.load(config, overrides(sets))
    logs.set_up(effective.log.model_copy(update={"level": "warning"}), audit=True)
    raise typer.Exit(lifetime.run(lambda _: work(operate, effective)))
