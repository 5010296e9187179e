"""The arrows of the house: which room may import which. Imports go down, never sideways."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import downloader

HOUSE = Path(downloader.__file__).parent
WORDS = frozenset({"callbacks", "config", "errors", "events", "jobs", "keys", "names", "observing", "s3url", "wire"})
DOOR = frozenset(
    {
        "",
        "__main__",
        "cli",
        "demo",
        "doctor",
        "embedded",
        "fetch",
        "lifetime",
        "local",
        "logs",
        "operate",
        "options",
        "commands",
        "reconcile",
        "service",
        "settings",
        "telemetry",
    }
)
# What each room may import of the house, besides itself.
MAY = {
    "words": {"words"},
    "state": {"words", "state"},
    "work": {"words", "work"},
    "web": {"words", "state", "web"},
    "client": {"words", "client"},
    "door": {"words", "state", "work", "web", "client", "door"},
}
# Who may know the parts of others that have a room of their own; the door opens and starts them.
HOME = {
    "redis": {"state", "door"},
    "aiohttp.web": {"web", "door"},
    "aiobotocore": {"work", "door"},
    "botocore": {"work", "door"},
    "typer": {"door"},
    "rich": {"client", "door"},
}
# Beside the service itself only the ways in for people know it.
KNOW_SERVICE = {"cli", "demo", "local", "__main__"}


def _modules() -> list[Path]:
    return sorted(HOUSE.rglob("*.py"))


def _name(path: Path) -> str:
    """The dotted name inside the house: `work.fetch`; the house itself is empty."""
    return ".".join(path.relative_to(HOUSE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


def _room(name: str) -> str:
    first = name.partition(".")[0]
    if first in WORDS:
        return "words"
    if first in DOOR:
        return "door"
    assert first in MAY, f"{name} stands in no room; add it to tests/test_arrows.py on purpose"
    return first


def _imports(path: Path) -> Iterator[str]:
    """Every absolute name a module imports, inside functions too: `from aiohttp import web` is `aiohttp.web`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the whole name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _of_the_house(path: Path) -> Iterator[str]:
    for name in _imports(path):
        if name == "downloader" or name.startswith("downloader."):
            inside = name.removeprefix("downloader").lstrip(".")
            yield "" if inside == "__version__" else inside


@pytest.mark.parametrize("path", _modules(), ids=_name)
def test_imports_go_down(path: Path) -> None:
    """A room imports only what lies below it; web and work never know each other."""
    room = _room(_name(path))
    wrong = {name for name in _of_the_house(path) if _room(name) not in MAY[room] and name != ""}
    assert not wrong, f"{_name(path)} ({room}) must not import {sorted(wrong)}"


@pytest.mark.parametrize("path", [path for path in _modules() if _room(_name(path)) == "words"], ids=_name)
def test_words_know_no_tools(path: Path) -> None:
    """The words need the standard library and pydantic (with the typing extensions it builds on), nothing else."""
    known = {*sys.stdlib_module_names, "downloader", "pydantic", "pydantic_core", "typing_extensions"}
    wrong = {name for name in _imports(path) if name.split(".")[0] not in known}
    assert not wrong, f"{_name(path)} must not import {sorted(wrong)}"


@pytest.mark.parametrize("path", _modules(), ids=_name)
def test_tools_stay_in_their_rooms(path: Path) -> None:
    """Redis is known only to state, the web server only to web, S3 only to work (and to the door that starts them)."""
    room = _room(_name(path))
    for name in _imports(path):
        for tool, homes in HOME.items():
            if name == tool or name.startswith(f"{tool}."):
                assert room in homes, f"{_name(path)} ({room}) must not import {name}"


@pytest.mark.parametrize("path", _modules(), ids=_name)
def test_only_ways_in_know_the_service(path: Path) -> None:
    """`service` ties the rooms together; whoever imported it from below would close a circle."""
    name = _name(path)
    if any(found.split(".")[0] == "service" for found in _of_the_house(path)):
        assert name.split(".")[0] in KNOW_SERVICE, f"{name} must not import the service"


def test_the_map_names_every_room() -> None:
    """The docstring of the package is the map; a module or folder it leaves out cannot be found by a stranger."""
    children = (path for path in HOUSE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists())
    rooms = {f"{path.name}/" if path.is_dir() else path.name for path in children} - {"__init__.py", "__main__.py"}
    missing = {room for room in rooms if room not in (downloader.__doc__ or "")}
    assert not missing, f"not on the map in downloader/__init__.py: {sorted(missing)}"
