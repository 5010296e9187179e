"""What the README tells people to type does what it says."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import shlex
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import downloader
from downloader.errors import SourceChangedError
from downloader.settings import load
from downloader.web.routes import ROUTES
from tests.api import Api
from tests.files import Origin
from tests.servers import missing

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BASE = "http://127.0.0.1:8080"
WITHIN_S = 60


def blocks() -> list[str]:
    """The shell blocks, in order."""
    return re.findall(r"^```sh\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def commands() -> list[list[str]]:
    """The single commands of all blocks but the calls, as words."""
    lines = [line for block in blocks() if "curl" not in block for line in block.splitlines()]
    return [shlex.split(command) for line in lines for command in line.split("&&")]


async def shell(script: str, folder: Path) -> str:
    """Run a script as a person's shell would; gives what it printed."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", script),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(WITHIN_S):
        said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()


def named(folder: Path) -> list[str]:
    """The names of what lies in a folder."""
    return [path.name for path in folder.iterdir()]


async def test_the_three_calls(api: Api, origin: Origin, tmp_path: Path) -> None:
    """Posted, followed and downloaded by curl, letter by letter as printed; only the addresses are ours."""
    if shutil.which("curl") is None:
        missing("curl")
    calls = "\n".join(block for block in blocks() if "curl" in block)
    urls = re.findall(r'https://[^"]+', calls)
    assert len(urls) == 2
    for number, url in enumerate(urls):
        calls = calls.replace(url, origin.url(1000 + number, "readme", url.rsplit("/", 1)[1]))
    assert calls.count(BASE) == 3
    said = await shell(calls.replace(BASE, api.base), tmp_path)
    assert "event: complete" in said
    assert named(tmp_path) == ["standards.zip"]
    with zipfile.ZipFile(tmp_path / "standards.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["http/semantics.txt", "rfc9457.txt"]
        assert archive.read("rfc9457.txt") == origin.data(1001, "readme")


@pytest.mark.parametrize("words", [words for words in commands() if "downloader" in words], ids=" ".join)
async def test_the_commands_exist(words: list[str]) -> None:
    """Each command of the README is known with its flags, and its help names them."""
    name, *rest = words[words.index("downloader") + 1 :]
    inner = rest[:1] if name == "keys" else []
    said = await shell(f"{shlex.quote(sys.executable)} -m downloader {shlex.join([name, *inner])} --help", ROOT)
    assert [word for word in rest if word.startswith("-") and word not in said] == []


@pytest.mark.slow
async def test_an_operators_commands(tmp_path: Path) -> None:
    """Keys, the doctor and maintenance do what the README says, one after the other, in an empty folder."""
    wanted = [words for words in commands() if {"keys", "doctor", "maintenance"} & set(words)]
    assert len(wanted) == 5
    said = [await shell(shlex.join([sys.executable, *words[1:]]), tmp_path) for words in wanted]
    assert re.search(r"^dl_[a-z0-9]{12}_[\w-]{43}$", said[0], re.MULTILINE)
    assert "acme" in said[1]
    assert "Back at 17:00." in said[3]
    assert "maintenance is off: jobs are taken" in said[4]


def test_the_files_exist() -> None:
    """Locks and links lead somewhere."""
    named = re.findall(r"-r (\S+)", README) + re.findall(r"\]\(([^):#]+)\)", README)
    assert len(named) >= 6
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_ci_tests_what_the_readme_tests() -> None:
    """The last command of .ci/run is the README's test command, in its own environment."""
    last = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1]
    assert shlex.split(last)[1:] == next(words for words in commands() if "pytest" in words)[1:]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_table_names_every_call() -> None:
    """No route of the API is left out of the table, and none is made up."""
    table = README.split("| call | answer |")[1].partition("\n\n")[0]
    told = set(re.findall(r"`(?:[A-Z]+ )?(/[\w/{}.]+)[^`]*`(?=[^|]*\|)", table))
    routes = {route.path for route in ROUTES} - {"/"}
    assert {re.sub(r"\{[^}]*\}+", "{}", path) for path in told} == {
        re.sub(r"\{[^}]*\}+", "{}", path) for path in routes
    }


def test_the_table_names_every_code_of_a_file() -> None:
    """No way in which a file can fail is left out of the README, and none is made up."""
    told = set(re.findall(r"`([a-z_]+(?::N)?)`", "".join(re.findall(r"^\| (`[^|]*) \|", README, re.MULTILINE))))
    assert told == {re.sub(r":\w*$", ":N", code) for code in _raised_codes()}


def _raised_codes() -> Iterator[str]:
    """The first argument of every SourceError that the worker makes."""
    for path in (Path(downloader.__file__).parent / "work").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "SourceError":
                yield _text(node.args[0])
    yield SourceChangedError().code


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "N" for part in node.values)
    assert isinstance(node, ast.Constant), "a code is written out where it is raised"
    return str(node.value)


def test_the_settings_that_are_shown_are_settings(tmp_path: Path) -> None:
    """What stands there as TOML can be pasted into config.toml."""
    shown = re.findall(r"^```toml\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    (tmp_path / "config.toml").write_text("\n".join(shown))
    assert [bucket.name for bucket in load(tmp_path / "config.toml", environment={}).sources.buckets] == ["reports"]


def test_version_and_changelog_agree() -> None:
    """The newest version in the changelog is the version of the package."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(r"^## (\S+)", changelog, re.MULTILINE)
    assert found is not None
    assert found[1] == downloader.__version__
