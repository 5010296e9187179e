"""Metadata: what the two ends of a file tell is right or absent, and no bytes are too hostile for it."""

from __future__ import annotations

import io
import json
import math
import struct
import sys
import time
import wave
import zlib
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from downloader.work import sniff
from downloader.work.metadata import MAX_DURATION_S, MAX_SIDE, Windows, figures
from downloader.work.metadata.windows import WINDOW_BYTES

KINDS = (
    "image/png image/gif image/jpeg image/webp image/bmp image/tiff image/vnd.microsoft.icon image/svg+xml image/avif "
    "image/vnd.adobe.photoshop image/heic image/heif application/pdf audio/wav audio/flac application/ogg audio/mpeg "
    "audio/mp4 video/mp4 video/quicktime video/webm video/x-msvideo text/html application/zip"
).split()


def windows(data: bytes, block: int = 10_000) -> Windows:
    kept = Windows()
    for start in range(0, len(data), block):
        kept.add(data[start : start + block])
    return kept


def about(data: bytes) -> dict[str, Any]:
    """The figures of a file whose kind its first bytes have to prove."""
    return figures(sniff.media_type(data[: 2 * sniff.SNIFF_BYTES]), windows(data))


def chunk(kind: bytes, body: bytes) -> bytes:
    """A RIFF chunk."""
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def riff(kind: bytes, body: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + kind + body


def box(kind: bytes, body: bytes) -> bytes:
    """An ISO box."""
    return struct.pack(">I4s", 8 + len(body), kind) + body


def element(kind: int, body: bytes) -> bytes:
    """An EBML element."""
    return kind.to_bytes((kind.bit_length() + 7) // 8, "big") + struct.pack(">I", len(body) | 1 << 28) + body


# Images.


def png(width: int, height: int) -> bytes:
    def part(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = zlib.compress(b"".join(b"\0" + b"\x7f" * width for _ in range(height)))
    header = part(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + part(b"IDAT", rows) + part(b"IEND", b"")


def jpeg(width: int, height: int, exif_bytes: int = 20) -> bytes:
    exif = b"\xff\xe1" + struct.pack(">H", 2 + exif_bytes) + b"\xff\xc0\0\x11\x08\0\x01\0\x01".ljust(exif_bytes, b"E")
    tables = b"\xff\xdb\0\x43" + b"\1" * 65 + b"\xff\xff\xc4\0\x05\0\0\0"
    frame = b"\xff\xc2\0\x11\x08" + struct.pack(">HH", height, width) + b"\3\1\x11\0\2\x11\0\3\x11\0"
    return b"\xff\xd8" + exif + tables + frame + b"\xff\xda\0\x08" + b"\0" * 40 + b"\xff\xd9"


def tiff(order: str, width: int, height: int, subtype: int = 0, gap: int = 0) -> bytes:
    def entry(tag: int, kind: int, value: int) -> bytes:
        return (
            struct.pack(order + "HHI", tag, kind, 1) + struct.pack(order + ("HH" if kind == 3 else "I"), value, 0)[:4]
        )

    def long(tag: int, value: int) -> bytes:
        return struct.pack(order + "HHII", tag, 4, 1, value)

    mark = b"II*\0" if order == "<" else b"MM\0*"
    entries = long(254, subtype) + long(256, width) + entry(257, 3, height)
    return mark + struct.pack(order + "I", 8 + gap) + b"x" * gap + struct.pack(order + "H", 3) + entries + b"\0" * 4


def bmp(width: int, height: int, header: int = 40) -> bytes:
    sides = struct.pack("<HH" if header == 12 else "<ii", width, height)
    dib = (struct.pack("<I", header) + sides + struct.pack("<HH", 1, 24)).ljust(header, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + header + 99, 0, 0, 14 + header) + dib + b"\1" * 99


def icon(*sides: tuple[int, int]) -> bytes:
    entries = [struct.pack("<BBBBHHII", w % 256, h % 256, 0, 0, 1, 32, 40, 6 + 16 * len(sides)) for w, h in sides]
    return b"\0\0\1\0" + struct.pack("<H", len(sides)) + b"".join(entries) + b"\1" * 40


def still(brand: bytes, primary: int = 2, extra: bytes = b"") -> bytes:
    """Item 1 is a tile of 512 x 512, item 2 the picture of 400 x 300 that is made of it."""
    ispe = [box(b"ispe", struct.pack(">III", 0, *sides)) for sides in ((512, 512), (400, 300))]
    ipma = box(b"ipma", struct.pack(">IIHBBHBBB", 0, 2, 1, 1, 0x81, 2, 2, 0x03, 0x82))
    properties = box(b"iprp", box(b"ipco", ispe[0] + ispe[1] + box(b"pixi", b"\0\0\0\0\1\x08")) + ipma)
    meta = box(b"meta", bytes(4) + box(b"hdlr", bytes(24)) + box(b"pitm", struct.pack(">IH", 0, primary)) + properties)
    return box(b"ftyp", brand + bytes(4) + b"mif1") + extra + meta + box(b"mdat", b"\1" * 100)


def svg(attributes: str, before: str = "") -> bytes:
    return f'{before}<svg xmlns="http://www.w3.org/2000/svg" {attributes}><g/></svg>'.encode()


WEBP_EXTENDED = riff(b"WEBP", chunk(b"VP8X", bytes(4) + (99_999).to_bytes(3, "little") + (49).to_bytes(3, "little")))
WEBP_LOSSY = riff(b"WEBP", chunk(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 64 | 0x4000, 32) + bytes(20)))
WEBP_LOSSLESS = riff(b"WEBP", chunk(b"VP8L", b"\x2f" + struct.pack("<I", 15 | (7 << 14)) + bytes(20)))
PSD = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 300, 400, 8, 3) + bytes(40)
GIF = b"GIF89a" + struct.pack("<HH", 30, 20) + bytes(20)
IMAGES = {
    "png": (png(64, 48), (64, 48)),
    "gif": (GIF, (30, 20)),
    "jpeg": (jpeg(300, 200), (300, 200)),
    "jpeg with a large EXIF": (jpeg(300, 200, 60_000), (300, 200)),
    "webp": (WEBP_EXTENDED, (100_000, 50)),
    "lossy webp": (WEBP_LOSSY, (64, 32)),
    "lossless webp": (WEBP_LOSSLESS, (16, 8)),
    "bmp": (bmp(31, 17), (31, 17)),
    "bmp from its top": (bmp(31, -17, 124), (31, 17)),
    "old bmp": (bmp(31, 17, 12), (31, 17)),
    "little tiff": (tiff("<", 70_000, 20), (70_000, 20)),
    "big tiff": (tiff(">", 70_000, 20), (70_000, 20)),
    "tiff with its directory at the end": (tiff("<", 70, 20, gap=500_000), (70, 20)),
    "icon": (icon((16, 16), (256, 256), (48, 48)), (256, 256)),
    "photoshop": (PSD, (400, 300)),
    "avif": (still(b"avif"), (400, 300)),
    "heic": (still(b"heic"), (400, 300)),
    "heif of the other item": (still(b"mif1", 1), (512, 512)),
    "heic with its boxes at the end": (still(b"heic", extra=box(b"free", bytes(300_000))), (400, 300)),
    "svg": (svg('width="20" height = "10.0px" viewBox="0 0 1 1"'), (20, 10)),
    "svg with a viewBox only": (svg("viewBox='0,0 24 12'", '<?xml version="1.0"?>\n<!-- <svg> -->'), (24, 12)),
    "svg with a doctype": (svg("a='>' width='5' height='6'", "<!DOCTYPE svg PUBLIC '-//W3C'>"), (5, 6)),
}
NO_SIZE = {
    "a tiff that begins with a thumbnail": tiff("<", 70, 20, subtype=1),
    "a jpeg whose scan comes before its frame": jpeg(300, 200, 60_000)[:-300].replace(b"\xff\xdb", b"\xff\xda", 1),
    "an svg in millimetres": svg('width="20mm" height="10mm" viewBox="0 0 20 10"'),
    "an svg with half a size": svg('width="20" viewBox="0 0 20 10"'),
    "an svg of parts of pixels": svg('width="20.5" height="10"'),
    "a png without height": png(5, 1)[:20] + bytes(4) + png(5, 1)[24:],
    "a png too wide": png(5, 1)[:16] + b"\xff" * 4 + png(5, 1)[20:],
}

# Sound and pictures that move.


def wav(seconds: float, width: int = 2) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((2, width, 8000, 0, "NONE", ""))
        writer.writeframes(bytes(2 * width * int(8000 * seconds)))
    return file.getvalue()


def flac(rate: int, samples: int) -> bytes:
    bits = rate << 44 | 1 << 41 | 15 << 36 | samples
    return b"fLaC\x80\0\0\x22" + bytes(10) + struct.pack(">Q", bits) + bytes(16) + b"\xff\xf8" + bytes(50)


def ogg_page(packet: bytes, granule: int, flags: int = 0, stream: int = 7) -> bytes:
    lacing = b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255])
    return b"OggS\0" + struct.pack("<BqIIIB", flags, granule, stream, 0, 0, len(lacing)) + lacing + packet


VORBIS = ogg_page(b"\x01vorbis" + struct.pack("<IBI", 0, 2, 44_100) + bytes(14), 0, 2) + ogg_page(b"\x03vorbis", 0)
OPUS = ogg_page(b"OpusHead\1\2" + struct.pack("<HI", 312, 44_100) + bytes(3), 0, 2) + ogg_page(b"OpusTags", 0)


def ogg(headers: bytes, rate: int, seconds: int, skipped: int = 0, begin: int = 0) -> bytes:
    pages = (ogg_page(bytes(4000), skipped + rate * second) for second in range(begin + 1, begin + seconds + 1))
    return headers + b"".join(pages)


def mp3_frame(bitrate: int = 9, padding: int = 0, body: bytes = b"") -> bytes:
    """A stereo frame of MPEG-1 at 44.1 kHz, by default of 128 kbit/s: 417 bytes, 1152 samples."""
    rates = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
    length = 144_000 * rates[bitrate] // 44_100 + padding
    return (bytes([0xFF, 0xFB, bitrate << 4 | padding << 1, 0]) + body).ljust(length, b"\0")


def cbr(frames: int) -> bytes:
    """Paddings are such that the bitrate is kept exactly."""
    ends = [144 * 128_000 * count // 44_100 for count in range(frames + 1)]
    return b"".join(mp3_frame(padding=stop - start - 417) for start, stop in pairwise(ends))


def xing(frames: int, size_bytes: int, mark: bytes = b"Xing") -> bytes:
    return mp3_frame(body=bytes(32) + mark + struct.pack(">III", 3, frames, size_bytes))


ID3 = b"ID3\4\0\0\0\0\x02\x05" + b"t" * 261 + bytes(50)
VBR = b"".join(mp3_frame(bitrate) for bitrate in (9, 5, 11, 14) * 25)
VBRI = mp3_frame(body=bytes(32) + b"VBRI" + struct.pack(">HHHII", 1, 0, 75, 0, 1000))


def track(kind: bytes, width: int, height: int) -> bytes:
    header = box(b"tkhd", bytes(76) + struct.pack(">II", width << 16, height << 16))
    return box(b"trak", header + box(b"mdia", box(b"mdhd", bytes(24)) + box(b"hdlr", bytes(8) + kind + bytes(12))))


MVHD = box(b"mvhd", struct.pack(">12xII", 600, 4500) + bytes(80))
MVHD_LONG = box(b"mvhd", struct.pack(">BxxxQQIQ", 1, 0, 0, 600, 4500) + bytes(80))
MOOV = box(b"moov", MVHD + track(b"soun", 0, 0) + track(b"vide", 320, 240) + track(b"text", 320, 20))
MDAT = struct.pack(">I4sQ", 1, b"mdat", 16 + 300_000) + b"\1" * 300_000
MP4 = box(b"ftyp", b"isom" + bytes(8))


def matroska(scale: int | None = None, duration: bytes = struct.pack(">d", 7500)) -> bytes:
    info = (element(0x2AD7B1, scale.to_bytes(4, "big")) if scale else b"") + element(0x4489, duration)
    video = element(0xE0, element(0xB0, b"\x01\x40") + element(0xBA, b"\xf0"))
    tracks = element(0xAE, element(0x83, b"\2")) + element(0xAE, element(0x83, b"\1") + video)
    inside = element(0xEC, bytes(50)) + element(0x1549A966, info) + element(0x1654AE6B, tracks)
    segment = b"\x18\x53\x80\x67\x01" + b"\xff" * 7
    return element(0x1A45DFA3, bytes(20)) + segment + inside + element(0x1F43B675, b"\1" * 3000)


def avi(microseconds: int, count: int, width: int, height: int) -> bytes:
    header = struct.pack("<I12xI12xII16x", microseconds, count, width, height)
    return riff(b"AVI ", chunk(b"LIST", b"hdrl" + chunk(b"avih", header)) + chunk(b"LIST", b"movi" + bytes(500)))


MEDIA: dict[str, tuple[bytes, dict[str, Any]]] = {
    "wav": (wav(1.5), {"duration": 1.5}),
    "wav of 24 bits": (wav(0.75, 3), {"duration": 0.75}),
    "flac": (flac(44_100, 44_100 * 60 + 441), {"duration": 60.01}),
    "vorbis": (ogg(VORBIS, 44_100, 60), {"duration": 60.0}),
    "vorbis without its end": (ogg(VORBIS, 44_100, 60)[:-10], {"duration": 59.0}),
    "opus": (ogg(OPUS, 48_000, 3, 312), {"duration": 3.0}),
    "mp3 with a Xing header": (xing(100, 417 + len(VBR)) + VBR, {"duration": 2.612}),
    "mp3 with an Info header": (ID3 + xing(100, 0, b"Info") + cbr(100), {"duration": 2.612}),
    "mp3 with a VBRI header": (VBRI + VBR, {"duration": 26.122}),
    "mp3 of one bitrate": (cbr(1000), {"duration": 26.122}),
    "short mp3 of one bitrate": (ID3 + cbr(100) + b"TAG".ljust(128, b"\0"), {"duration": 2.612}),
    "mp4": (MP4 + MOOV + MDAT, {"duration": 7.5, "width": 320, "height": 240}),
    "mp4 with its header at the end": (MP4 + MDAT + MOOV, {"duration": 7.5, "width": 320, "height": 240}),
    "m4a": (box(b"ftyp", b"M4A " + bytes(4)) + box(b"moov", MVHD_LONG + track(b"soun", 0, 0)), {"duration": 7.5}),
    "mov": (box(b"ftyp", b"qt  " + bytes(4)) + MOOV, {"duration": 7.5, "width": 320, "height": 240}),
    "webm": (matroska(), {"duration": 7.5, "width": 320, "height": 240}),
    "mkv with another scale": (
        matroska(500_000, struct.pack(">f", 1000)),
        {"duration": 0.5, "width": 320, "height": 240},
    ),
    "avi": (avi(40_000, 100, 320, 240), {"duration": 4.0, "width": 320, "height": 240}),
}
NO_DURATION = {
    "a wav that was not finished": wav(1)[:40] + b"\xff" * 4 + wav(1)[44:],
    "a wav of another codec": wav(1).replace(b"fmt \x10\0\0\0\1", b"fmt \x10\0\0\0\2"),
    "a flac of unknown length": flac(44_100, 0),
    "an ogg cut out of a longer one": ogg(VORBIS, 44_100, 60, begin=1000),
    "an ogg with two streams": ogg(ogg_page(b"\x80theora" + bytes(40), 0, 2, 8) + VORBIS, 44_100, 60),
    "an ogg that goes on with another stream": ogg(VORBIS, 44_100, 9) + ogg_page(bytes(9), 44_100, 2, 9),
    "a mp3 of many bitrates": VBR,
    "a mp3 whose end is of other bitrates": cbr(400) + VBR,
    "a truncated mp3": xing(100, 417 + len(VBR)) + VBR[:-5000],
    "a mp3 with an APE tag": cbr(100) + b"APETAGEX" + bytes(24),
    "a mp4 of unknown duration": MP4 + box(b"moov", box(b"mvhd", struct.pack(">12xII", 600, 2**32 - 1) + bytes(80))),
    "a mp4 whose header has no end": (MP4 + MOOV)[:-10],
    "an avi of two parts": avi(40_000, 100, 320, 240) + riff(b"AVIX", bytes(100)),
    "a mp4 without timescale": MP4 + box(b"moov", box(b"mvhd", struct.pack(">12xII", 0, 5) + bytes(80))),
    "a webm that lasts for no number": matroska(duration=struct.pack(">d", math.nan)),
    "a webm that lasts for ever": matroska(duration=struct.pack(">d", math.inf)),
    "a webm that lasts too long": matroska(duration=struct.pack(">d", 1e15)),
}

# PDFs.


def pdf(pages: int, trailer: str = "", kids: str = "", extra: str = "", version: str = "1.7") -> bytes:
    """Objects 1 (catalog), 2 (root of the page tree) and 3 (a node of it), and a table of where they stand."""
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [ {kids} 3 0 R ] /Count {pages} >>",
        f"<< /Type /Pages /Parent 2 0 R /Kids [] /Count {pages + 100} >>",
    ]
    text, places = f"%PDF-{version}\n{extra}", []
    for number, body in enumerate(objects, 1):
        places.append(len(text))
        text += f"{number} 0 obj\n{body}\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    head = f"xref\n0 4\n0000000000 65535 f \n{table}trailer\n<< /Size 4 /Root 1 0 R {trailer} >>\n"
    return f"{text}{head}startxref\n{len(text)}\n%%EOF\n".encode()


def changed(before: bytes, pages: int) -> bytes:
    """A newer root of the page tree is appended."""
    body = b"2 0 obj\n<< /Type /Pages /Kids [] /Count %d >>\nendobj\n" % pages
    place = len(before) + len(body)
    trailer = b"trailer\n<< /Size 4 /Root 1 0 R /Prev 9 >>\nstartxref\n%d\n%%%%EOF\n" % place
    return before + body + b"xref\n2 1\n%010d 00000 n \n" % len(before) + trailer


def linearized(pages: int, length: int | None = None) -> bytes:
    made = f"%PDF-1.5\n9 0 obj\n<< /Linearized 1 /L 99999 /H [ 5 6 ] /O 11 /E 5 /N {pages} /T 7 >>\nendobj\n"
    made += "x" * 200_000 + "\nstartxref\n0\n%%EOF\n"
    return made.replace("99999", f"{len(made) + 1 if length is None else length}").encode()


def long_table(made: bytes) -> bytes:
    """The table begins where nobody looks."""
    place = made.index(b"xref\n0 4\n")
    entries = made[place:].replace(b"0 4\n", b"0 5004\n" + b"0000000000 65535 f \n" * 5000)
    moved = entries.replace(b"startxref\n%d" % place, b"startxref\n%d" % (place + len(LARGE)))
    return made[:place] + LARGE.encode() + moved


MOVED = b"7 0 obj\n<< /Type /Pages /Kids []"
LARGE = "".join("%" + "x" * 1000 + "\n" for _ in range(300))
ENCRYPTED = (
    b"%PDF-1.6\n5 0 obj\n<< /Type /XRef /Encrypt 4 0 R /Root 1 0 R >>\nstream\nxx\nendstream\nstartxref\n9\n%%EOF"
)
PDFS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "plain": (pdf(12), {"pages": 12}),
    "with the pages at the end": (pdf(12, extra=LARGE), {"pages": 12}),
    "with many pages": (pdf(5000, kids="3 0 R " * 4999), {"pages": 5000}),
    "encrypted": (pdf(3, "/Encrypt 7 0 R"), {"pages": 3, "encrypted": True}),
    "encrypted in place": (pdf(3, "/Encrypt<< /V 1 >>"), {"pages": 3, "encrypted": True}),
    "encrypted in a stream": (ENCRYPTED, {"pdfVersion": "1.6", "encrypted": True}),
    "that only speaks of encryption": (pdf(3, extra="% /Encrypt 7 0 R\n"), {"pages": 3}),
    "changed": (changed(pdf(3), 4), {"pages": 4}),
    "changed out of sight": (
        changed(pdf(3) + LARGE.encode(), 4).replace(b"2 0 obj\n<< /Type /Pages /Kids []", MOVED),
        {},
    ),
    "that begins in the midst of its pages": (pdf(3).replace(b"/Pages 2 0 R", b"/Pages 3 0 R"), {}),
    "with streams beside its table": (pdf(3, "/XRefStm 17"), {}),
    "with a long table": (long_table(pdf(3)), {"pages": 3}),
    "linearized": (linearized(77), {"pdfVersion": "1.5", "pages": 77}),
    "linearized and changed": (linearized(77, 5), {"pdfVersion": "1.5"}),
    "that says two numbers": (pdf(3, kids="/Count 9"), {}),
    "in object streams": (pdf(3).replace(b"2 0 obj", b"2 0 xxx"), {}),
    "without an end": (pdf(3)[:-30], {}),
}


@pytest.mark.parametrize("name", IMAGES)
def test_sizes_of_images(name: str) -> None:
    """Each kind, as its first bytes prove it."""
    data, (width, height) = IMAGES[name]
    assert about(data) == {"width": width, "height": height}


@pytest.mark.parametrize("name", MEDIA)
def test_durations(name: str) -> None:
    """Each kind, and the size of what has pictures."""
    data, expected = MEDIA[name]
    assert about(data) == expected


@pytest.mark.parametrize("name", PDFS)
def test_pdfs(name: str) -> None:
    """The count of pages is told only where it is certain."""
    data, expected = PDFS[name]
    assert about(data) == {"pdfVersion": "1.7"} | expected


@pytest.mark.parametrize("name", [*NO_SIZE, *NO_DURATION])
def test_what_is_not_certain_is_not_told(name: str) -> None:
    """A figure that may be wrong is worse than none."""
    found = about((NO_SIZE | NO_DURATION)[name])
    assert found.keys().isdisjoint({"width", "height"} if name in NO_SIZE else {"duration"})


def goods() -> Iterator[tuple[str, bytes]]:
    """Every good file by its name."""
    for name, (data, _) in [*IMAGES.items(), *MEDIA.items(), *PDFS.items()]:
        yield name, data


GOODS = dict(goods())


@pytest.mark.parametrize("name", GOODS)
def test_part_of_a_file_has_the_same_figures_or_none(name: str) -> None:
    """Cut off anywhere near its ends, and at some places between, a file never tells another size."""
    data = GOODS[name]
    kind, right = sniff.media_type(data[:2048]), about(data)
    near = [*range(min(len(data), 700)), *range(max(len(data) - 300, 700), len(data))]
    for length in [*near, *range(700, len(data), max(len(data) // 50, 1))]:
        found = figures(kind, windows(data[:length], 65_536))
        for key in ("width", "height", "pdfVersion"):
            assert found.get(key, right.get(key)) == right.get(key), (length, found)
        assert ("width" in found) == ("height" in found)


def check_sane(found: dict[str, Any]) -> None:
    """No figure is of the wrong type or beyond what a file can be."""
    json.dumps(found, allow_nan=False)
    assert found.keys() <= {"width", "height", "duration", "pages", "pdfVersion", "encrypted"}
    assert all(0 < found.get(key, 1) <= MAX_SIDE and type(found.get(key, 1)) is int for key in ("width", "height"))
    assert 0 < found.get("duration", 1.0) < MAX_DURATION_S
    assert isinstance(found.get("duration", 1.0), float)
    assert found.get("pages", 1) > 0


@given(st.sampled_from(KINDS), st.sampled_from(sorted(GOODS)), st.integers(0, 120), st.binary(max_size=300))
def test_any_bytes_of_any_kind(kind: str, name: str, keep: int, rest: bytes) -> None:
    """Bounded, and never fatal."""
    check_sane(figures(kind, windows(rest)))
    check_sane(figures(kind, windows(GOODS[name][:keep] + rest)))


@given(st.sampled_from(sorted(GOODS)), st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=8))
def test_flipped_bits(name: str, flips: list[tuple[int, int]]) -> None:
    """A file with faults in it is no worse than any other bytes, from either of its ends."""
    data = bytearray(GOODS[name])
    kind = sniff.media_type(bytes(data[:2048]))
    for place, bits in flips:
        data[place % len(data)] ^= bits
        data[-1 - place % 900 % len(data)] ^= bits >> 3
    check_sane(figures(kind, windows(bytes(data), 65_536)))


@given(st.lists(st.integers(0, 90_000), max_size=8), st.integers(1, 1000))
def test_windows_are_the_two_ends(sizes: list[int], seed: int) -> None:
    """However the bytes come."""
    data = (seed.to_bytes(2, "big") + bytes(range(251))) * (sum(sizes) // 253 + 1)
    data, kept, place = data[: sum(sizes)], Windows(), 0
    for size in sizes:
        kept.add(data[place : place + size])
        place += size
    ends = kept.ends()
    assert (kept.size, kept.head, kept.tail) == (len(data), data[:WINDOW_BYTES], data[-WINDOW_BYTES:])
    assert ends.head == (data if len(data) <= 2 * WINDOW_BYTES else kept.head)
    for start in (0, 1, len(data) - 10, len(data) - WINDOW_BYTES, len(data), len(data) + 9, WINDOW_BYTES):
        found = ends.at(start, 10)
        assert found == (data[start : start + 10][: len(found)] if start >= 0 else b"")


def test_huge_chunk_is_not_kept_whole() -> None:
    """What is kept is bounded, whatever the blocks."""
    kept, huge = Windows(), bytes(10_000_000)
    before = sys.getrefcount(huge)
    kept.add(huge)
    assert sys.getrefcount(huge) == before
    kept.add(b"end")
    assert kept.tail == bytes(WINDOW_BYTES - 3) + b"end"


HOSTILE = (
    (b"\xff\xd8", b"\xff", b""),
    (b"\xff\xd8", b"\xff\xe0\0\2", b""),
    (b"", box(b"free", b""), b""),
    (struct.pack(">I4s", 2**17, b"moov"), track(b"vide", 1, 1), b""),
    (VORBIS, ogg_page(b"", 0, stream=9), b""),
    (VORBIS, b"OggS\0", b""),
    (b"", b"\xff\xf3\x18\xc4" + bytes(22), b""),
    (matroska()[:40], b"\xec\x80", b""),
    (b"", b"<!-- -->", b"<svg>"),
    (b"<svg", b" a='1'", b""),
    (b"<svg", b" ", b""),
    (b"%PDF-1.7 /XRef", b"/Root 1 0 R ", b"\nstartxref\n9\n%%EOF"),
    (b"%PDF-1.7\n1 0 obj/Pages 1 0 R/Type/Pages ", b"/Count 1 ", b"endobj trailer /Root 1 0 R\nstartxref\n999999\n"),
    (b"%PDF-1.7\n1 0 obj", b"/Pages 1 0 R ", b"endobj trailer /Root 1 0 R\nstartxref\n999999\n"),
)


def test_hostile_bytes_take_no_time() -> None:
    """The worst 128 KiB that we know of, under every kind; a wide limit, as the machine may be busy."""
    worst, of = 0.0, ""
    for begin, unit, end in HOSTILE:
        kept = windows((begin + unit * (2**17 // len(unit)))[: 2**17 - len(end)] + end, 65_536)
        for kind in KINDS:
            taken = min(_taken_s(kind, kept) for _ in range(3))
            worst, of = max((worst, of), (taken, f"{kind}: {begin[:20]!r} {unit[:20]!r}"))
    print(f"the worst took {worst * 1000:.2f} ms ({of})")
    assert worst < 0.025, of


def _taken_s(kind: str, kept: Windows) -> float:
    begin = time.perf_counter()
    figures(kind, kept)
    return time.perf_counter() - begin


@pytest.mark.parametrize(
    "start",
    [
        b"\xff\xfb\x90\0" + bytes(413) + b"\xff\xfb\x94\0",
        b"BM, a letter about cars and more",
        b"\xff\xfb\x90\0" + b"x" * 600,
        b"<svg>",
        b"<svgx xmlns=''>",
        b"\xff",
    ],
)
def test_weak_signatures_prove_nothing_alone(start: bytes) -> None:
    """Two letters or one frame's header may begin anything, and without its namespace no element is an SVG's."""
    assert sniff.media_type(start) is None
