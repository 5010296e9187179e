"""Names: whatever is wanted, what comes out is safe everywhere, unique, and as close as can be."""

from __future__ import annotations

import re
import time
import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from downloader.jobs import Source
from downloader.names import NameBook, late_name, safe_name, same_key, wanted_name
from downloader.work.disposition import filename

DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} | {p + d for p in ("COM", "LPT") for d in "0123456789¹²³"}
# Strings that reach for trouble more often than chance would.
NASTY = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "/",
                "\\",
                "..",
                ".",
                "C:",
                "con",
                "AUX.",
                " ",
                "\t",
                "\0",
                "\r\n",
                "\u202e",
                "\u2066",
                "\ud800",
                "\udce9",
                "e\u0301",
                "\u200d",
                "\U0001f468",
                "\U0001f3fd",
                "\U0001f1e9",
                "\uff0f",
                "\uff0e",
                "\u0130",
                "\u00df",
                "\ufb01",
                ".tar.gz",
                "x" * 140,
                "\u00e9" * 130,
                "(2)",
                " (2)",
            ]
        ),
        st.text(max_size=8),
    ),
    max_size=12,
).map("".join)


def is_legal_everywhere(path: str) -> bool:
    """The strictest of Windows, macOS and Linux, part by part."""
    parts = path.split("/")
    return (
        0 < len(path) <= 200
        and unicodedata.normalize("NFC", path) == path
        and not re.search('[\0-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff<>:"|?*\\\\]', path)
        and all(part not in ("", ".", "..") and part[-1] not in ". " and part == part.strip() for part in parts)
        and all(len(part) <= 150 and len(part.encode()) <= 255 for part in parts)
        and all(part.split(".")[0].rstrip().upper() not in DEVICES for part in parts)
    )


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("report.pdf", "report.pdf"),
        ("日本語.pdf", "日本語.pdf"),
        ("cafe\u0301.txt", "caf\u00e9.txt"),
        ("😀.txt", "😀.txt"),
        ("a/b/c.txt", "a/b/c.txt"),
        ("../../etc/x", "etc/x"),
        ("..\\..\\x", "x"),
        ("/abs", "abs"),
        ("\\abs", "abs"),
        ("C:\\w\\x", "w/x"),
        ("C:/w", "w"),
        ("c:x", "c_x"),
        ("//srv/s/x", "srv/s/x"),
        ("\\\\srv\\s\\x", "srv/s/x"),
        ("a/./b", "a/b"),
        ("a//b", "a/b"),
        ("a/..", "a"),
        ("\uff0e\uff0e\uff0fx", "\uff0e\uff0e_x"),
        ("..%5cx", "..%5cx"),
        ("", "download"),
        (".", "download"),
        ("..", "download"),
        ("/", "download"),
        ("...", "download"),
        (" . ", "download"),
        ("a. ", "a"),
        ("a /b", "a/b"),
        (".htaccess", ".htaccess"),
        ("aux.c", "_aux.c"),
        ("Con.Man.s01.mkv", "_Con.Man.s01.mkv"),
        ("nul", "_nul"),
        ("LPT1.txt", "_LPT1.txt"),
        ("COM¹", "_COM¹"),
        ("con .txt", "_con .txt"),
        ("aux/x", "_aux/x"),
        ("console.txt", "console.txt"),
        ("a:b.txt", "a_b.txt"),
        ("test|order.txt", "test_order.txt"),
        ("what?.pdf", "what_.pdf"),
        ('quote"x".txt', "quote_x_.txt"),
        ("ev\0il.txt", "ev_il.txt"),
        ("a\r\nb", "a__b"),
        ("caf\udce9.txt", "caf_.txt"),
        ("a\u202etxt.exe", "a_txt.exe"),
    ],
)
def test_the_table(wanted: str, name: str) -> None:
    """Each row of the rule."""
    assert safe_name(wanted) == name
    assert is_legal_everywhere(name)


@given(NASTY)
def test_any_name_becomes_safe_and_stays(wanted: str) -> None:
    """The result is legal everywhere, and a safe name is not changed again."""
    name = safe_name(wanted)
    assert is_legal_everywhere(name)
    assert safe_name(name) == name


@given(st.from_regex(r"[A-Za-z0-9_()+, .-]{1,110}", fullmatch=True))
def test_plain_names_are_what_the_long_way_makes_of_them(wanted: str) -> None:
    """Names of harmless characters are seen to by one look; in a folder they go the long way."""
    assume(wanted.strip(". "))
    assert safe_name("folder/" + wanted) == "folder/" + safe_name(wanted)


@given(st.lists(NASTY, max_size=25))
def test_names_of_an_archive_are_unique_everywhere(wanted: list[str]) -> None:
    """Unlike in any case and any Unicode form, and no file stands where a folder is."""
    book = NameBook()
    names = [book.reserve(text) for text in wanted]
    assert all(is_legal_everywhere(name) for name in names)
    keys = [same_key(name) for name in names]
    assert len(set(keys)) == len(keys)
    folders = {same_key("/".join(name.split("/")[:end])) for name in names for end in range(1, name.count("/") + 1)}
    assert not folders & set(keys)


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (["report.pdf"] * 3, ["report.pdf", "report (2).pdf", "report (3).pdf"]),
        (["a.tar.gz"] * 2, ["a.tar.gz", "a (2).tar.gz"]),
        (["a", "A", "a (2)"], ["a", "A (2)", "a (2) (2)"]),
        (["a (2).x", "a.x", "a.x"], ["a (2).x", "a.x", "a (3).x"]),
        ([".env"] * 2, [".env", ".env (2)"]),
        (["a", "a/b", "a/c"], ["a", "a (2)/b", "a (2)/c"]),
        (["a/b", "a", "A/c"], ["a/b", "a (2)", "a/c"]),
        (["a/b", "a/b/c"], ["a/b", "a/b (2)/c"]),
        (["caf\u00e9", "cafe\u0301"], ["caf\u00e9", "caf\u00e9 (2)"]),
        (["stra\u00dfe", "STRASSE"], ["stra\u00dfe", "STRASSE (2)"]),
        (["\ufb01.txt", "fi.txt"], ["\ufb01.txt", "fi (2).txt"]),
        (["a.", "a"], ["a", "a (2)"]),
    ],
)
def test_second_ones_are_numbered(wanted: list[str], names: list[str]) -> None:
    """Before the extension, in the order of asking, whatever the numbers meet."""
    book = NameBook()
    assert [book.reserve(text) for text in wanted] == names


def test_long_names_keep_their_extension() -> None:
    """300 and 5,000 characters, and emoji by bytes; a joined emoji and a mark are not parted from their base."""
    assert safe_name("x" * 300 + ".pdf") == "x" * 146 + ".pdf"
    assert safe_name("x" * 5000 + ".tar.gz") == "x" * 143 + ".tar.gz"
    emoji = safe_name("😀" * 120 + ".png")
    assert emoji.endswith("😀.png")
    assert len(emoji.encode()) <= 255
    family = "👨\u200d👩\u200d👧"
    assert safe_name(family * 60).endswith(family)
    assert safe_name("x" * 149 + "q\u0323\u0323y")[-1] == "x"
    assert safe_name("🇩🇪" * 60).count("🇩") == safe_name("🇩🇪" * 60).count("🇪")
    assert safe_name("no extension " * 30).startswith("no extension no")
    assert len(safe_name("a." + "y" * 300)) == 150


def test_long_paths_are_cut_and_stay_together() -> None:
    """200 characters in all; two files of one long folder remain in one folder."""
    deep = "/".join(["folder with a rather long name"] * 20)
    one, two = NameBook(), NameBook()
    names = [one.reserve(f"{deep}/{name}.txt") for name in ("a", "b" * 150, "b" * 150)]
    assert all(is_legal_everywhere(name) for name in names)
    assert len({name.rpartition("/")[0] for name in names}) == 1
    assert two.reserve("f" * 300 + "/x.txt").endswith("/x.txt")


def test_equal_in_the_first_255_bytes() -> None:
    """Two long names that are cut to one are told apart again."""
    book = NameBook()
    names = [book.reserve("é" * 300 + end + ".txt") for end in ("one", "two")]
    assert names[0] != names[1]
    assert names[1].endswith(" (2).txt")
    assert all(is_legal_everywhere(name) for name in names)


@pytest.mark.parametrize(
    "wanted",
    [
        ["same.txt"] * 70_000,
        [f"same ({number}).txt" for number in range(2, 35_002)] + ["same.txt"] * 35_000,
        ["x" * 145 + f"{number:05d}" for number in range(35_000)] * 2,
        ["folder/same"] * 70_000,
    ],
)
def test_time_for_many_names_does_not_explode(wanted: list[str]) -> None:
    """70,000 names, equal or made to collide, within seconds."""
    book = NameBook()
    since = time.process_time()
    assert len({book.reserve(name) for name in wanted}) == 70_000
    assert time.process_time() - since < 15


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://h/a/report.pdf?sig=x.y#f.z", "report.pdf"),
        ("http://h/%C3%A9t%C3%A9.txt", "été.txt"),
        ("http://h/%2e%2e%2fx.txt", "x.txt"),
        ("http://h/%252e%252e%252fx.txt", "%2e%2e%2fx.txt"),
        ("http://h/..%5cx.txt", "x.txt"),
        ("http://h/a%00b.txt", "a\0b.txt"),
        ("http://h/caf%E9.txt", "caf\ufffd.txt"),
        ("http://h/noext", None),
        ("http://h/", None),
        ("http://h.example.com", None),
        ("http://h/get.php?id=7", None),
        ("http://h/.hidden", None),
        ("http://h/..", None),
    ],
)
def test_names_from_urls(url: str, name: str | None) -> None:
    """The last segment, decoded once, when it looks like a file."""
    assert wanted_name(Source(0, 0, url)) == name


def test_explicit_names_win_and_late_ones_come_last() -> None:
    """Explicit, then URL, then Content-Disposition, then the segment that looks like no file."""
    assert wanted_name(Source(0, 0, "http://h/x.pdf", name="sub/y")) == "sub/y"
    assert late_name(Source(0, 0, "http://h/get.php"), "a.pdf") == "a.pdf"
    assert late_name(Source(0, 0, "http://h/noext"), None) == "noext"
    assert late_name(Source(0, 0, "http://h/"), None) == "download"


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (None, None),
        ("", None),
        ("attachment", None),
        ("inline; filename=", None),
        ('attachment; filename=""', None),
        ("attachment; filename=a.txt", "a.txt"),
        ("attachment; filename=a b.txt", "a b.txt"),
        ('attachment; filename="a;b.txt"', "a;b.txt"),
        ('attachment; filename="a\\"b.txt"', 'a"b.txt'),
        ("attachment; FileName=A.TXT", "A.TXT"),
        ("filename=x.txt", "x.txt"),
        ("attachment; filename=\"e.txt\"; filename*=UTF-8''%e2%82%ac.txt", "€.txt"),
        ("attachment; filename*=UTF-8''%e2%82%ac.txt; filename=e.txt", "€.txt"),
        ("attachment; filename*=ISO-8859-1'en'caf%E9.txt", "café.txt"),
        ("attachment; filename*=UTF-8''caf%E9.txt; filename=cafe.txt", "cafe.txt"),
        ("attachment; filename*=UTF-8''caf%E9.txt", None),
        ("attachment; filename*=KOI8-X''a; filename=b", "b"),
        ("attachment; filename*=nonsense; filename=b", "b"),
        ("attachment; filename*=UTF-8''John's%20Resume%20(1).pdf", "John's Resume (1).pdf"),
        ("attachment; filename=John%27s%20Resume.pdf", "John's Resume.pdf"),
        ("attachment; filename=100%.txt", "100%.txt"),
        ("attachment; filename=caf%E9.txt", "caf%E9.txt"),
        ('attachment; filename="../../x"', "x"),
        ('attachment; filename="..\\..\\secret.pdf"', "secret.pdf"),
        ('attachment; filename="C:\\dir\\x.pdf"', "x.pdf"),
        ("attachment; filename=..", None),
        ("attachment; filename=caf\udce9.txt", "café.txt"),
        ("attachment; filename=a.txt; filename=b.txt", "a.txt"),
        ('attachment; filename="unclosed.txt', "unclosed.txt"),
        ('attachment; name="a; filename=evil.txt"; filename=good.txt', "good.txt"),
        ('attachment; name="a\\"; filename=evil.txt"; filename=good.txt', "good.txt"),
        ("attachment; xfilename=evil.txt; filename=good.txt", "good.txt"),
        ("attachment; filename*0=long-; filename*1=name.txt", "long-name.txt"),
        ("attachment; filename*1*=%AC.txt; filename*0*=UTF-8''%E2%82", "€.txt"),
        ("attachment; filename*1=b; filename=a.txt", "a.txt"),
        ('attachment; filename="=?UTF-8?B?4oKsLnR4dA==?="', "€.txt"),
        ("attachment; filename==?utf-8?Q?=E2=82=AC.txt?=", "€.txt"),
        ('attachment; filename="=?nonsense?B?4oKs?="', "=?nonsense?B?4oKs?="),
    ],
)
def test_content_dispositions(header: str | None, name: str | None) -> None:
    """What servers really send."""
    assert filename(header) == name


@given(st.text(max_size=80))
def test_no_content_disposition_raises(text: str) -> None:
    """Whatever it is, it is a last component or nothing."""
    for header in (text, "attachment; filename=" + text, "attachment; filename*=UTF-8''" + text):
        name = filename(header)
        assert name is None or (name and "/" not in name and "\\" not in name)
