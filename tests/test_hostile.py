"""Hostile names, random archives, spelled inner addresses, a moody source, strange requests: the figures are right.

`python -m tests.hostile` prints the same for more. The judges are judged too: each has to see a fault.
"""

from __future__ import annotations

import asyncio
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.hostile.addresses import CANARIES, GOOD, forms
from tests.hostile.archives import try_archives
from tests.hostile.flaky import try_flaky_with
from tests.hostile.grammar import urls
from tests.hostile.guard import (
    SECRET,
    GuardFigures,
    Yard,
    nothing_gets_through,
    standing_yard,
    try_guard,
    try_url,
    yard,
)
from tests.hostile.moody import sent_files
from tests.hostile.names import try_names
from tests.hostile.nasty import FAMILIES, hostile_names
from tests.hostile.rawhttp import judged, try_http, try_http_with
from tests.hostile.twins import collisions
from tests.hostile.unpacking import Sample, complaints
from tests.hostile.windows import character_faults, windows_faults
from tests.readers import Found
from tests.servers import S3, Redis

# Names


@pytest.mark.slow
def test_hostile_names_are_harmless_to_every_reader() -> None:
    """Several hundred hostile names: every reader unpacks what we say, nothing collides, nothing leaves its folder."""
    figures = try_names(400, seed=2)
    assert figures.faults == []
    assert figures.changed > 200


@pytest.mark.slow
def test_ten_thousand_hostile_names() -> None:
    """The same for 10,000 in one archive."""
    figures = try_names(10_000)
    assert figures.faults == []
    assert figures.wanted == 10_000


def test_made_up_names_are_the_same_for_a_seed() -> None:
    """So that a failure can be repeated; and every family has its turn."""
    assert hostile_names(500, 3) == hostile_names(500, 3) != hostile_names(500, 4)
    assert len(FAMILIES) == 20


_ILLEGAL = [
    "a:b", "a\\b", "what?", "a|b", "x\x1f", "\0", "a ", "a.", "folder./x", "CON", "con.txt", "Aux .c", "nul.tar.gz",
    "LPT¹", "com0.x", "conin$", "a//b", "../x", "/x", "x" * 256, "😀" * 128, "a/" * 130 + "x",
]  # fmt: skip


@pytest.mark.parametrize("path", _ILLEGAL)
def test_the_judge_of_windows_names_sees_faults(path: str) -> None:
    """By Microsoft's rules."""
    assert list(windows_faults(path))


@pytest.mark.parametrize(
    "path", ["PROGRA~1", "console.txt", "com", "com10", " a", "a.b/c d", "x" * 255, "é" * 255, "a(2)"]
)
def test_the_judge_of_windows_names_has_nothing_against_good_ones(path: str) -> None:
    """No rule of our own."""
    assert not list(windows_faults(path))
    assert not list(character_faults(path))


@pytest.mark.parametrize("bad", ["\x85", "\ud800", "\ufdd0", "\U0001fffe", "\U0010ffff", "\u202e", "\u2066"])
def test_the_judge_of_characters_sees_them(bad: str) -> None:
    """Controls, surrogates, noncharacters, and what turns text around."""
    assert list(character_faults(f"a{bad}b"))


@pytest.mark.parametrize(
    "paths",
    [
        ["a", "A"],
        ["straße", "STRASSE"],
        ["é", "e\u0301"],
        ["ﬁ", "fi"],
        ["\u212b", "å"],
        ["a", "a/b"],
        ["A/b", "a"],
        ["a/x", "A/y"],
        ["same", "other", "same"],
    ],
)
def test_the_judge_of_twins_sees_them(paths: list[str]) -> None:
    """Two names that are one somewhere, a file that is a folder, a folder with two spellings."""
    assert collisions(paths)


def test_the_judge_of_twins_has_nothing_against_others() -> None:
    """A dotless i is another letter."""
    assert collisions(["a/b", "a/c", "ab", "ilik", "ılık"]) == []


def test_readers_complain_of_what_is_not_as_announced(tmp_path: Path) -> None:
    """Files that are missing, unannounced, other or damaged are seen by all; a way outside by all that unpack."""
    good = Sample(_zipped(tmp_path / "good.zip", {"a": b"a"}), [_found("a", b"a")])
    other = _zipped(tmp_path / "other.zip", {"a": b"a", "b": b"x", "more": b""})
    outside = _zipped(tmp_path / "outside.zip", {"x/../../escaped": b"x"})
    damaged = _zipped(tmp_path / "damaged.zip", {"a": b"evil"})
    damaged.write_bytes(damaged.read_bytes().replace(b"evil", b"evim"))
    samples = [
        good,
        Sample(other, [_found("a", b"a"), _found("b", b"b"), _found("gone", b"")]),
        Sample(outside, [_found("x/../../escaped", b"x")]),
        Sample(damaged, [_found("a", b"evil")]),
    ]
    for reader, said in complaints(samples).items():
        texts = {sample.path: [text for text in said if text.startswith(sample.path.name)] for sample in samples}
        assert texts[other], reader
        assert texts[damaged], reader
        assert texts[outside] or reader in ("python zipfile", "java ZipInputStream", "java ZipFile"), reader
        # 7-Zip takes all in one, and tells us of what is wrong with one of them for all.
        assert reader == "7z" or (texts[good.path], len(texts[other])) == ([], 4), reader


def _found(name: str, data: bytes) -> Found:
    return Found(name, len(data), zlib.crc32(data))


def _zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return path


# Archives


@pytest.mark.slow
def test_random_archives_are_read_by_everybody() -> None:
    """Any sizes, methods, dates, part sizes and rollbacks."""
    figures = try_archives(30, seed=2)
    assert figures.faults == []
    assert figures.entries > 100
    assert figures.rolled_back > 20
    assert figures.split_headers > 20


@pytest.mark.slow
def test_a_thousand_random_archives() -> None:
    """The same for 1,000."""
    figures = try_archives(1000)
    assert figures.faults == []
    assert figures.archives == 1000
    assert figures.empty > 10


# Guard


def test_no_spelling_of_an_inner_address_is_dialled() -> None:
    """Every tenth form, directly and by every redirect: no dial, no byte, and only refusals that are known."""
    figures = try_guard(forms()[::10])
    assert figures.faults == []
    assert (figures.inner_dials, figures.accepted) == (0, 0)
    assert figures.hops > 1000
    assert figures.good_dials > 0


@pytest.mark.slow
def test_no_spelling_at_all_is_dialled() -> None:
    """All forms, and five hundred URLs that Hypothesis makes up."""
    figures = try_guard(fuzzed=500)
    assert figures.faults == []
    assert (figures.inner_dials, figures.accepted) == (0, 0)
    assert figures.forms > 300
    assert figures.good_dials > 0


@pytest.fixture(scope="module")
def standing() -> Iterator[tuple[asyncio.Runner, Yard]]:
    """One yard for all examples."""
    with standing_yard() as made:
        yield made


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(urls())
def test_no_url_of_the_grammar_is_dialled(standing: tuple[asyncio.Runner, Yard], text: str) -> None:
    """Other ones with every run; what gets through is made as short as can be."""
    nothing_gets_through(*standing, text, GuardFigures())


@pytest.mark.parametrize("canary", CANARIES)
async def test_both_witnesses_see_a_dial(canary: str) -> None:
    """When the operator opens the loopback, the secret comes out, the canary counts, and the audit hook tells."""
    async with yard(["127.0.0.0/8", "::1/128"]) as made:
        host = f"[{canary}]" if ":" in canary else canary
        code, data = await made.ask(f"http://{host}:{made.port}/", "a dial that is meant")
        assert (code, data) == ("done", SECRET)
        assert made.accepted == 1
        assert made.witness.outside(GOOD) == [(canary, "a dial that is meant")]
        figures = GuardFigures()
        await try_url(made, f"http://{host}:{made.port}/", figures)
        figures.count(made)
        assert len(figures.faults) > 8


# Flaky


@pytest.mark.slow
def test_all_files_of_a_moody_source_arrive(valkey: Redis, s3: S3) -> None:
    """A hundred files, one request in five fails: all arrive as they are, at little more than their bytes."""
    figures = try_flaky_with(valkey, s3, 100, seed=2)
    assert figures.faults == []
    assert figures.done == 100
    assert figures.moods.total() > 10
    assert figures.overhead < 1.5


@pytest.mark.slow
def test_a_thousand_files_of_a_moody_source_arrive(valkey: Redis, s3: S3) -> None:
    """The same for 1,000."""
    figures = try_flaky_with(valkey, s3, 1000)
    assert figures.faults == []
    assert figures.done == figures.files == 1000
    assert len(figures.moods) >= 8, "some only come by resuming, and how much is resumed is a matter of speed"
    assert figures.resumed > 30
    assert figures.overhead < 1.2


def test_the_moody_source_has_files_of_all_sizes() -> None:
    """And the same for a seed."""
    files = sent_files(1000, 1)
    assert files == sent_files(1000, 1)
    assert min(file.size for file in files) < 100
    assert max(file.size for file in files) > 200_000


# HTTP


async def test_strange_requests_are_answered_well(valkey: Redis, s3: S3) -> None:
    """Many requests in bad hands: no 5xx, refusals are problems, no error in the log, no memory kept."""
    figures = await try_http_with(valkey, s3, 150, seed=7, to_the_end=False)
    assert figures.faults == []
    assert figures.statuses.total() > 120
    assert {200, 202, 400, 404} <= set(figures.statuses)


@pytest.mark.slow
def test_many_more_strange_requests() -> None:
    """The same for 1,500, and whoever waits for an answer gets one, or is left."""
    figures = try_http(1500)
    assert figures.faults == []
    assert figures.statuses[408] > 10


def test_the_judge_of_answers_sees_faults() -> None:
    """A 500, a refusal that is no problem, one with another status than its own, and what is no HTTP."""
    fine = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    problem = b'{"code":"not_found","status":404,"error":"x"}'
    head = b"HTTP/1.1 %d X\r\nContent-Type: application/problem+json\r\nContent-Length: 45\r\n\r\n"
    assert judged(fine + head % 404 + problem + fine, Counter()) == []
    assert judged(fine + head % 500 + problem, Counter()) == ["status 500", f"500 with a strange problem: {problem!r}"]
    assert judged(b"HTTP/1.1 400 X\r\nContent-Length: 2\r\n\r\nno", Counter()) == ["400 as None"]
    assert judged(fine + b"<html>", Counter()) == ["no HTTP: b'<html>'"]
