"""The values of the table, and how a case becomes rows."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import pytest

from tests.field.answers import BODY, answer
from tests.field.bench import Bench, Finished
from tests.field.host import HOST
from tests.origins import RawOrigin, Script, raw_origin

WHOLE = "whole"
NOT_HERE = "not here"
LIMIT_S = 90.0


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    what: str
    expected: str
    got: str

    @property
    def right(self) -> bool:
        """Whether one of the expected outcomes was got; a tool that is not installed judges nothing."""
        return self.got in self.expected.split(" | ") or self.absent

    @property
    def absent(self) -> bool:
        """Whether it could not be tried."""
        return self.got.startswith(NOT_HERE)


@dataclass(frozen=True, slots=True)
class Seen:
    """One file after its job: what the status says, its bytes in the archive, and what its source noticed."""

    file: dict[str, Any]
    data: bytes | None
    body: bytes
    origin: RawOrigin

    @property
    def outcome(self) -> str:
        """`whole`, or the code, or in what way the bytes are wrong."""
        if self.file["status"] != "done":
            return str(self.file["error"]["code"])
        if self.data == self.body:
            return WHOLE
        size = -1 if self.data is None else len(self.data)
        return f"other bytes ({size} instead of {len(self.body)}, {hashlib.sha256(self.data or b'').hexdigest()[:8]})"


def outcome(seen: Seen) -> str:
    """What became of the file."""
    return seen.outcome


def name(seen: Seen) -> str:
    """Its name in the archive, if it is whole."""
    return str(seen.file["name"]) if seen.outcome == WHOLE else seen.outcome


def with_requests(seen: Seen) -> str:
    """What became of the file, and how often its source was asked."""
    return f"{seen.outcome}, {len(seen.origin.exchanges)} requests"


@dataclass(frozen=True, slots=True)
class Given:
    """One file: its source's answers, the path of its URL, more fields for the request, and what must come of it."""

    what: str
    script: Script
    expected: str = WHOLE
    path: str = "/f.bin"
    body: bytes = BODY
    fields: dict[str, Any] = field(default_factory=dict)
    look: Callable[[Seen], str] = outcome


@dataclass(frozen=True, slots=True)
class Story:
    """Anything else; `slow` ones are left out unless asked for, `alone` ones run when nothing else does.

    What measures time or memory may have several `tries`: the machine may be busy, and what is wrong is so each time.
    """

    what: str
    expected: str
    tell: Callable[[Bench], Awaitable[str]]
    slow: bool = False
    alone: bool = False
    tries: int = 1


@dataclass(frozen=True, slots=True)
class Case:
    """One case of the collection; `options` and `more` go into the request of the job of its files."""

    id: str
    title: str
    variants: tuple[Given | Story, ...]
    more: dict[str, Any] = field(default_factory=dict)
    check: Callable[[Finished], str] | None = None

    @property
    def alone(self) -> bool:
        """Whether something of it must not be disturbed."""
        return any(isinstance(variant, Story) and variant.alone for variant in self.variants)

    @property
    def slow(self) -> bool:
        """Whether it has slow stories."""
        return any(isinstance(variant, Story) and variant.slow for variant in self.variants)

    def without(self, left_out: Iterable[str]) -> Case:
        """The same case without these situations."""
        names = set(left_out)
        return replace(self, variants=tuple(variant for variant in self.variants if variant.what not in names))

    def only(self, what: str) -> Case:
        """The same case with one of its situations."""
        return replace(self, variants=tuple(variant for variant in self.variants if variant.what == what))

    async def run(self, bench: Bench, *, slow: bool = False) -> list[Row]:
        """Try all variants; the slow ones instead if `slow`."""
        files = [variant for variant in self.variants if isinstance(variant, Given) and not slow]
        stories = [variant for variant in self.variants if isinstance(variant, Story) and variant.slow == slow]
        if slow:
            return [await _told(story, bench) for story in stories]
        told = asyncio.gather(*(_told(story, bench) for story in stories))
        rows = await _tried(self, files, bench) if files else []
        return rows + list(await told)


async def _told(story: Story, bench: Bench) -> Row:
    for _ in range(story.tries):
        row = await _told_once(story, bench)
        if row.right:
            break
    return row


async def _told_once(story: Story, bench: Bench) -> Row:
    try:
        async with asyncio.timeout(LIMIT_S * (5 if story.slow else 1)):
            got = await story.tell(bench)
    except AssertionError as error:
        got = " ".join(str(error).split())[:300] or "an assertion without words"
    except pytest.skip.Exception as missing:
        got = f"{NOT_HERE}: {missing.msg}"
    except TimeoutError:
        got = "no end"
    except (aiohttp.ClientError, OSError) as error:
        got = f"{type(error).__name__}: {error}"[:300]
    return Row(story.what, story.expected, got)


async def _tried(case: Case, files: list[Given], bench: Bench) -> list[Row]:
    """One job with all files, a good one before them."""
    good = Given("the good file beside them", answer(), path="/good.bin")
    async with AsyncExitStack() as stack:
        every = [good, *files]
        origins = [await stack.enter_async_context(raw_origin(given.script, HOST)) for given in every]
        wanted = [{"url": origin.url(given.path)} | given.fields for given, origin in zip(every, origins, strict=True)]
        try:
            done = await bench.job(wanted, **case.more)
        except (AssertionError, aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            return [Row("the job of all files", "runs", f"{type(error).__name__}: {error}"[:300])]
        rows = [
            Row(given.what, given.expected, given.look(Seen(done.files[index], done.data(index), given.body, origin)))
            for index, (given, origin) in enumerate(zip(every, origins, strict=True))
        ]
    around = "; ".join(await asyncio.to_thread(done.complaints)) or "right"
    good_first = rows.pop(0)
    rows.append(Row("good file, events, counters, archive", "right", around if good_first.right else good_first.got))
    if case.check is not None:
        rows.append(Row("the archive as a whole", "right", await asyncio.to_thread(case.check, done)))
    return rows
