"""The files of the demo. Their bytes follow from their names, so the archive can be checked to the last one."""

from __future__ import annotations

import hashlib
import io
import json
import math
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache

MIB = 1024 * 1024
RECORDING_BLOCKS = 48


class Manner(Enum):
    """How the origin serves a file."""

    WELL = "at once and whole"
    SLOWLY = "in drops"
    NOT = "with a 404"
    CUT = "breaking off in the middle, every time"


@dataclass(frozen=True, slots=True)
class DemoFile:
    """A file of the demo; `blocks` gives its bytes."""

    name: str
    content_type: str
    blocks: Callable[[], Iterator[bytes]]
    manner: Manner = Manner.WELL

    @property
    def arrives(self) -> bool:
        """Whether it can be had."""
        return self.manner in {Manner.WELL, Manner.SLOWLY}

    def size(self) -> int:
        """Its length in bytes."""
        return sum(len(block) for block in self.blocks())

    def sha256(self) -> str:
        """Its SHA-256 in hexadecimal."""
        digest = hashlib.sha256()
        for block in self.blocks():
            digest.update(block)
        return digest.hexdigest()


def demo_files() -> tuple[DemoFile, ...]:
    """A dozen files of many kinds; two of them cannot be had."""
    return (
        DemoFile("read-me-first.txt", "text/plain", _whole(_text)),
        DemoFile("measurements.csv", "text/csv", _whole(_csv)),
        DemoFile("catalogue.json", "application/json", _whole(_json)),
        DemoFile("report.pdf", "application/pdf", _whole(_pdf)),
        DemoFile("gradient.png", "image/png", _whole(_gradient)),
        DemoFile("noise.png", "image/png", _whole(_noise)),
        DemoFile("emblem.svg", "image/svg+xml", _whole(_svg)),
        DemoFile("samples.zip", "application/zip", _whole(_zip)),
        DemoFile("recording.bin", "application/octet-stream", _recording),
        DemoFile("slow-sensor.log", "text/plain", _whole(_log), Manner.SLOWLY),
        DemoFile("lost-contract.docx", "application/octet-stream", _whole(bytes), Manner.NOT),
        DemoFile("cut-off-backup.tar", "application/x-tar", _whole(_backup), Manner.CUT),
    )


def _whole(make: Callable[[], bytes]) -> Callable[[], Iterator[bytes]]:
    made = cache(make)
    return lambda: iter((made(),))


def _text() -> bytes:
    lines = [
        f"{number:4}  Whoever collects files from many places needs one archive in the end." for number in range(400)
    ]
    return ("\n".join(lines) + "\n").encode()


def _csv() -> bytes:
    chance = random.Random("measurements")
    rows = (f"{step},{20 + 5 * math.sin(step / 500):.3f},{chance.random():.4f}" for step in range(40_000))
    return ("second,temperature,humidity\n" + "\n".join(rows) + "\n").encode()


def _json() -> bytes:
    items = [{"id": number, "title": f"Item {number}", "price": number * 25 % 997} for number in range(2000)]
    return json.dumps({"items": items}, indent=1).encode()


def _pdf() -> bytes:
    """One page with one line of text, with a right table of offsets."""
    drawing = b"BT /F1 24 Tf 72 760 Td (A report of one page) Tj ET"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(drawing), drawing),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    body, offsets = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    count = len(objects) + 1
    trailer = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (count, len(body))
    return body + b"xref\n0 %d\n0000000000 65535 f \n%b%b" % (count, table, trailer)


def _gradient() -> bytes:
    side = 256
    rows = (bytes(value for x in range(side) for value in (x, y, 255 - x)) for y in range(side))
    return _png(side, side, rows)


def _noise() -> bytes:
    side = 512
    chance = random.Random("noise")
    return _png(side, side, (chance.randbytes(3 * side) for _ in range(side)))


def _png(width: int, height: int, rows: Iterator[bytes]) -> bytes:
    """A PNG of 8-bit RGB rows."""
    pixels = b"".join(b"\x00" + row for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(pixels)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _svg() -> bytes:
    circles = "".join(f'<circle cx="50" cy="50" r="{radius}"/>' for radius in range(5, 50, 5))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100">'
        f'<g fill="none" stroke="teal">{circles}</g></svg>\n'
    ).encode()


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(8):
            content = random.Random(number).randbytes(64 * 1024)
            archive.writestr(zipfile.ZipInfo(f"sample-{number}.bin", (2024, 1, 1, 0, 0, 0)), content)
    return buffer.getvalue()


def _recording() -> Iterator[bytes]:
    """48 MiB in blocks that differ and do not compress, without ever being in memory as a whole."""
    noise = _block()
    for number in range(RECORDING_BLOCKS):
        yield noise[number * 4096 :] + noise[: number * 4096]


@cache
def _block() -> bytes:
    return random.Random("recording").randbytes(MIB)


def _log() -> bytes:
    return "".join(f"{minute:05} sensor alive, value {minute * 7919 % 1000}\n" for minute in range(3000)).encode()


def _backup() -> bytes:
    return random.Random("backup").randbytes(2 * MIB)
