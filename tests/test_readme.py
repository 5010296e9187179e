"""The README leads a stranger in: its first lines work, its tables are whole. What it shows runs in `test_docs.py`."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import zipfile
from pathlib import Path

import downloader
from downloader.web.routes import ROUTES
from tests.api import Api
from tests.examples import commands
from tests.files import Origin
from tests.pages import BASES, ROOT, blocks
from tests.servers import missing
from tests.sessions import at_end

README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
# What is seen without scrolling: what it is, the line that shows it and the line that tests it.
FIRST_SCREEN_LINES = 26


async def test_the_three_calls(api: Api, origin: Origin, tmp_path: Path) -> None:
    """Posted, followed and downloaded by curl, letter by letter as printed; only the addresses are ours."""
    if shutil.which("curl") is None:
        missing("curl")
    calls = "\n".join(block.text for block in blocks(README) if "curl" in block.text)
    urls = re.findall(r'https://[^"]+', calls)
    assert len(urls) == 2
    for number, url in enumerate(urls):
        calls = calls.replace(url, origin.url(1000 + number, "readme", url.rsplit("/", 1)[1]))
    assert calls.count(BASES[0]) == 3
    said = await at_end("bash", "-euo", "pipefail", "-c", calls.replace(BASES[0], api.base), cwd=tmp_path)
    assert "event: complete" in said
    assert [path.name for path in tmp_path.iterdir()] == ["standards.zip"]
    with zipfile.ZipFile(tmp_path / "standards.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["http/semantics.txt", "rfc9457.txt"]
        assert archive.read("rfc9457.txt") == origin.data(1001, "readme")


def test_the_first_screen() -> None:
    """Two lines to copy stand at the top: the demo, and the tests."""
    demo, tests = (block for block in blocks(README) if block.line <= FIRST_SCREEN_LINES)
    assert [words[1:] for words in commands(demo.text)] == [["demo", "--exit"]]
    assert "pytest" in tests.text


def test_the_locks_exist() -> None:
    """What pip is told to install from is there."""
    named = re.findall(r"-r (\S+)", TEXT)
    assert len(named) == 2
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_ci_tests_what_the_readme_tests() -> None:
    """The last command of .ci/run is the README's test command, in its own environment."""
    last = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1]
    shown = next(block.text for block in blocks(README) if "pytest" in block.text).split("&&")[-1]
    assert shlex.split(last)[1:] == shlex.split(shown)[1:]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_table_names_every_call() -> None:
    """No route of the API is left out of the table, and none is made up."""
    table = TEXT.split("| call | answer |")[1].partition("\n\n")[0]
    told = set(re.findall(r"`(?:[A-Z]+ )?(/[\w/{}.-]*)[^`]*`(?=[^|]*\|)", table))
    routes = {route.path for route in ROUTES}
    assert {re.sub(r"\{[^}]*\}+", "{}", path) for path in told} == {
        re.sub(r"\{[^}]*\}+", "{}", path) for path in routes
    }


def test_version_and_changelog_agree() -> None:
    """The newest version in the changelog is the version of the package."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(r"^## (\S+)", changelog, re.MULTILINE)
    assert found is not None
    assert found[1] == downloader.__version__
