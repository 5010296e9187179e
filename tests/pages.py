"""The documentation as it lies there: its pages, their blocks of code, their headings and links."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
# What examples say, and what a test puts in its place.
BASES = ("http://127.0.0.1:8080", "https://downloads.example.com")
SOURCE = re.compile(r"https://www\.rfc-editor\.org/rfc/([\w.-]+)")
RECEIVER_PORT = "9000"
# Lines with tests of their own: a newcomer's, and those of the command line.
_ELSEWHERE = re.compile(r"pip install|-m pytest|downloader (?:serve|demo)\b|-m tests\.")
_FENCE = re.compile(r"^( *)(`{3,}|~{3,})([^\n`]*)\n(.*?)^\1\2 *$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(<?([^)\s>]+)>?\)")


@dataclass(frozen=True)
class Block:
    """A block of code: its page, its first line there, and the words behind the fence."""

    page: Path
    line: int
    language: str
    words: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        """Where it stands, for people who have to mend it."""
        return f"{self.page.relative_to(ROOT)}:{self.line}: ```{' '.join((self.language, *self.words))}"

    @property
    def file(self) -> str | None:
        """The name of the file that the block is, when it says so by `file=NAME`."""
        return next((word.removeprefix("file=") for word in self.words if word.startswith("file=")), None)

    @property
    def is_output(self) -> bool:
        """Whether it shows what the block before it says."""
        return "output" in self.words

    @property
    def runs(self) -> bool:
        """Whether it is run, and not only looked at."""
        is_run = self.language in {"sh", "python", "js"} and "elsewhere" not in self.words and self.file is None
        return is_run and not (self.language == "sh" and _ELSEWHERE.search(self.text))


def pages() -> list[Path]:
    """The README and every page of the documentation."""
    return [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


@lru_cache
def blocks(page: Path) -> tuple[Block, ...]:
    """The blocks of code of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        language, *words = match[3].split() or [""]
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(page, line, language, tuple(words), textwrap.dedent(match[4])))
    return tuple(found)


@lru_cache
def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    """Where a page's links lead."""
    return _LINK.findall(prose(page))


@lru_cache
def anchors(page: Path) -> frozenset[str]:
    """The anchors that GitHub gives a page's headings."""
    found: list[str] = []
    for heading in re.findall(r"^#{1,6} (.+?)\s*#*$", prose(page), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return frozenset(found)
