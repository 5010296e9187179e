"""Inspection: the digests are right, pages are not files, and expectations are held."""

from __future__ import annotations

import hashlib
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from downloader.errors import SourceError
from downloader.jobs import Checksum, Source
from downloader.work import sniff
from downloader.work.inspection import Inspection, Inspector
from downloader.work.pages import begins_like_a_page, begins_like_a_report
from downloader.work.transfer import Offer

PAGE = b"\n<!-- hi -->\n<!DOCTYPE html>\n<html><body>Please log in</body></html>"
PDF = b"%PDF-1.7\n" + b"x" * 2000
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 640, 480) + b"\x08\x02\0\0\0"
GIF = b"GIF89a" + struct.pack("<HH", 30, 20) + b"\0" * 20
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0" + b"\0" * 9 + b"\xff\xc0\0\x11\x08" + struct.pack(">HH", 200, 300) + b"\0" * 20
WEBP = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + (99).to_bytes(3, "little") + (49).to_bytes(3, "little")
WEBP_LOSSY = b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 64, 32)
WEBP_LOSSLESS = b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f" + struct.pack("<I", 15 | (7 << 14))
SVG = b"<?xml version='1.0'?>\n<svg width='4' height='3' xmlns='http://www.w3.org/2000/svg'/>"
BMP = b"BM" + struct.pack("<IIIIii", 99, 0, 54, 40, 7, -5) + b"\0" * 50
ZIP = b"PK\x03\x04" + b"\0" * 2000


def inspect(
    data: bytes, url: str = "http://h/f.bin", declared: str | None = None, filename: str | None = None, **fields: Any
) -> Inspection:
    """Inspect a file at once."""
    inspector = Inspector(Source(0, 0, url, **fields), Offer(len(data), declared, filename))
    inspector.update([data])
    return inspector.finish()


def code(*arguments: Any, **fields: Any) -> str | None:
    """The code that an inspection fails with, or None."""
    try:
        inspect(*arguments, **fields)
    except SourceError as fault:
        assert not fault.transient
        return fault.code
    return None


@given(st.lists(st.binary(max_size=3000), max_size=12))
def test_digests_do_not_depend_on_the_blocks(chunks: list[bytes]) -> None:
    """Size, CRC-32 and SHA-256 are those of the whole."""
    data = b"".join(chunks)
    expected = Checksum("md5", hashlib.md5(data, usedforsecurity=False).hexdigest())
    inspector = Inspector(Source(0, 0, "http://h/f", size=len(data), checksum=expected), Offer())
    for chunk in chunks:
        inspector.update([chunk])
    found = inspector.finish()
    assert (found.size, found.crc32, found.sha256) == (len(data), zlib.crc32(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize(
    ("url", "declared", "body", "is_page"),
    [
        ("http://h/file.zip", "text/html", b"log in", True),
        ("http://h/file.zip", "text/html", PAGE, True),
        ("http://h/file.zip", "application/octet-stream", b"<!DOCTYPE html><html>", True),
        ("http://h/file.zip", None, b"\xef\xbb\xbf  <HTML lang=en>", True),
        ("http://h/file.pdf", "application/pdf", PAGE, True),
        ("http://h/file.pdf", "text/html", PAGE.decode().encode("utf-16"), True),
        ("http://h/data.csv", "text/html", PAGE, True),
        ("http://h/data.csv", "text/html", b"<p>expired</p>", True),
        ("http://h/data.csv", "text/html", b"a,b\n1,2\n", False),
        ("http://h/page.html", "text/html", PAGE, False),
        ("http://h/page.HTM?x=1", "text/html", PAGE, False),
        ("http://h/noext", "text/html", PAGE, False),
        ("http://h/", "text/html", PAGE, False),
        ("http://h/get.php", "text/html", PAGE, False),
        ("http://h/v1.2", "text/html", PAGE, False),
        ("http://h/file.pdf", "text/html", PDF, False),
        ("http://h/file.zip", "text/html", ZIP, False),
        ("http://h/index.vue", "text/plain", b"<html>", False),
        ("http://h/feed.xml", "text/xml", b"<?xml version='1.0'?><html xmlns='x'>", False),
        ("http://h/logo.svg", "text/html", SVG, False),
        ("http://h/notes.txt", "text/plain", b"<htmlish> is not a tag", False),
    ],
)
def test_pages_instead_of_files(url: str, declared: str | None, body: bytes, is_page: bool) -> None:
    """By the URL's extension; pages that were asked for, and files that are only declared wrongly, pass."""
    assert code(body, url, declared) == ("html_instead_of_file" if is_page else None)


def test_what_is_expected_is_said_by_type_then_name_then_url_then_disposition() -> None:
    """The request's words count before the source's."""
    assert code(PAGE, "http://h/x.zip", name="saved.html") is None
    assert code(PAGE, "http://h/x.html", name="saved.pdf") == "html_instead_of_file"
    assert code(PAGE, "http://h/x.zip", content_type="text/html; charset=utf-8") is None
    assert code(PAGE, "http://h/x", content_type="application/json") == "html_instead_of_file"
    assert code(PAGE, "http://h/get", filename="report.pdf") == "html_instead_of_file"


def test_page_is_told_while_the_file_is_still_coming() -> None:
    """Eight kilobytes are enough, even in drops."""
    inspector = Inspector(Source(0, 0, "http://h/f.zip"), Offer())
    for byte in (PAGE + b" " * 9000)[:8191]:
        inspector.update([bytes([byte])])
    with pytest.raises(SourceError) as caught:
        inspector.update([b" "])
    assert caught.value.code == "html_instead_of_file"


@pytest.mark.parametrize(
    ("expected", "declared", "body", "fits"),
    [
        ("application/pdf", "application/octet-stream", PDF, True),
        ("Application/PDF; x=y", None, PDF, True),
        ("application/pdf", "application/pdf", PNG, False),
        ("application/pdf", "application/json", b'{"error": 1}', False),
        ("application/pdf", "application/octet-stream", b"nothing", False),
        ("application/pdf", None, b"", False),
        ("image/jpg", "image/jpeg", JPEG, True),
        ("image/png", "image/png", b"not proven, but declared", True),
        ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", None, ZIP, True),
        ("application/zip", "application/x-zip-compressed", ZIP, True),
        ("image/png", None, ZIP, False),
        ("text/csv", "text/plain", b"a,b", True),
        ("text/csv", "application/octet-stream", b"a,b", True),
        ("text/csv", "application/json", b"{}", False),
        ("application/json", "application/problem+json", b"{}", True),
        ("application/json", "text/plain", b"{}", True),
        ("text/csv", "text/csv", PDF, False),
        ("application/octet-stream", "image/png", PNG, True),
        ("image/svg+xml", "text/xml", b"<svg/>", True),
        ("image/svg+xml", "text/xml", SVG, True),
        ("image/svg+xml", None, SVG, True),
        ("text/xml", "application/octet-stream", SVG, True),
        ("text/html", "text/html", SVG, True),
        ("image/png", "image/png", SVG, False),
        ("image/x-ms-bmp", "image/bmp", BMP, True),
    ],
)
def test_expected_types(expected: str, declared: str | None, body: bytes, fits: bool) -> None:
    """Another type than the request's fails; spellings and containers do not."""
    assert code(body, "http://h/f", declared, content_type=expected) == (None if fits else "type_mismatch")


@pytest.mark.parametrize("size", [0, 1, 1999, 2001])
def test_expected_size(size: int) -> None:
    """Neither more nor less; what is announced wrongly is told with the first block."""
    assert code(b"x" * 2000, size=size) == "size_mismatch"
    inspector = Inspector(Source(0, 0, "http://h/f", size=size), Offer(2000))
    with pytest.raises(SourceError):
        inspector.update([b"x"])


def test_expected_checksums() -> None:
    """Each algorithm, right and wrong."""
    data = b"hello"
    right = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "md5": hashlib.md5(data, usedforsecurity=False).hexdigest(),
        "crc32": f"{zlib.crc32(data):08x}",
    }
    for algorithm, value in right.items():
        assert code(data, checksum=Checksum.parse(f"{algorithm}:{value}")) is None
        assert code(data + b"!", checksum=Checksum.parse(f"{algorithm}:{value}")) == "checksum_mismatch"


@pytest.mark.parametrize(
    ("body", "metadata"),
    [
        (PNG, {"mediaType": "image/png", "width": 640, "height": 480}),
        (GIF, {"mediaType": "image/gif", "width": 30, "height": 20}),
        (JPEG, {"mediaType": "image/jpeg", "width": 300, "height": 200}),
        (WEBP, {"mediaType": "image/webp", "width": 100, "height": 50}),
        (WEBP_LOSSY, {"mediaType": "image/webp", "width": 64, "height": 32}),
        (WEBP_LOSSLESS, {"mediaType": "image/webp", "width": 16, "height": 8}),
        (SVG, {"mediaType": "image/svg+xml", "width": 4, "height": 3}),
        (BMP, {"mediaType": "image/bmp", "width": 7, "height": 5}),
        (PDF, {"mediaType": "application/pdf", "pdfVersion": "1.7"}),
        (b"", {}),
        (b"plain", {}),
    ],
)
def test_metadata(body: bytes, metadata: dict[str, Any]) -> None:
    """What the file's ends tell."""
    assert inspect(body).metadata == metadata


@given(
    st.sampled_from([PNG, GIF, JPEG, WEBP, WEBP_LOSSY, WEBP_LOSSLESS, PDF, PAGE]),
    st.integers(0, 60),
    st.binary(max_size=80),
)
def test_broken_files_never_fail_an_inspection(start: bytes, keep: int, rest: bytes) -> None:
    """Metadata is bounded and never fatal."""
    data = start[:keep] + rest
    assert code(data, "http://h/noext") is None


def test_type_is_what_the_bytes_prove_unless_the_declared_one_says_more() -> None:
    """A docx stays a docx, an octet-stream becomes what it is."""
    docx = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    assert inspect(ZIP, declared=docx).content_type == docx
    assert inspect(PDF, declared="application/octet-stream").content_type == "application/pdf"
    assert inspect(PNG, declared="image/jpeg").content_type == "image/png"
    assert inspect(SVG, declared="text/xml").content_type == "image/svg+xml"
    assert inspect(b"a,b", declared="text/csv").content_type == "text/csv"
    assert inspect(b"x").content_type is None


@pytest.mark.parametrize("first", range(256))
def test_the_first_byte_acquits_only_what_cannot_be_markup(first: int) -> None:
    """Whatever its first byte: a page, a picture, a report or a late PDF header is found exactly where it may stand."""
    may_begin = first in b"\t\n\v\f\r "
    for rest in (b"<html><body>", SVG, b'{"error": 1}'):
        start = bytes([first]) + rest
        text = sniff.as_ascii(start)
        found = sniff.is_html(text) or sniff.is_svg(text) or begins_like_a_page(start) or begins_like_a_report(start)
        is_list = first == ord("[") and rest.startswith(b"{")
        assert found == (may_begin or is_list)
        assert (sniff.media_type(start) in (sniff.HTML, sniff.SVG)) == (may_begin and not rest.startswith(b"{"))
    late = sniff.media_type(bytes([first]) + PDF)
    assert (late == "application/pdf") == (first in b"\xef\xbb\xbf\r\n\t \x00")
