"""Downloads the archive by its link and looks at every file in it."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import zipfile
from collections.abc import Sequence
from typing import IO, Any

import aiohttp

from downloader.demo.files import DemoFile

REPORT = "MISSING-FILES.txt"
ADDED = frozenset({REPORT, "manifest.json", "SHA256SUMS"})
CHUNK_BYTES = 1024 * 1024


async def check(session: aiohttp.ClientSession, link: str, job: dict[str, Any], files: Sequence[DemoFile]) -> list[str]:
    """What is wrong with the archive behind `link` and with the job's own account of it; empty when all is right."""
    with tempfile.TemporaryFile(prefix="downloader-demo-") as copy:
        async with session.get(link) as response:
            if response.status != 200:
                return [f"the link answers {response.status}"]
            async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                copy.write(chunk)
        wrong = await asyncio.to_thread(_archive_faults, copy, files)
    return wrong + _account_faults(job, files)


def _archive_faults(copy: IO[bytes], files: Sequence[DemoFile]) -> list[str]:
    try:
        with zipfile.ZipFile(copy) as archive:
            damaged = archive.testzip()  # reads every entry to its end and compares the CRC-32
            if damaged is not None:
                return [f"{damaged} is damaged in the archive"]
            return [*_name_faults(archive, files), *_content_faults(archive, files), *_report_faults(archive, files)]
    except zipfile.BadZipFile as error:
        return [f"the archive is not a ZIP file: {error}"]


def _name_faults(archive: zipfile.ZipFile, files: Sequence[DemoFile]) -> list[str]:
    expected = {file.name for file in files if file.arrives} | ADDED
    names = archive.namelist()
    wrong = [f"{name} is missing in the archive" for name in sorted(expected - set(names))]
    wrong += [f"{name} should not be in the archive" for name in sorted(set(names) - expected)]
    return wrong + [f"{name} is in the archive twice" for name in sorted(set(names)) if names.count(name) > 1]


def _content_faults(archive: zipfile.ZipFile, files: Sequence[DemoFile]) -> list[str]:
    present = set(archive.namelist())
    return [
        f"{file.name} in the archive differs from its source"
        for file in files
        if file.arrives and file.name in present and _sha256(archive, file.name) != file.sha256()
    ]


def _report_faults(archive: zipfile.ZipFile, files: Sequence[DemoFile]) -> list[str]:
    if REPORT not in archive.namelist():
        return []
    report = archive.read(REPORT).decode()
    return [f"{REPORT} does not name {file.name}" for file in files if not file.arrives and file.name not in report]


def _account_faults(job: dict[str, Any], files: Sequence[DemoFile]) -> list[str]:
    """Compare the status answer with what we know of the files."""
    told = {file["fileId"]: file for file in job["files"]}
    wrong = []
    for file in files:
        status = told[file.name]["status"] if file.name in told else "not listed"
        if status != ("done" if file.arrives else "failed"):
            wrong.append(f"{file.name} is {status} in the job's status")
        elif file.arrives and told[file.name]["sha256"] != file.sha256():
            wrong.append(f"{file.name} has another SHA-256 in the job's status")
    return wrong


def _sha256(archive: zipfile.ZipFile, name: str) -> str:
    with archive.open(name) as entry:
        return hashlib.file_digest(entry, "sha256").hexdigest()  # type: ignore[arg-type]  # ZipExtFile has no readinto
