"""Whatever the documentation names is there: options, commands, calls, codes, settings with their values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from downloader.cli import app
from downloader.client import run
from downloader.client.stream import Event, Following
from downloader.client.views import JsonLines
from downloader.config import LimitsSettings, Settings
from downloader.errors import AwayError
from downloader.web.problems import TABLE
from downloader.web.routes import ROUTES
from tests.pages import DOCS, ROOT, pages, prose

# Options of other programs that pages speak of, and properties of the page's style.
OF_OTHERS = {"--require-hashes", "--no-deps", "--scale", "--no-recreate", "--build", "--system", "--pipe"}
# What Kubernetes would set.
OTHER_VARIABLES = {"DOWNLOADER_PORT"}
UNITS = {"": 1, "s": 1, "MiB": 2**20, "GiB": 2**30}
TIMES = {"an hour": 3600, "a day": 86_400, "a week": 604_800}


def _title(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _commands(command: Any) -> Iterator[Any]:
    yield command
    for child in getattr(command, "commands", {}).values():
        yield from _commands(child)


def _table(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its own."""
    text = (DOCS / page).read_text(encoding="utf-8").partition(f" {heading}\n")[2]
    rows = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def _codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("page", pages(), ids=_title)
def test_the_options_and_their_variables(page: Path) -> None:
    """Every option that a page speaks of is one of the program's commands, and so is every variable."""
    params = [param for command in _commands(get_command(app)) for param in command.params]
    options = {name for param in params for name in param.opts} | {"--help"}
    variables = {param.envvar for param in params if param.envvar}
    told = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", prose(page)))
    assert {name for name in told - options - OF_OTHERS if not name.startswith("--download-job-")} == set()
    named = set(re.findall(r"\bDOWNLOADER_[A-Z]+(?:_[A-Z]+)*\b(?!__)", page.read_text(encoding="utf-8")))
    assert named - variables - OTHER_VARIABLES == set()


@pytest.mark.parametrize("page", pages(), ids=_title)
def test_the_calls_and_their_codes(page: Path) -> None:
    """Every call that a page names is served, and every code stands beside its own status."""
    served = {(route.method, _path(route.path)) for route in ROUTES}
    calls = re.findall(r"`(GET|POST|PUT|PATCH|DELETE|HEAD) (/[^` ]*)`", prose(page))
    assert {(method, path) for method, path in calls if (method, _path(path.partition("?")[0])) not in served} == set()
    pairs = re.findall(r"\b([45]\d\d) \[?`([a-z_]+)`", prose(page))
    assert {pair for pair in pairs if TABLE.get(pair[1], ("",))[0] != int(pair[0])} == set()


def _path(path: str) -> str:
    """A path without the names of its parameters, and what they must look like."""
    return re.sub(r"\{[^{}]*\}", "{}", path)


@pytest.mark.parametrize("page", pages(), ids=_title)
def test_the_values_of_settings(page: Path) -> None:
    """A value in parentheses behind a setting is its default."""
    wrong = []
    for section, key, value in re.findall(r"`([a-z]+)\.([a-z_]+)`\s+\(([^)]*)\)", prose(page)):
        figure = re.fullmatch(r"([\d,]+) ?(s|MiB|GiB|)", value)
        told = int(figure[1].replace(",", "")) * UNITS[figure[2]] if figure else TIMES.get(value)
        if section in Settings.model_fields and told != getattr(getattr(Settings(), section), key):
            wrong.append((section, key, value))
    assert not wrong


def test_the_limits() -> None:
    """Every limit of the table is a setting, and every setting of this kind is in the table."""
    told = [name for row in _table("keys-and-limits.md", "Limits") for name in _codes(row[1])]
    assert [name for name in told if name not in LimitsSettings.model_fields] == []


def test_the_exit_codes() -> None:
    """The table has each status that a command of the client can end with."""
    told = [int(row[0]) for row in _table("command-line.md", "Exit status")]
    assert told == sorted({run.OK, run.FAILED, run.PARTLY, *run.EXITS.values(), 130})


def test_the_commands() -> None:
    """The list of commands is whole."""
    told = {name for row in _table("command-line.md", "All commands") for name in _codes(row[1])}
    commands: Any = get_command(app)
    assert told == set(commands.commands)


def test_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The table of `--json` names every event with all its fields."""
    view, heard = JsonLines(), Following()
    figures = {"jobId": "j", "status": "processing", "totalFiles": 1, "filesCompleted": 1, "filesFailed": 0}
    file = {"index": 0, "fileId": 0, "status": "done"}
    view.started("j", 1, again=False)
    heard.hear(Event("files", {"files": [file]}))
    view.update(heard)
    heard.hear(Event("progress", figures))
    view.update(heard)
    view.notice("n")
    for status in ("completed", "failed", "cancelled"):
        view.ended(figures | {"status": status}, [])
    view.saving(1, 1)
    view.saved("p", 1, None)
    view.failed(AwayError("away"), 4, ["error: away"])
    said = {each.pop("event"): set(each) for each in map(json.loads, capsys.readouterr().out.splitlines())}
    figures_of_status = said["progress"]
    told = {
        event: set(_codes(re.sub(r"\([^)]*\)", "", row[2]))) | (figures_of_status if "figures" in row[2] else set())
        for row in _table("command-line.md", "The JSON")
        for event in _codes(row[0])
    }
    assert told == said
