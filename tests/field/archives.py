"""A: the archive's structure."""

from __future__ import annotations

import asyncio
import io
import json
import re
import shutil
import subprocess
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.api import TERMINAL
from tests.field.answers import BODY, answer, chunked, verbatim
from tests.field.bench import MIB, Bench, Finished, Running
from tests.field.case import NOT_HERE, Case, Given, Story, name
from tests.field.host import HOST
from tests.field.judging import entries_of, java_file, java_stream, read_by, read_by_all
from tests.origins import Exchange, Script, content, raw_origin
from tests.readers import READERS, check_7z, check_unzip
from tests.ziplint import lint

MANIFEST = {"options": {"manifest": True}}


TEXT = b"2026-11-25 12:00:00 INFO the same line again and again\n" * 4000


BIG = content("big", 11 * MIB)


def _kinds() -> tuple[Given, ...]:
    jpeg = b"\xff\xd8\xff\xe0" + BODY
    packed = b"PK\x03\x04" + BODY
    return (
        Given(
            "a .jpg without a length", chunked(jpeg, headers=b"Content-Type: image/jpeg\r\n"), path="/a.jpg", body=jpeg
        ),
        Given("a .mp4 without a length", chunked(BODY, headers=b"Content-Type: video/mp4\r\n"), path="/b.mp4"),
        Given("a .zip without a length", chunked(packed), path="/c.zip", body=packed),
        Given("a .jpg with a length", answer({"Content-Type": "image/jpeg"}, jpeg), path="/d.jpg", body=jpeg),
        Given("a text without a length", chunked(TEXT), path="/e.txt", body=TEXT),
        Given("a body that ends by closing", verbatim(b"HTTP/1.0 200 OK\r\n\r\n" + BODY), path="/f.gz"),
        Given("an empty file, chunked", chunked(), path="/g.bin", body=b""),
        Given("an empty file", answer({}, b""), path="/h.txt", body=b""),
    )


def _sizes() -> tuple[Given, ...]:
    return (
        Given("small, known", answer({}, b"small"), path="/a.txt", body=b"small"),
        Given("small, unknown", chunked(b"small"), path="/b.txt", body=b"small"),
        Given("11 MiB, known, over parts", answer({}, BIG), path="/c.bin", body=BIG),
        Given("11 MiB, unknown, over parts", chunked(BIG), path="/d.bin", body=BIG),
        Given("text that shrinks", answer({"Content-Type": "text/plain"}, TEXT), path="/e.txt", body=TEXT),
        Given("one byte", answer({}, b"x"), path="/f", body=b"x"),
    )


def _asked(wanted: str) -> Given:
    """A name in the request."""
    return Given(f"asked for as {wanted}", answer(), wanted, fields={"name": wanted}, look=name)


async def _no_zip64(bench: Bench) -> str:
    """Three tiny files: not one 64-bit structure."""
    async with raw_origin(chunked(b"tiny"), HOST) as origin:
        done = await bench.job([origin.url(f"/{number}.txt") for number in range(3)])
    assert done.archive is not None
    linted = lint(done.archive)
    wide = linted.zip64_end or any(1 in entry.local_extras + entry.central_extras for entry in linted.entries)
    return "ZIP64" if wide or b"PK\6\6" in done.archive or b"PK\6\7" in done.archive else "none"


async def _three_streamed(bench: Bench) -> str:
    async with raw_origin(chunked(content("15k", 15_000)), HOST) as origin:
        done = await bench.job([origin.url(f"/{number}.bin") for number in range(3)])
    found = await asyncio.to_thread(read_by, done, (java_stream, java_file))
    return found if found != "right" else f"{sum(info.file_size for info in entries_of(done))} bytes"


HUGE = 4 * 1024 * MIB + 300 * MIB


async def _huge(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    block = bytes(MIB)
    for _ in range(HUGE // MIB):
        await exchange.send(b"%x\r\n%s\r\n" % (MIB, block))
    await exchange.send(b"0\r\n\r\n")


async def _beyond_four_gib(bench: Bench, *, compress: bool) -> str:
    """4.3 GiB of zeros without a length, then two tiny files; unzip and 7z test the archive from the disk."""
    limits = {"jobs": {"max_job_bytes": 8 * 1024 * MIB, "max_file_bytes": 6 * 1024 * MIB}}
    async with (
        bench.serving("huge", limits) as service,
        raw_origin(_huge, HOST) as origin,
        raw_origin(answer({}, b"0123456789"), HOST) as small,
    ):
        files = [origin.url("/a.bin"), small.url("/b.txt"), small.url("/c.txt")]
        job_id = await service.api.submit(files, options={"compress": compress, "reproducible": True})
        status = await _end(service, job_id)
        assert status["status"] == "completed", status["error"]
        path = bench.folder / f"huge-{compress}.zip"
        async with bench.session.get(f"{service.api.base}/v1/download/{job_id}") as response:
            with path.open("wb") as file:
                async for chunk in response.content.iter_chunked(MIB):
                    await asyncio.to_thread(file.write, chunk)
    try:
        found = await asyncio.to_thread(_tested, path)
    finally:
        path.unlink()
    return found


async def _end(service: Running, job_id: str) -> dict[str, Any]:
    """The status of a job that takes minutes."""
    while (status := await service.api.status(job_id))["status"] not in TERMINAL:  # noqa: ASYNC110 - over HTTP
        await asyncio.sleep(0.5)
    return status


def _tested(path: Path) -> str:
    check_unzip(path)
    check_7z(path)
    with zipfile.ZipFile(path) as archive:
        assert archive.read("b.txt") == archive.read("c.txt") == b"0123456789"
        return "right" if archive.getinfo("a.bin").file_size == HUGE else "another size"


def _too_many(count: int, expected: str) -> Story:
    async def tell(bench: Bench) -> str:
        body = json.dumps({"files": [{"url": f"http://{HOST}:1234/{number}"} for number in range(count)]}).encode()
        api = (await bench.service()).api
        kind = {"Content-Type": "application/json"}
        reply = await api.call("POST", "/v1/download/initiate", data=io.BytesIO(body), headers=kind)
        return str(reply.status)

    return Story(f"{count} URLs", expected, tell)


def _many(count: int) -> Story:
    """So many files of a few bytes through a service that allows them."""

    async def tell(bench: Bench) -> str:
        async def script(exchange: Exchange) -> None:
            await exchange.answer("200 OK", {}, exchange.target.encode())

        limits = {"jobs": {"max_files": 70_000}, "worker": {"files_in_flight": 64}}
        async with bench.serving("many", limits) as service, raw_origin(script, HOST) as origin:
            job_id = await service.api.submit([f"http://{HOST}:{origin.port}/{number}" for number in range(count)])
            status = await _end(service, job_id)
            assert status["filesCompleted"] == count, status["error"]
            data = await service.api.archive_bytes(job_id)
        with TemporaryDirectory() as folder:
            path = Path(folder) / "many.zip"
            path.write_bytes(data)
            assert len(lint(data).entries) == count
            counts = {len(await asyncio.to_thread(reader, path)) for reader in READERS}
        return str(counts)

    return Story(f"{count} files", f"{{{count}}}", tell, slow=True)


DATES = (
    "Thu, 01 Jan 1970 00:00:00 GMT", "Mon, 01 Jan 0001 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "0", "-1", "",
    "garbage", "Sat, 31 Dec 1979 23:59:59 GMT", "Tue, 01 Jan 1980 00:00:00 GMT", "Thu, 31 Dec 2107 23:59:59 GMT",
    "Sat, 01 Jan 2108 00:00:00 GMT", "Fri, 31 Feb 2020 25:61:61 GMT", "Sun, 06 Nov 1994 08:49:60 GMT",
    "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "2020-01-01T00:00:00Z",
    "Wed, 01 Jan 2020 00:00:00 +9999", "1" * 500, "Wed, 01 Jan -2020 00:00:00 GMT",
)  # fmt: skip


def _dates() -> tuple[Given, ...]:
    rows = [
        Given(f"Last-Modified: {date[:40]!r}", answer({"Last-Modified": date}), path=f"/{at}.bin")
        for at, date in enumerate(DATES)
    ]
    two = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nLast-Modified: 0\r\nLast-Modified: x\r\n\r\nx"
    return (*rows, Given("two headers", verbatim(two), path="/two.bin", body=b"x"))


def _dates_legal(done: Finished) -> str:
    for info in entries_of(done):
        year, month, day, hour, minute, second = info.date_time
        if not (
            1980 <= year <= 2107 and 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 60
        ):
            return f"{info.filename}: {info.date_time}"
    return read_by(done)


def _attributes(done: Finished) -> str:
    """`zipinfo -l` shows -rw-r--r-- on each line; no folders, no links, no setuid."""
    assert done.archive is not None
    with TemporaryDirectory() as folder:
        path = Path(folder) / "archive.zip"
        path.write_bytes(done.archive)
        if shutil.which("zipinfo") is None:
            return f"{NOT_HERE}: zipinfo"
        said = subprocess.run(["zipinfo", "-l", str(path)], check=True, capture_output=True, text=True).stdout
    lines = [line for line in said.splitlines() if re.match(r"[-?dlrwxst]{10} ", line)]
    odd = [line for line in lines if not line.startswith("-rw-r--r-- ")]
    if odd or len(lines) != len(entries_of(done)):
        return str(odd or said)[:200]
    return read_by(done)


def _refused(what: str, body: dict[str, Any]) -> Story:
    async def tell(bench: Bench) -> str:
        reply = await (await bench.service()).api.call("POST", "/v1/download/initiate", json=body)
        return str(reply.status)

    return Story(what, "400", tell)


def _nothing(what: str, script: Script, files: int, expected: str) -> Story:
    async def tell(bench: Bench) -> str:
        async with raw_origin(script, HOST) as origin:
            done = await bench.job([origin.url(f"/{number}.bin") for number in range(files)])
        link = await (await bench.service()).api.call("GET", f"/v1/download/{done.job_id}")
        assert not done.complaints(), done.complaints()
        return f"{done.status['status']}, {done.codes()}, link {link.status}"

    return Story(what, expected, tell)


async def _only_empty(bench: Bench) -> str:
    async with raw_origin(answer({}, b""), HOST) as origin:
        done = await bench.job([origin.url("/a.txt"), origin.url("/b.txt")])
    assert read_by(done) == "right"
    return f"{done.status['status']}, {len(done.names)} entries"


CASES: tuple[Case, ...] = (
    Case("A01", "stored entries and descriptors", _kinds(), MANIFEST, read_by_all),
    Case("A03", "local headers are complete", _sizes(), {}, read_by),
    Case(
        "A04",
        "ZIP64 exactly where it is needed",
        (
            Story("three tiny files: no 64-bit structure", "none", _no_zip64),
            Story(
                "4.3 GiB stored, two files behind",
                "right",
                lambda bench: _beyond_four_gib(bench, compress=False),
                slow=True,
            ),
            Story(
                "4.3 GiB deflated, two files behind",
                "right",
                lambda bench: _beyond_four_gib(bench, compress=True),
                slow=True,
            ),
        ),
    ),
    Case(
        "A05",
        "small streamed entries for Java",
        (Story("three chunked files of 15 kB", "45000 bytes", _three_streamed),),
    ),
    Case(
        "A07",
        "65,535 entries and more",
        (
            _too_many(10_001, "400"),
            _too_many(65_535, "400"),
            _too_many(70_000, "400"),
            *map(_many, (65_534, 65_535, 65_536, 70_000)),
        ),
    ),
    Case("A17", "impossible dates", _dates(), {}, _dates_legal),
    Case(
        "A19",
        "permissions",
        (*_sizes()[:2], _asked("folder/in/folder.txt"), _asked("run.sh")),
        MANIFEST,
        _attributes,
    ),
    Case(
        "A20",
        "archives with nothing in them",
        (
            _refused("an empty list", {"files": []}),
            _refused("no list", {}),
            _refused("empty lists of the older form", {"file_ids": [], "source_urls": []}),
            _refused("null", {"files": None}),
            _nothing(
                "three files, all 404",
                answer({}, b"", "404 Not Found"),
                3,
                "failed, http_status:404, http_status:404, http_status:404, link 409",
            ),
            _nothing(
                "the only file dies at byte 0",
                verbatim(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
                1,
                "failed, truncated, link 409",
            ),
            _nothing(
                "the only file dies later",
                verbatim(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n12345678"),
                1,
                "failed, truncated, link 409",
            ),
            Story("two empty files", "completed, 2 entries", _only_empty),
        ),
    ),
)
