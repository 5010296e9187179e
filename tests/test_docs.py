"""Whatever the documentation shows is so: each example runs or is looked at, each link leads somewhere."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

import downloader
from downloader.config import Settings
from downloader.errors import SourceChangedError
from tests import reference
from tests.api import Api
from tests.conftest import Start
from tests.examples import EMPTY_WORDS, compare, fault
from tests.files import Origin
from tests.pages import BASES, DOCS, RECEIVER_PORT, ROOT, SOURCE, Block, anchors, blocks, links, pages, prose
from tests.servers import free_ports, missing
from tests.sessions import Browser, Session, at_end, browser, node, session
from tests.test_cli import as_flag

HOUSE = Path(downloader.__file__).parent
# What callbacks.md shows as the secret.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqr"
# What a browser notes of a call that an example has refused on purpose.
REFUSED = ("Failed to load resource: the server responded with a status of 4",)
S3_CALL = re.compile(r"""\.(?:get_paginator\("(\w+)"\)|(\w+)\(\s*Bucket=)""")
RIGHTS = {
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    "complete_multipart_upload": "s3:PutObject",
    "create_multipart_upload": "s3:PutObject",
    "delete_object": "s3:DeleteObject",
    "get_object": "s3:GetObject",
    "head_bucket": "s3:ListBucket",
    "head_object": "s3:GetObject",
    "list_multipart_uploads": "s3:ListBucketMultipartUploads",
    "list_objects_v2": "s3:ListBucket",
    "put_object": "s3:PutObject",
    "upload_part": "s3:PutObject",
    "upload_part_copy": "s3:PutObject",  # and s3:GetObject for what is copied
}
# What a reader of the examples has to have beside the program.
TOOLS = ("curl", "unzip")
# How long a source takes to answer: streams have something to tell.
SOURCE_S = 0.2
CHANGES: dict[str, dict[str, Any]] = {
    "webhook": {"secret": SECRET, "first_pause_s": 0.1},
    "server": {"cors_origins": ["*"]},
}


def _title(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _runs(page: Path) -> bool:
    return any(block.runs or block.language == "html" for block in blocks(page))


@pytest.mark.parametrize("page", pages(), ids=_title)
def test_the_examples_as_they_stand(page: Path, tmp_path: Path) -> None:
    """Each block of code says what it is, by words that are known, and is that as far as looking at it tells."""
    wrong = [f"{block}: {said}" for block in blocks(page) if (said := fault(block, tmp_path))]
    assert not wrong, "\n".join(wrong)
    assert not re.search("```|~~~", prose(page)), "a block that is not closed, or stands within another"
    shown = [block for block in blocks(page) if block.is_output]
    assert all(any(one.runs and one.line < block.line for one in blocks(page)) for block in shown)


@pytest.mark.parametrize("page", pages(), ids=_title)
def test_the_links(page: Path) -> None:
    """Every link within the project leads to a file that is there, and to a heading that is in it."""
    wrong = []
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    assert not wrong


def test_every_page_is_in_the_index() -> None:
    """docs/README.md leads to every page, and README.md leads to it."""
    listed = {link.partition("#")[0] for link in links(DOCS / "README.md")}
    assert {page.name for page in DOCS.glob("*.md")} - {"README.md"} <= listed
    assert any(link.startswith("docs") for link in links(ROOT / "README.md"))


@pytest.mark.parametrize("page", pages(), ids=_title)
def test_the_language_is_plain(page: Path) -> None:
    """One title, no level of headings left out, and no word that sells."""
    assert EMPTY_WORDS.findall(prose(page)) == []
    levels = [len(marks) for marks in re.findall(r"^(#{1,6}) ", prose(page), re.MULTILINE)]
    assert levels[:1] == [1]
    assert 1 not in levels[1:]
    assert all(below - above <= 1 for above, below in pairwise(levels))


@pytest.mark.parametrize("name", reference.PAGES)
def test_the_reference_is_fresh(name: str) -> None:
    """What is made from the code is what the code makes."""
    said = (DOCS / name).read_text(encoding="utf-8")
    assert said == reference.PAGES[name](), "run: python -m tests.reference"


@pytest.mark.parametrize("page", pages(), ids=_title)
def test_the_names(page: Path) -> None:
    """Settings, metrics and variables of the environment that a page speaks of are those of the code."""
    code = "".join(path.read_text(encoding="utf-8") for path in HOUSE.rglob("*.py"))
    told = re.findall(r"`([a-z]+)\.([a-z_]+)\b(?![.*/])[^`]*`", prose(page))
    names = [pair for pair in told if pair[0] in Settings.model_fields and f'"{".".join(pair)}"' not in code]
    variables = re.findall(r"DOWNLOADER_([A-Z]+)__([A-Z_]+)\b", page.read_text(encoding="utf-8"))
    names += [(section.lower(), key.lower()) for section, key in variables if section != "SECTION"]
    assert [name for name in names if not _is_setting(*name)] == []
    metrics = re.findall(r"`downloader_([a-z_]+)", prose(page))
    assert [name for name in metrics if re.sub("_(?:total|bucket|count)$", "", name) not in code] == []


def _is_setting(section: str, key: str) -> bool:
    keys = type(getattr(Settings(), section)).model_fields
    return key in keys or key.removesuffix("_file") in keys  # as a variable, the path of a file that holds it


def test_every_alert_has_its_advice() -> None:
    """Each alert of docker/alerts.yaml has a section in operations.md, and each section its alert."""
    rules = yaml.safe_load((ROOT / "docker" / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    alerts = {rule["alert"].lower() for group in rules for rule in group["rules"]}
    assert {anchor for anchor in anchors(DOCS / "operations.md") if anchor.startswith("downloader")} == alerts


def test_the_policy_is_what_the_code_calls() -> None:
    """The rights in operations.md are those of the calls that the store gets, no more and no less."""
    (policy,) = (block for block in blocks(DOCS / "operations.md") if "policy" in block.words)
    allowed = {action for one in json.loads(policy.text)["Statement"] for action in one["Action"]}
    texts = [path.read_text(encoding="utf-8") for path in (HOUSE / "work").glob("*.py")]
    called = {name for text in texts for names in S3_CALL.findall(text) for name in names if name}
    assert {RIGHTS[name] for name in called - {"create_bucket", "paginate"}} == allowed


def test_the_table_names_every_code_of_a_file() -> None:
    """No way in which a file can fail is left out of docs/sources.md, and none is made up."""
    cells = "".join(re.findall(r"^\| (`[^|]*) \|", (DOCS / "sources.md").read_text(encoding="utf-8"), re.MULTILINE))
    told = set(re.findall(r"`([a-z_]+(?::N)?)`", cells))
    assert told == {re.sub(r":\w*$", ":N", code) for code in _raised_codes()}


def _raised_codes() -> Iterator[str]:
    """The first argument of every SourceError that the worker makes."""
    for path in (HOUSE / "work").rglob("*.py"):
        for part in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id == "SourceError":
                yield _text(part.args[0])
    yield SourceChangedError().code


def _text(code: ast.expr) -> str:
    if isinstance(code, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "N" for part in code.values)
    assert isinstance(code, ast.Constant), "a code is written out where it is raised"
    return str(code.value)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", [page for page in pages() if _runs(page)], ids=_title)
async def test_the_examples_run(
    page: Path, start: Start, settings: dict[str, Any], origin: Origin, tmp_path: Path
) -> None:
    """A page's examples run in their order, in one shell, one Python and one browser, against a real service.

    What is shown as their output has the shape of what they really say.
    """
    for tool in TOOLS:
        if shutil.which(tool) is None:
            missing(tool)
    async with start(**CHANGES) as api, AsyncExitStack() as stack:
        origin.delay_s = SOURCE_S
        await Run(api, origin, tmp_path, settings, stack).all(blocks(page))


class Run:
    """The examples of one page at work: what they say of addresses is replaced by what a test has."""

    def __init__(
        self, api: Api, origin: Origin, folder: Path, settings: Mapping[str, Any], stack: AsyncExitStack
    ) -> None:
        self._api = api
        self._origin = origin
        self._folder = folder / "page"
        self._stack = stack
        self._environment = _environment(settings, _programs(folder / "bin"))
        (self._port,) = free_ports(1)
        self._sessions: dict[str, Session] = {}
        self._browser: Browser | None = None

    async def all(self, listed: Iterable[Block]) -> None:
        """Write the blocks that are files, run those that run, compare those that show what was said."""
        listed, said = list(listed), ""
        for block in listed:
            if block.file is not None and block.language in {"python", "js", "sh", "json", "text", "toml"}:
                (self._folder / block.file).write_text(self._ours(block.text), encoding="utf-8")
        for block in listed:
            if block.runs:
                said = await self._run(block)
            elif block.is_output:
                compare(block, said)
            elif block.language == "html" and "elsewhere" not in block.words:
                await _shown(self._ours(block.text))

    async def _run(self, block: Block) -> str:
        text = self._ours(block.text)
        try:
            if block.language != "js":
                return await (await self._session(block.language)).run(text)
            if "node" in block.words:
                (self._folder / "block.mjs").write_text(text, encoding="utf-8")
                return await at_end(node(), "block.mjs", cwd=self._folder, environment=self._environment)
            return await (await self._in_browser()).run(text)
        except Exception as error:
            raise AssertionError(f"{block}\n{error}") from error

    async def _session(self, language: str) -> Session:
        if language not in self._sessions:
            opened = session(language, self._folder, self._environment)
            self._sessions[language] = await self._stack.enter_async_context(opened)
        return self._sessions[language]

    async def _in_browser(self) -> Browser:
        if self._browser is None:
            self._browser = await self._stack.enter_async_context(browser(allowed=REFUSED))
        return self._browser

    def _ours(self, text: str) -> str:
        for base in BASES:
            text = text.replace(base, self._api.base)
        return SOURCE.sub(self._source, text).replace(RECEIVER_PORT, str(self._port))

    def _source(self, match: re.Match[str]) -> str:
        name = match[1]
        if name.startswith("missing"):
            return f"{self._origin.status(404)}/{name}"
        return self._origin.url(1000 + int("0" + "".join(re.findall(r"\d", name))), "docs", name)


async def _shown(html: str) -> None:
    """A page of somebody's site with this in it loads all that it asks for, without an error, and it knows its tags."""
    async with browser(f"<!doctype html><html lang=en><meta charset=utf-8><title>Site</title>\n{html}") as site:
        await site.page.wait_for_load_state("networkidle")
        names = set(await site.page.evaluate("[...document.querySelectorAll('*')].map(element => element.localName)"))
        known = [await site.page.evaluate("name => !!customElements.get(name)", name) for name in names if "-" in name]
        assert all(known)


def _environment(settings: Mapping[str, Any], programs: Path) -> dict[str, str]:
    """What the program's own commands need to reach the same Redis and bucket as the service."""
    ours = {
        f"DOWNLOADER_{section}__{key}".upper(): str(as_flag(value))
        for section in ("redis", "storage", "sources")
        for key, value in settings[section].items()
    }
    return ours | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "DOWNLOADER_WEBHOOK__SECRET": SECRET,
        "WEBHOOK_SECRET": SECRET,
        "COLUMNS": "120",
    }


def _programs(folder: Path) -> Path:
    """A folder with what people have on their PATH: `downloader`, `python`, `node`; and the README's `.venv`."""
    folder.mkdir()
    (folder.parent / "page" / ".venv").mkdir(parents=True)
    (folder.parent / "page" / ".venv" / "bin").symlink_to(folder)
    for name, command in (
        ("downloader", f"{sys.executable} -m downloader"),
        ("python", sys.executable),
        ("python3", sys.executable),
        ("node", node()),
    ):
        (folder / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
        (folder / name).chmod(0o755)
    return folder
