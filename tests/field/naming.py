"""A and B: further names, by whomever they are given, dates, and contents that are not the file."""

from __future__ import annotations

import itertools
import unicodedata
from typing import Any
from urllib.parse import quote

from tests.field.answers import BODY, answer, by_path, chunked, headed, redirect
from tests.field.bench import Bench, Finished
from tests.field.case import WHOLE, Case, Given, Story, name
from tests.field.contents import PAGE
from tests.field.host import HOST
from tests.field.judging import entries_of, read_by
from tests.field.names import MANIFEST, _asked, _in_answer, _in_url, _same, all_legal_and_read
from tests.origins import raw_origin

NFD = unicodedata.normalize("NFD", "übér.txt")


def _hostile() -> tuple[Given, ...]:
    given = (
        "zero\u200bwidth.txt", "\u200b", "\u200d\u200c\u2060", "soft\u00adhyphen.txt", "\u0301", "\u3164.txt",
        "nb\u00a0sp.txt", "\u00a0", "\u3000x\u3000", "ogham\u1680.txt ", "x.txt\u2003", "\u200e\u200fmarks.txt",
        "\u061calm.txt", "tag\U000e0041.txt", "var\ufe0f.txt", "private\ue000.txt", "non\ufdd0char.txt",
        "astral\U0001ffff.txt", "\ufffd.txt", "object\ufffc.txt", "zalgo" + "\u0335\u0327" * 100 + ".txt",
        ".", " . ", ".. .", "....", "./..", "..;/x", "a/../../b/../../c.txt", "/", "\\", "//", "C:", "C:\\", "c:/",
        "C:..\\x",
        "CON", "con.", "con ", "con .txt", "con..txt", "con/con/con", "COM1:.txt", "aux::$DATA",
        "x::$INDEX_ALLOCATION",
        "nul.tar.gz", "LPT³.x", "CLOCK$.txt", "conout$.log", "a/NUL/b", " aux.txt", "\u200baux.txt", "au\u00adx.txt",
        "-rf.txt", "~", "~root/.ssh", "$HOME.txt", "%TEMP%.txt", "`id`.txt", "$(id).txt", "a;rm -rf.txt", "a&b.txt",
        "'quote'.txt", "PROGRA~1", "desktop.ini", ".htaccess", "__MACOSX/._x", "a\u2215b.txt", "a\u2044b.txt",
        "a\u29f8b.txt", "a\uff3cb.txt", "a\u2024b", "x.", "x..", "x. .", "tab\t", "line\nbreak.txt", "\r\n",
        "bell\x07.txt",
        "a" * 151, "a/" * 300, "a/" * 11 + "b.txt", "/".join(["x" * 150] * 3), "." * 300, " " * 300, "é" * 200,
        "x" * 1024,
        "." + "e" * 250, "a." + "😀" * 80, "ﷺ" * 40 + ".txt", "İ" * 130 + ".txt", "ŉ" * 150,
    )  # fmt: skip
    segments = (
        "%E2%80%8B.txt", "%00", "%2E%2E", "%2e.txt", "..%2f..%2fx.bin", "%5C%5Csrv%5Cx.bin", "a%0Ab.txt", "x.txt%20",
        "x.txt%00.jpg", "%C0%AE%C0%AE%C0%AFx.bin", "%u002e.txt", "%25", "%2", "%zz.txt", "+plus+.txt", "a;b=c.txt",
        "a.txt;jsessionid=1", "%F0%9F%98%80.png", "%ED%A0%BD%ED%B8%80.png", "a%E2%80%AEtxt.exe", "a.txt%23b",
        "x.txt%3Fy.zip",
        "CON.txt", "x%3A%3A%24DATA.txt", "%EF%BC%8E%EF%BC%8E%EF%BC%8Fz.bin", "a" * 250 + ".tar.gz",
    )  # fmt: skip
    return (*(_asked(each) for each in given), *(_in_url(each) for each in segments))


def _asked_twice() -> tuple[Story, ...]:
    return (
        _same("Kelvin and k", ["K.txt", "k.txt"], ["K.txt", "k (2).txt"]),
        _same("ß and ss", ["straße", "STRASSE"], ["straße", "STRASSE (2)"]),
        _same("both sigmas", ["ς.txt", "σ.txt"], ["ς.txt", "σ (2).txt"]),
        _same("a ligature", ["ﬀ.txt", "ff.txt"], ["ﬀ.txt", "ff (2).txt"]),
        _same("folders in another case", ["A/x.txt", "a/x.txt", "a/y.txt"], ["A/x.txt", "A/x (2).txt", "A/y.txt"]),
        _same("a folder in two Unicode forms", ["é/1.txt", "e\u0301/1.txt"], ["é/1.txt", "é/1 (2).txt"]),
        _same("blanks and dots at the end", ["a.txt", "a.txt ", "a.txt."], ["a.txt", "a (2).txt", "a (3).txt"]),
        _same("slashes of both kinds", ["d/e.txt", "d\\e.txt", "d//e.txt"], ["d/e.txt", "d/e (2).txt", "d/e (3).txt"]),
        _same("a reserved one and its cure", ["con.txt", "_con.txt"], ["_con.txt", "_con (2).txt"]),
        _same("no extension", ["LICENSE", "license"], ["LICENSE", "license (2)"]),
        _same("a dot in front", [".env", ".env"], [".env", ".env (2)"]),
        _same("the number of a number", ["a (2).txt", "a (2).txt"], ["a (2).txt", "a (2) (2).txt"]),
        _same("a folder that is a file", ["x", "x/y", "x/y/z"], ["x", "x (2)/y", "x (2)/y (2)/z"]),
        _same(
            "equal after the cut",
            ["n" * 160 + "1.txt", "n" * 160 + "2.txt"],
            ["n" * 146 + ".txt", "n" * 142 + " (2).txt"],
        ),
        Story("its own files' names asked for", "right", _own_names),
        Story("its own report's name as a folder", "right", _own_folder),
    )


async def _own_names(bench: Bench) -> str:
    """Files called like the service's own, in a job that has all of these: each is there once, and right."""
    wanted = ["manifest.json", "MANIFEST.JSON", "SHA256SUMS", "sha256sums", "MISSING-FILES.txt", "missing-files.TXT"]
    return await _with_own(bench, wanted)


async def _own_folder(bench: Bench) -> str:
    return await _with_own(bench, ["MISSING-FILES.txt/a", "manifest.json/b", "SHA256SUMS/c"])


async def _with_own(bench: Bench, wanted: list[str]) -> str:
    async with raw_origin(by_path({"/no": answer({}, b"", "404 No")}, answer()), HOST) as origin:
        files: list[Any] = [{"url": origin.url(), "name": each} for each in wanted]
        done = await bench.job([*files, origin.url("/no")], options={"manifest": True})
    assert done.zip is not None
    listed = done.zip.namelist()
    assert len({each.casefold() for each in listed}) == len(listed), f"twice: {listed}"
    heads = {each.split("/")[0].casefold() for each in listed if "/" in each}
    assert not heads & {each.casefold() for each in listed}, f"a file and a folder: {listed}"
    bad = [each["name"] for at, each in enumerate(done.files[:-1]) if done.data(at) != BODY]
    assert not bad, f"other bytes: {bad}"
    assert len(listed) == len(wanted) + 3, listed
    return "right"


DATES = (
    ("Sun, 06 Nov 1994 08:49:37 GMT", True), ("Sunday, 06-Nov-94 08:49:37 GMT", True),
    ("Sun Nov  6 08:49:37 1994", True), ("Sun, 06 Nov 1994 09:49:37 +0100", True), ("Sun, 6 Nov 1994 08:49:37 GMT",
    True),
    ("sun, 06 nov 1994 08:49:37 gmt", True), (" Sun, 06 Nov 1994 08:49:37 GMT ", True),
    ("06 Nov 1994 08:49:37 GMT", True),
    ("Mon, 06 Nov 1994 08:49:37 GMT", True), ("Sun, 06 Nov 1994 08:49:37 UTC", False),
    ("Sun, 06 Nov 1994 08:49:37", False), ("1994-11-06 08:49:37", False), ("784111777", False),
    ("Sun, 06 Nov 1994 24:00:00 GMT", False), ("Sun, 00 Nov 1994 08:49:37 GMT", False),
    ("Sun, 06 Nov 94 08:49:37 GMT", False), ("Sun, 06 Nov 19940 08:49:37 GMT", False),
    ("Sun, 06 Nov 1994 08:49:37 +2400", False), ("Sun, 06 Nov 1994 08:49:37 -9999", False),
    ("Sun, 06 Nov 1994 08:49:37.123 GMT", False), ("Sun, +6 Nov 1994 08:49:37 GMT", False),
    ("Sun, 06 Nov 1994 -8:49:37 GMT", False), ("Sun, \u0660\u0666 Nov 1994 08:49:37 GMT", False), ("\udcff\udcfe",
    False),
    ("Thu, 01 Jan 1970 00:00:00 GMT", False), ("Fri, 01 Jan 2107 00:00:00 GMT", False),
    ("Mon, 29 Feb 2021 00:00:00 GMT", False), ("Sat, 29 Feb 2020 00:00:00 GMT", False), ("; DROP TABLE", False),
    ("9" * 5000, False), ("Sun, 06 Nov 1994 08:49:37 " + "(" * 3000, False), ("Sun, " * 500, False),
)  # fmt: skip
MOMENT = (1994, 11, 6, 8, 49, 36)


def _dates() -> tuple[Given, ...]:
    return tuple(
        Given(
            f"Last-Modified: {date[:44]!a}",
            answer({"Last-Modified": date}),
            path=f"/{'same' if same else 'any'}{at}.bin",
        )
        for at, (date, same) in enumerate(DATES)
    )


def _dates_right(done: Finished) -> str:
    """All legal; those that mean one moment show it."""
    for info in entries_of(done):
        year, month, day, hour, minute, second = info.date_time
        legal = (
            1980 <= year <= 2107 and 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 60
        )
        if not legal or (info.filename.startswith("same") and info.date_time[:5] != MOMENT[:5]):
            return f"{info.filename}: {info.date_time}"
    return read_by(done)


_numbers = itertools.count(7000)


def _named(header: str, expected: str) -> Given:
    """The URL says nothing but a number; `77` stands for it in what is expected."""
    number = str(next(_numbers))
    wanted = " | ".join(number if each == "77" else each for each in expected.split(" | "))
    return Given(header[:64], answer({"Content-Disposition": header}), wanted, f"/get/{number}", look=name)


def _dispositions() -> tuple[Given, ...]:
    nothing = "77"
    return (
        _named('attachment; name="filename=evil1.txt"; filename="good1.txt"', "good1.txt"),
        _named('attachment; name="a; filename=evil2.txt"; filename=good2.txt', "good2.txt"),
        _named('attachment; name="a\\"; filename=evil3.txt"; filename=good3.txt', "good3.txt"),
        _named('attachment; xfilename="evil4.txt"; filename="good4.txt"', "good4.txt"),
        _named('attachment; filename="semi;colon.txt"', "semi;colon.txt"),
        _named('attachment; filename="com,ma.txt"', "com,ma.txt"),
        _named("attachment;filename=tight.txt", "tight.txt"),
        _named('attachment; filename = "loose.txt" ;', "loose.txt"),
        _named('attachment;\tfilename="tabbed.txt"', "tabbed.txt"),
        _named('filename="alone.txt"', "alone.txt | 77"),
        _named('form-data; name="f"; filename="form.txt"', "form.txt"),
        _named("attachment; filename=with blank.txt", "with blank.txt | with | 77"),
        _named("attachment; filename='single.txt'", "'single.txt' | single.txt"),
        _named('attachment; filename="open.txt', "open.txt"),
        _named('attachment; filename="a"b.txt', "ab.txt | a_b.txt | a | 77 | a_b.txt"),
        _named('attachment; filename="%E4%BD%A0.txt"', "你.txt"),
        _named('attachment; filename="up%2F..%2Fdown.txt"', "down.txt"),
        _named("attachment; filename*=UTF-8''%F0%9F%98%80.txt", "😀.txt"),
        _named("attachment; filename*=utf-8'en'lang.txt", "lang.txt"),
        _named("attachment; filename*=\"UTF-8''quoted%20star.txt\"", "quoted star.txt"),
        _named("attachment; filename*=UTF-8''bad%zz.txt; filename=ok1.txt", "bad%zz.txt | ok1.txt"),
        _named("attachment; filename*=UTF-8''%00; filename=ok2.txt", "_ | ok2.txt"),
        _named("attachment; filename*=''no%20charset.txt; filename=ok3.txt", "no charset.txt | ok3.txt"),
        _named("attachment; filename*=UTF-8'nolang.txt; filename=ok4.txt", "ok4.txt"),
        _named("attachment; filename*=; filename=ok5.txt", "ok5.txt"),
        _named("attachment; filename*=UTF-8''; filename=ok6.txt", "ok6.txt"),
        _named("attachment; filename*=iso-8859-1'en'%A3%20rates.txt", "£ rates.txt"),
        _named("attachment; filename*=windows-1252''%80.txt; filename=ok7.txt", "€.txt | ok7.txt"),
        _named("attachment; filename*=UTF-16''%00a; filename=ok8.txt", "ok8.txt"),
        _named("attachment; FileName*=UTF-8''MIXED.txt", "MIXED.txt"),
        _named("attachment; filename*=UTF-8''a%2Fb%5Cc.txt", "c.txt"),
        _named('attachment; filename="first.txt"; filename="second.txt"', "first.txt | second.txt | 77"),
        _named('attachment; filename="=?UTF-8?B?w6nDqS50eHQ=?="', "éé.txt | =_UTF-8_B_w6nDqS50eHQ=_="),
        _named('attachment; filename="=?utf-8?Q?caf=C3=A9.txt?="', "café.txt | =_utf-8_Q_caf=C3=A9.txt_="),
        _named('attachment; filename*0="con"; filename*1="tinued.txt"', f"continued.txt | {nothing}"),
        _named("attachment; filename*0*=UTF-8''%E2%82%AC; filename*1*=%20x.txt", f"€ x.txt | {nothing}"),
        _named('attachment; filename="  blanks.txt  "', "blanks.txt"),
        _named('attachment; filename="dots...txt..."', "dots...txt"),
        _named('attachment; filename="trailing\\"', f"trailing | trailing_ | {nothing}"),
        _named('attachment; filename="\\a\\b\\d.txt"', "d.txt"),
        _named('attachment; filename="C:\\x\\new\\table.txt"', "table.txt"),
        _named('attachment; filename="a/"', f"a | {nothing}"),
        _named('attachment; filename="/"', nothing),
        _named('attachment; filename="."', nothing),
        _named('attachment; filename=" "', nothing),
        _named("attachment; filename=", nothing),
        _named("attachment; filename", nothing),
        _named("attachment; filename==x.txt", "=x.txt | x.txt | 77"),
        _named('attachment; filename="x.txt"' + "; a=b" * 2000, "x.txt"),
        _named("attachment; filename=" + "z" * 5000 + ".txt", "z" * 146 + ".txt"),
        _named("attachment; " + "filename=" * 2000, f"{nothing} | " + ("filename=" * 2000)[:150]),
        _named('attachment; filename="' + '\\"' * 3000 + '"', "_" * 150),
        _in_answer('attachment; filename="日本.txt"'.encode(), "日本.txt"),
        _in_answer('attachment; filename="日本語.txt"'.encode("shift-jis"), "legal | \x93ú\x96{\x8cê.txt | _ú_{_ê.txt"),
        _in_answer(b'attachment; filename="nul\x00.txt"', "nul_.txt | protocol_error"),
        _in_answer(b'attachment; filename="ctl\x01.txt"', "ctl_.txt | protocol_error"),
        Given(
            "the name behind a redirect is the last answer's",
            by_path(
                {"/get/5": redirect("/get/6", headers={"Content-Disposition": "attachment; filename=first"})},
                answer({"Content-Disposition": "attachment; filename=last.txt"}),
            ),
            "last.txt",
            "/get/5",
            look=name,
        ),
        Given(
            "no name, and a redirect to one",
            by_path({"/get/8": redirect("/files/target.pdf")}, answer()),
            "8 | target.pdf",
            "/get/8",
            look=name,
        ),
        Given(
            "a script's name gives way",
            answer({"Content-Disposition": "attachment; filename=real.txt"}),
            "real.txt",
            "/download.php",
            look=name,
        ),
        Given("a slash at the end", answer(), "download | folder", "/folder/", look=name),
    )


def _page(
    what: str,
    body: bytes,
    path: str = "/file.zip",
    kind: str = "application/octet-stream",
    expected: str = "html_instead_of_file",
    **fields: Any,
) -> Given:
    headers = {"Content-Type": kind} if kind else {}
    return Given(what, answer(headers, body), expected, path, body, fields)


def _pages() -> tuple[Given, ...]:
    comment = b"<!--" + b" x" * 400 + b"-->"
    deep = b"<!--" + b" x" * 2000 + b"-->"
    return (
        _page("<HTML", b"<HTML><BODY>x", kind=""),
        _page("<!DOCTYPE HTML PUBLIC", b'<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01//EN">\n<html>'),
        _page("<!doctype\\nhtml>", b"<!doctype\nhtml><p>"),
        _page("a BOM and a page", b"\xef\xbb\xbf" + PAGE),
        _page("UTF-16 BE", b"\xfe\xff" + PAGE.decode().encode("utf-16-be")),
        _page("UTF-16 LE without a BOM", PAGE.decode().encode("utf-16-le"), kind="text/html; charset=utf-16"),
        _page("UTF-32", b"\xff\xfe\0\0" + PAGE.decode().encode("utf-32-le"), kind="text/html; charset=utf-32"),
        _page("300 empty lines before", b"\r\n" * 300 + PAGE),
        _page("3,000 empty lines before", b"\r\n" * 3000 + PAGE),
        _page("a comment of 800 bytes before", comment + PAGE),
        _page("a comment of 4 KB before", deep + PAGE),
        _page("a comment of 4 KB before, declared", deep + PAGE, kind="text/html"),
        _page("<head> alone", b"<head><title>Sign in</title>"),
        _page("<body> alone", b"<body onload=x()>"),
        _page("<script> alone", b'<script>location="/login"</script>'),
        _page("<meta refresh> alone", b'<meta http-equiv="refresh" content="0;url=/login">'),
        _page("<title> alone", b"<title>403</title>"),
        _page("<script> alone, declared", b'<script>location="/login"</script>', kind="text/html"),
        _page("plain words, declared", b"Session expired", kind="text/html"),
        _page("an empty page, declared", b"", kind="text/html"),
        _page("text/HTML;charset", PAGE, kind='Text/HTML;charset="utf-8"'),
        _page("XHTML with a declaration", b'<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE html PUBLIC "x"><html>'),
        _page("a page for an image", PAGE, "/photo.JPG", "image/jpeg"),
        _page("a page for a video", PAGE, "/film.mp4", "video/mp4"),
        _page("a page for a model", PAGE, "/weights.safetensors"),
        _page("a page for a document", PAGE, "/letter.docx"),
        _page("a page for a text", PAGE, "/readme.txt", "text/plain"),
        _page("a page for a script", PAGE, "/app.js", "text/html"),
        _page("a page for a .tar.gz", PAGE, "/x.tar.gz", "text/html"),
        _page(
            "a page, the extension behind a query",
            PAGE,
            "/get?file=x.zip",
            "text/html",
            f"{WHOLE} | html_instead_of_file",
        ),
        _page("a page for an unknown extension", PAGE, "/data.xyz", "text/html"),
        _page("a page for a version number", PAGE, "/v1.2", "text/html", WHOLE),
        _page("a page for .aspx", PAGE, "/get.aspx", "text/html", WHOLE),
        _page("a page for .HTML", PAGE, "/INDEX.HTML", "text/html", WHOLE),
        _page("a page for a folder", PAGE, "/folder/", "text/html", WHOLE),
        _page(
            "svg that holds html",
            b'<svg xmlns="http://www.w3.org/2000/svg"><html/></svg>',
            "/x.svg",
            "image/svg+xml",
            WHOLE,
        ),
        _page("xml that holds html", b"<?xml version='1.0'?><rss><html>x</html></rss>", "/feed.xml", "text/xml", WHOLE),
        _page(
            "markdown that begins with a tag", b"<p align=center>Logo</p>\n# Title", "/README.md", "text/plain", WHOLE
        ),
        _page(
            "a mail with a page in it",
            b"From: a@b\nContent-Type: text/html\n\n<html>",
            "/x.eml",
            "message/rfc822",
            WHOLE,
        ),
        _page("a csv that mentions a page", b'id,html\n1,"<html>"\n', "/x.csv", "text/csv", WHOLE),
        _page("JavaScript that mentions a page", b"var a='<html>'", "/x.js", "text/javascript", WHOLE),
        _page("a pdf called html", b"%PDF-1.4 x", "/x.pdf", "text/html", WHOLE),
        _page("a pdf called plain", b"%PDF-1.4 x", "/x.pdf", "text/plain", WHOLE),
        _page("a pdf after a BOM and a newline, called html", b"\n%PDF-1.4 x", "/x.pdf", "application/pdf", WHOLE),
        Given(
            "a page after a redirect that names it",
            by_path({"/a.pdf": redirect("/login?next=/a.pdf")}, answer({"Content-Type": "text/html"}, PAGE)),
            "html_instead_of_file",
            "/a.pdf",
        ),
        Given(
            "a page, a byte at a time",
            chunked(*(PAGE[at : at + 1] for at in range(len(PAGE)))),
            "html_instead_of_file",
            "/a.pdf",
        ),
        Given(
            "a page, declared twice",
            headed(b"Content-Type: application/pdf\r\nContent-Type: text/html\r\n", PAGE),
            "html_instead_of_file",
            "/a.pdf",
        ),
    )


ERROR_JSON = b'{"error": {"code": 403, "message": "token expired"}}'
ERROR_XML = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>Request has expired</Message>'
    b"<RequestId>1</RequestId></Error>"
)


def _errors() -> tuple[Given, ...]:
    """A report of an error under 200: certain only where the request or the name says what it should have been."""
    wrong = "type_mismatch | html_instead_of_file"
    pdf = {"contentType": "application/pdf"}
    return (
        _page("JSON where contentType says pdf", ERROR_JSON, "/get/1", "application/json", wrong, **pdf),
        _page("JSON without a type where contentType says pdf", ERROR_JSON, "/get/1", "", wrong, **pdf),
        _page(
            "XML where contentType says zip",
            ERROR_XML,
            "/get/1",
            "application/xml",
            wrong,
            contentType="application/zip",
        ),
        _page("nothing where contentType says pdf", b"", "/get/1", "application/pdf", wrong, **pdf),
        _page("JSON for a .pdf", ERROR_JSON, "/x.pdf", "application/json", wrong),
        _page("XML of a store for a .pdf", ERROR_XML, "/x.pdf", "application/xml", wrong),
        _page("XML of a store for a .zip", ERROR_XML, "/x.zip", "application/xml", wrong),
        _page("JSON for a .png", ERROR_JSON, "/x.png", "application/json; charset=utf-8", wrong),
        _page("JSON for a .json", ERROR_JSON, "/x.json", "application/json", WHOLE),
        _page("XML for a .xml", ERROR_XML, "/x.xml", "application/xml", WHOLE),
        _page("a text file in JSON's clothes", b"hello", "/x.txt", "application/json", WHOLE),
        _page("an unknown name and JSON", ERROR_JSON, "/get", "application/json", WHOLE),
        _page("an empty .txt", b"", "/x.txt", "text/plain", WHOLE),
        _page("a zip for a .docx", b"PK\x03\x04" + BODY[:100], "/x.docx", "application/zip", WHOLE),
        _page("a jpeg for a .png", b"\xff\xd8\xff\xe0" + BODY[:100], "/x.png", "image/png", WHOLE),
    )


def _entries(done: Finished) -> str:
    """No entry is a folder, and no extra tells a name of its own that differs (Info-ZIP Unicode path, 0x7075)."""
    for info in entries_of(done):
        if info.is_dir() or b"\x75\x70" in info.extra[:2] or info.create_system not in (0, 3):
            return f"{info.filename}: {info.extra!r}"
        if info.external_attr >> 16 not in (0, 0o100644):
            return f"{info.filename}: {info.external_attr:o}"
    return all_legal_and_read(done)


def _twins() -> tuple[Given, ...]:
    return (
        _asked(NFD, unicodedata.normalize("NFC", NFD)),
        _in_url(quote("d" + NFD), unicodedata.normalize("NFC", "d" + NFD)),
        _in_answer(
            b"attachment; filename*=UTF-8''" + quote("e" + NFD).encode(), unicodedata.normalize("NFC", "e" + NFD)
        ),
    )


CASES: tuple[Case, ...] = (
    Case("A10.2", "hostile names, further", (*_hostile(), *_twins()), MANIFEST, _entries),
    Case("A15.2", "the same name twice, further", _asked_twice()),
    Case("A17.2", "dates, further", _dates(), {}, _dates_right),
    Case("B28.2", "Content-Disposition, further", _dispositions(), {"options": {"manifest": True}}, all_legal_and_read),
    Case("B30.2", "pages and errors instead of the file, further", (*_pages(), *_errors())),
)
