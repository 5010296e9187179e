"""A: names that are hostile, foreign, long or wanted twice."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable
from struct import unpack_from
from urllib.parse import quote

from tests.field.answers import answer, verbatim
from tests.field.bench import Bench, Finished
from tests.field.case import Case, Given, Seen, Story, name
from tests.field.host import HOST
from tests.field.judging import entries_of, legal, read_by, read_by_all
from tests.origins import Exchange, Script, raw_origin
from tests.readers import READERS, read_python

MANIFEST = {"options": {"manifest": True}}


def all_legal_and_read(done: Finished) -> str:
    """All names legal and told apart without case; then the readers."""
    odd = [entry for entry in done.names if not legal(entry)]
    if odd:
        return f"not legal everywhere: {odd[:3]}"
    return read_by(done)


def _legal_name(seen: Seen) -> str:
    """`legal`, or what the name is."""
    shown = name(seen)
    return "legal" if legal(shown) else f"{shown!r}"


def _asked(wanted: str, expected: str | None = None, what: str | None = None) -> Given:
    """A name in the request."""
    shown = what or f"asked for as {wanted!a}"
    look: Callable[[Seen], str] = _legal_name if expected is None else name
    return Given(shown, answer(), expected or "legal", "/f.bin", fields={"name": wanted}, look=look)


def _in_url(segment: str, expected: str | None = None) -> Given:
    """A name as the URL's last segment."""
    look: Callable[[Seen], str] = _legal_name if expected is None else name
    shown = segment if len(segment) <= 50 else f"{segment[:30]}...{segment[-10:]}"
    return Given(f"in the URL: {shown}", answer(), expected or "legal", f"/x/{segment}", look=look)


def _in_answer(header: bytes, expected: str) -> Given:
    """A name in the Content-Disposition, raw."""
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Disposition: " + header + b"\r\n\r\nx"
    return Given(f"in the answer: {header!r}"[:64], verbatim(data), expected, "/get", b"x", look=name)


SCRIPTS = (
    "Отчёт.txt",
    "日本語 ファイル.txt",
    "e\u0301te\u0301.txt",
    "😀 emoji.txt",
    "mixed-ü-Ж-漢-😀.txt",
    "עברית.txt",
    "한글.txt",
    "ﬁ ligature.txt",
)


def _scripts() -> tuple[Given, ...]:
    out = []
    for at, wanted in enumerate(SCRIPTS):
        nfc = unicodedata.normalize("NFC", wanted)
        shown = (f"a{at} {nfc}", f"u{at}{nfc.replace(' ', '')}", f"d{at}{nfc.replace(' ', '')}")
        header = b"attachment; filename*=UTF-8''" + quote(f"d{at}{wanted.replace(' ', '')}").encode()
        out += [
            _asked(f"a{at} {wanted}", shown[0]),
            _in_url(quote(f"u{at}{wanted.replace(' ', '')}"), shown[1]),
            _in_answer(header, shown[2]),
        ]
    return tuple(out)


def _flags(done: Finished) -> str:
    """Bit 11 in both headers, the same bytes in both, and Python's names as they were meant."""
    assert done.archive is not None
    for info in entries_of(done):
        flags, length = unpack_from("<H18xH", done.archive, info.header_offset + 6)
        raw = done.archive[info.header_offset + 30 : info.header_offset + 30 + length]
        if not (flags & 0x800 and info.flag_bits & 0x800 and raw.decode() == info.filename):
            return f"{info.filename!a}: {flags:#x}, {info.flag_bits:#x}"
    return read_by_all(done)


CONTROLS = (
    _in_url("ev%00il.txt", "ev_il.txt"),
    _in_url("cr%0D%0Alf.txt", "cr__lf.txt"),
    _in_url("tab%09tab.txt", "tab_tab.txt"),
    _in_url("bad%FFbyte.txt", "bad_byte.txt"),
    _in_url("half%ED%A0%80.txt"),
    _in_url("esc%1B[31m.txt"),
    _in_url("del%7F%C2%9F.txt", "del__.txt"),
    _in_url("overlong%C0%AFx.txt"),
    _in_url("bidi%E2%80%AEgpj.exe", "bidi_gpj.exe"),
    _in_url("%01%02.txt"),
    _in_answer(b'attachment; filename="caf\xe9.txt"', "café.txt"),
    _in_answer(b'attachment; filename="e\xf9\xff\xfe.txt"', "eùÿþ.txt"),
    _in_answer(b"attachment; filename*=UTF-8''n%00ul.txt", "n_ul.txt"),
    _in_answer(b"attachment; filename*=UTF-8''c%0D%0Ar.txt", "c__r.txt"),
    _asked("n\x00ul2.txt", "n_ul2.txt"),
    _asked("cr\r\nlf2.txt", "cr__lf2.txt"),
    _asked("c1\x85.txt", "c1_.txt"),
    _asked("rlo\u202egpj.exe", "rlo_gpj.exe"),
    _asked("iso\u2066x\u2069.txt", "iso_x_.txt"),
    _asked("\ufefffeff.txt"),
    _asked("line\u2028sep.txt"),
    _asked("\x00"),
    _asked("\t \n"),
)


async def _surrogate(bench: Bench) -> str:
    """A lone surrogate in the request: refused, or made safe."""
    api = (await bench.service()).api
    body = b'{"files": [{"url": "http://%s:1/x", "name": "a\\ud800b.txt"}]}' % HOST.encode()
    reply = await api.call("POST", "/v1/download/initiate", data=body, headers={"Content-Type": "application/json"})
    if reply.status != 400:
        await api.finished(reply.body["jobId"])
    return str(reply.status)


PATHS = (
    _asked("../../etc/x", "etc/x"),
    _asked("..\\..\\x", "x"),
    _asked("/abs", "abs"),
    _asked("\\abs2", "abs2"),
    _asked("C:\\w\\x", "w/x"),
    _asked("C:/w2/x", "w2/x"),
    _asked("c:rel.txt"),
    _asked("//srv/s/x", "srv/s/x"),
    _asked("\\\\srv2\\s\\x", "srv2/s/x"),
    _asked("\\\\?\\C:\\long"),
    _asked("a/./b", "a/b"),
    _asked("aa//b", "aa/b"),
    _asked("bb/../c", "bb/c"),
    _asked("d/"),
    _asked("..", "download"),
    _asked("./", "download (2)"),
    _asked("...", "download (3)"),
    _asked("~/x.txt"),
    _asked("%2e%2e%2fy.txt", "%2e%2e%2fy.txt"),
    _asked("．．／z"),
    _asked("．．/z2"),
    _asked(". ./ ../q"),
    _asked("a/" * 120 + "deep.txt"),
    _asked("trailing. . ./x "),
    _in_url("%2e%2e%2fx.txt", "x.txt"),
    _in_url("%252e%252e%252fx.txt", "%2e%2e%2fx.txt"),
    _in_url("..%5cxx.txt", "xx.txt"),
    _in_url("%2Fetc%2Fpasswd.txt", "passwd.txt"),
    _in_url("C%3A%5Cw%5Cy.txt", "y.txt"),
    _in_answer(b'attachment; filename="../../cd1.txt"', "cd1.txt"),
    _in_answer(b'attachment; filename="..\\\\..\\\\cd2.txt"', "cd2.txt"),
    _in_answer(b'attachment; filename="C:\\cd3.txt"', "cd3.txt"),
)


WINDOWS = (
    _asked("aux.c", "_aux.c"),
    _asked("Con.Man.s01.mkv", "_Con.Man.s01.mkv"),
    _asked("nul", "_nul"),
    _asked("LPT1.txt", "_LPT1.txt"),
    _asked("com¹.txt", "_com¹.txt"),
    _asked("CONIN$", "_CONIN$"),
    _asked("aux /x.txt"),
    _asked("con/x.txt", "_con/x.txt"),
    _asked("x/prn.tar.gz", "x/_prn.tar.gz"),
    _asked("prn", "_prn"),
    _asked("COM0", "_COM0"),
    _asked("ＣＯＮ"),
    _asked("console.txt", "console.txt"),
    _asked("a:b.txt", "a_b.txt"),
    _asked("ab:stream.txt", "ab_stream.txt"),
    _asked("test|order.txt", "test_order.txt"),
    _asked("what?.pdf", "what_.pdf"),
    _asked('quote"x".txt', "quote_x_.txt"),
    _asked("<tag>.xml", "_tag_.xml"),
    _asked("star*.*", "star_._"),
    _asked("dots...", "dots"),
    _asked("blank ", "blank"),
    _asked(" .hidden", ".hidden"),
    _in_url("con.txt", "_con.txt"),
    _in_url("q%3F%2A.txt", "q__.txt"),
    _in_answer(b'attachment; filename="lpt2.log"', "_lpt2.log"),
)


def _long_names() -> tuple[Given, ...]:
    same = "s" * 300
    return (
        _in_url("a" * 300 + ".pdf"),
        _in_url("b" * 5000 + ".pdf"),
        _in_url(quote("😀" * 120) + ".png"),
        _in_url(same + "1.txt"),
        _in_url(same + "2.txt"),
        _asked("😀" * 120 + ".png", what="120 emoji"),
        _asked("c" * 149 + "e\u0301" * 50 + ".txt", what="accents over the cut"),
        _asked("👨\u200d👩\u200d👧" * 60 + ".txt", what="families over the cut"),
        _asked("🇩🇪" * 100 + ".txt", what="flags over the cut"),
        _asked("x." + "e" * 300, what="an endless extension"),
        _asked("folder/" * 60 + "f.txt", what="a path of 420 characters"),
        _asked(("g" * 140 + "/") * 6 + "h.txt", what="folders of 140 characters"),
        _asked("ж" * 400 + ".docx", what="800 bytes of Cyrillic"),
        _asked("d" * 146 + ".txt", "d" * 146 + ".txt", what="just fits"),
    )


def _extensions_kept(done: Finished) -> str:
    kept = [entry for entry in done.names if entry.endswith((".pdf", ".png", ".txt", ".docx", ".bin"))]
    odd = set(done.names) - set(kept)
    return all_legal_and_read(done) if len(odd) <= 1 else f"extension lost: {sorted(odd)[:3]}"


async def _long_archive_name(bench: Bench) -> str:
    async with raw_origin(answer(), HOST) as origin:
        done = await bench.job([origin.url()], archiveName="n" * 900)
    shown = done.status["archive"]["name"]
    return "short" if len(shown) <= 200 and shown.endswith(".zip") else shown


def _numbered(extension: str) -> Script:
    """Files that finish in reverse order, each with its own bytes."""

    async def script(exchange: Exchange) -> None:
        number = int(exchange.target.split("/")[1])
        await asyncio.sleep(0.05 * (10 - number))
        await exchange.answer("200 OK", {}, b"%d%s" % (number, extension.encode()))

    return script


async def _ten_reports(bench: Bench) -> str:
    """Names follow the request's order whatever arrives first, and each has its own bytes."""
    async with raw_origin(_numbered(".pdf"), HOST) as origin:
        done = await bench.job([origin.url(f"/{number}/report.pdf") for number in range(10)])
    wanted = ["report.pdf", *(f"report ({number}).pdf" for number in range(2, 11))]
    got = [file["name"] for file in done.files]
    assert got == wanted, got
    assert [done.data(number) for number in range(10)] == [b"%d.pdf" % number for number in range(10)], "bytes mixed up"
    return read_by(done, (read_python, *READERS[1:5]))


def _same(what: str, names: list[str], wanted: list[str]) -> Story:
    async def tell(bench: Bench) -> str:
        async with raw_origin(answer(), HOST) as origin:
            done = await bench.job([{"url": origin.url(), "name": each} for each in names])
        got = [file["name"] for file in done.files]
        return "as predicted" if got == wanted else str(got)

    return Story(what, "as predicted", tell)


async def _late_same(bench: Bench) -> str:
    """Only the answers name them: all there, all different."""
    named = answer({"Content-Disposition": "attachment; filename=late.bin"})
    async with raw_origin(named, HOST) as origin:
        done = await bench.job([origin.url(f"/get/{number}") for number in range(5)])
    return ", ".join(sorted(done.names))


CASES: tuple[Case, ...] = (
    Case("A08", "names in other scripts", _scripts(), MANIFEST, _flags),
    Case(
        "A10",
        "control characters in names",
        (*CONTROLS, Story("a lone surrogate asked for", "400 | 202", _surrogate)),
        MANIFEST,
        all_legal_and_read,
    ),
    Case("A11", "names that lead elsewhere", PATHS, {}, all_legal_and_read),
    Case("A13", "names that Windows does not take", WINDOWS, {}, all_legal_and_read),
    Case(
        "A14",
        "long names",
        (*_long_names(), Story("an archive name of 900 characters", "short", _long_archive_name)),
        {},
        _extensions_kept,
    ),
    Case(
        "A15",
        "the same name twice",
        (
            Story("ten report.pdf that arrive in reverse", "right", _ten_reports),
            _same(
                "without case",
                ["Report.pdf", "REPORT.PDF", "report.pdf"],
                ["Report.pdf", "REPORT (2).PDF", "report (3).pdf"],
            ),
            _same("two Unicode forms", ["é.txt", "e\u0301.txt"], ["é.txt", "é (2).txt"]),
            _same("a number that is taken", ["a (2).txt", "a.txt", "a.txt"], ["a (2).txt", "a.txt", "a (3).txt"]),
            _same("a file and a folder", ["a/b.txt", "a", "A/c.txt"], ["a/b.txt", "a (2)", "a/c.txt"]),
            _same(
                "the service's own report",
                ["MISSING-FILES.txt", "missing-files.txt"],
                ["MISSING-FILES.txt", "missing-files (2).txt"],
            ),
            _same(".tar.gz", ["a.tar.gz", "a.tar.gz"], ["a.tar.gz", "a (2).tar.gz"]),
            _same("equal only after cleaning", ["a?.txt", "a*.txt"], ["a_.txt", "a_ (2).txt"]),
            Story(
                "named by their answers",
                ", ".join(sorted(["late.bin", *(f"late ({number}).bin" for number in range(2, 6))])),
                _late_same,
            ),
        ),
    ),
)
