"""B: names, pages instead of files, and secrets that must stay where they are."""

from __future__ import annotations

import gzip

from tests.field.answers import (
    BODY,
    answer,
    by_path,
    chunked,
    cut,
    headed,
    redirect,
    silent,
    verbatim,
)
from tests.field.bench import Bench, as_json, finished
from tests.field.case import WHOLE, Case, Given, Story, name
from tests.field.host import HOST
from tests.origins import Exchange, raw_origin

CSV = b"a,b,c\n" * 10_000


async def _secrets_stay(bench: Bench) -> str:
    """Nothing that the service says, shows, packs or logs has a secret of the source's URL or headers in it."""
    service = await bench.service()
    routes = {
        "/403": answer({}, b"", "403 Forbidden"),
        "/garbage": verbatim(b"garbage\r\n\r\n"),
        "/loop": redirect("/loop?X-Amz-Signature=SIGSIG"),
        "/silent": silent,
        "/cut": cut(10),
        "/inside": redirect("http://u:s3cr3t@10.0.0.1/x?X-Amz-Signature=SIGSIG"),
        "/scheme": redirect("ftp://u:s3cr3t@h/x?X-Amz-Signature=SIGSIG"),
    }

    async def script(exchange: Exchange) -> None:
        await by_path(routes, answer())(_without_query(exchange))

    async with raw_origin(script, HOST) as origin:
        query = "?X-Amz-Signature=SIGSIG&X-Amz-Security-Token=SIGSIG#SIGSIG"
        urls = [origin.url(path + query).replace("//", "//u:s3cr3t@") for path in (*routes, "/good.bin")]
        urls += [
            f"http://u:s3cr3t@nowhere.test/x{query}",
            f"http://u:s3cr3t@{HOST}:9/x{query}",
            f"https://u:s3cr3t@{HOST}:{origin.port}/{query}",
        ]
        files = [{"url": url, "headers": {"X-Key": "s3cr3t"}} for url in urls]
        job_id = await service.api.submit(files, options={"manifest": True})
        done = await finished(service.api, job_id)
        failed = await bench.job(files[:1], options={"onError": "fail"})
    refused = await service.api.initiate([f"ftp://u:s3cr3t@h/{query}"])
    pages = [
        (await service.api.call("GET", path)).raw
        for path in (f"/v1/download/{job_id}/files", "/v1/download/jobs", "/metrics", "/health")
    ]
    assert done.code(len(routes)) == "done", done.codes()
    assert done.zip is not None
    texts = {
        "status": as_json(done.status),
        "events": done.raw.decode(),
        "the archive": "".join(
            done.zip.read(name).decode("latin-1") for name in done.zip.namelist() if name.endswith((".txt", ".json"))
        ),
        "a failed job": as_json(failed.status) + failed.raw.decode(),
        "the refusal": refused.raw.decode(),
        "pages": b"".join(pages).decode(),
        "the log": service.log,
    }
    spilt = [where for where, text in texts.items() if "s3cr3t" in text or "SIGSIG" in text or "dTpzM2NyM3Q" in text]
    return ", ".join(spilt) or "nowhere"


def _without_query(exchange: Exchange) -> Exchange:
    return Exchange(exchange.number, exchange.target.partition("?")[0], exchange.headers, exchange.writer)


DISPOSITIONS: tuple[tuple[str, str], ...] = (
    ('attachment; filename="a.txt"', "a.txt"),
    ("attachment; filename=b.txt", "b.txt"),
    ('attachment; filename="../../c.txt"', "c.txt"),
    (r'attachment; filename="..\..\secret.pdf"', "secret.pdf"),
    (r'attachment; filename="C:\Users\x\d.txt"', "d.txt"),
    ('attachment; filename="/etc/e.txt"', "e.txt"),
    ("attachment; filename*=UTF-8''%e2%82%ac%20f.txt", "€ f.txt"),
    ("attachment; filename=\"g.txt\"; filename*=UTF-8''%C3%A9.txt", "é.txt"),
    ("attachment; filename*=UTF-8''%C3%A8.txt; filename=\"g.txt\"", "è.txt"),
    ("attachment; filename*=UTF-8''John's%20Resume.pdf", "John's Resume.pdf"),
    ("attachment; filename=John%27s%20Letter.pdf", "John's Letter.pdf"),
    ('attachment; filename="100%25 h.txt"', "100% h.txt"),
    ('attachment; filename="50% off.txt"', "50% off.txt"),
    ("attachment; filename*=UTF-8''%ff%fe.txt; filename=i.txt", "i.txt"),
    ("attachment; filename*=klingon''x.txt; filename=j.txt", "j.txt"),
    ("attachment; filename*=nonsense; filename=k.txt", "k.txt"),
    ("attachment; filename*=ISO-8859-1''caf%e9.txt", "café.txt"),
    ("attachment; filename*=UTF-8''..%2F..%2Fl.txt", "l.txt"),
    ("attachment; filename*=UTF-8''..%5Cm.txt", "m.txt"),
    ('attachment; filename=""', "9001"),
    ("attachment", "9002"),
    ("attachment; filename=..", "9003"),
    ("", "9004"),
    (";;;=\"'", "9005"),
    ('ATTACHMENT; FILENAME="n.txt"', "n.txt"),
    ('inline; filename="o.txt"', "o.txt"),
    ('attachment; filename="p \\"q\\".txt"', "p _q_.txt"),
    ("attachment; filename=aux.txt", "_aux.txt"),
    ('attachment; name="x"; filename=r.txt; size=5', "r.txt"),
)


def _named_by_answer() -> tuple[Given, ...]:
    """The URL says no name, so the answer's counts; the numbers are what the URL ends with."""
    rows = [
        Given(
            header[:60] or "(none)",
            answer({"Content-Disposition": header}),
            wanted,
            f"/get/{wanted if wanted.isdigit() else 1}",
            look=name,
        )
        for header, wanted in DISPOSITIONS
    ]
    latin = headed(b'Content-Disposition: attachment; filename="caf\xe9 2.txt"\r\n')
    two = headed(
        b"Content-Disposition: attachment; filename=s.txt\r\nContent-Disposition: attachment; filename=t.txt\r\n"
    )
    other = answer({"Content-Disposition": "attachment; filename=other.txt"})
    return (
        *rows,
        Given("raw Latin-1", latin, "café 2.txt", "/get/2", look=name),
        Given("two headers", two, "s.txt | t.txt | 7", "/get/7", look=name),
        Given("the URL's own name wins", other, "mine.txt", "/mine.txt?x=y.z", look=name),
        Given("the request's name wins", other, "asked.txt", "/get/8", fields={"name": "asked.txt"}, look=name),
        Given("no name anywhere", answer(), "download", "/", look=name),
        Given("the last segment, decoded once", answer(), "a%20b", "/get/a%2520b", look=name),
    )


PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Sign in</body></html>"


def _pages() -> tuple[Given, ...]:
    html, binary = {"Content-Type": "text/html; charset=utf-8"}, {"Content-Type": "application/octet-stream"}
    no = "html_instead_of_file"
    login = by_path({"/f.pdf": redirect("/login")}, answer(html, PAGE))
    return (
        Given("file.zip, text/html", answer(html, PAGE), no, "/file.zip"),
        Given("file.zip, octet-stream but a page", answer(binary, PAGE), no, "/file.zip"),
        Given("file.mp4, no type but a page", answer({}, PAGE), no, "/file.mp4"),
        Given(
            "file.zip, a page after blanks and a comment",
            answer(binary, b"\xef\xbb\xbf\n <!-- x -->\n<HTML>x"),
            no,
            "/file.zip",
        ),
        Given(
            "file.zip, a page in UTF-16",
            answer(binary, b"\xff\xfe" + PAGE.decode().encode("utf-16-le")),
            no,
            "/file.zip",
        ),
        Given("file.zip, html without a doctype", answer(html, b"<p>Expired"), no, "/file.zip"),
        Given(
            "file.zip, xhtml",
            answer({"Content-Type": "application/xhtml+xml"}, b'<?xml version="1.0"?><html/>'),
            no,
            "/file.zip",
        ),
        Given("a login after a redirect", login, no, "/f.pdf"),
        Given("data.csv, a page", answer({"Content-Type": "text/csv"}, PAGE), no, "/data.csv"),
        Given("data.json, a page", answer(html, PAGE), no, "/data.json"),
        Given("a page, chunked", chunked(PAGE, headers=b"Content-Type: text/html\r\n"), no, "/file.zip"),
        Given("a page, gzipped", answer(html | {"Content-Encoding": "gzip"}, gzip.compress(PAGE)), no, "/file.pdf"),
        Given("the name says pdf, the URL nothing", answer(html, PAGE), no, "/get", fields={"name": "a.pdf"}),
        Given(
            "the disposition says zip",
            answer(html | {"Content-Disposition": "attachment; filename=a.zip"}, PAGE),
            no,
            "/get/1",
        ),
        Given(
            "contentType says pdf",
            answer(html, PAGE),
            f"{no} | type_mismatch",
            "/get/2",
            fields={"contentType": "application/pdf"},
        ),
        Given("page.html", answer(html, PAGE), WHOLE, "/page.html", PAGE),
        Given("index.htm, no type", answer({}, PAGE), WHOLE, "/index.htm", PAGE),
        Given("no extension, text/html", answer(html, PAGE), WHOLE, "/noext", PAGE),
        Given("get.php, text/html", answer(html, PAGE), WHOLE, "/get.php", PAGE),
        Given("contentType says html", answer(html, PAGE), WHOLE, "/x.bin", PAGE, {"contentType": "text/html"}),
        Given("csv called html without a tag in it", answer(html, CSV), WHOLE, "/data.csv", CSV),
        Given("a zip called html", answer(html, b"PK\x03\x04" + BODY), WHOLE, "/file.zip", b"PK\x03\x04" + BODY),
        Given(
            "a text about HTML",
            answer({"Content-Type": "text/plain"}, b"use <html> tags"),
            WHOLE,
            "/readme.txt",
            b"use <html> tags",
        ),
    )


CASES: tuple[Case, ...] = (
    Case(
        "B19", "secrets of URLs and headers", (Story("searched for in all that comes out", "nowhere", _secrets_stay),)
    ),
    Case("B28", "names by Content-Disposition", _named_by_answer(), {"options": {"manifest": True}}),
    Case("B30", "a page instead of the file", _pages()),
)
