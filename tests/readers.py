"""Other people's readers judge our archives: each must end with 0, say nothing alarming, and find the same files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests.servers import missing

_JAVA = Path(__file__).with_name("java") / "ReadZip.java"
_CHUNK_BYTES = 1024 * 1024


class Found(NamedTuple):
    """One file as a reader sees it."""

    name: str
    size: int
    crc32: int


def read_python(path: Path) -> list[Found]:
    """Python's zipfile, with every CRC checked."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return [Found(info.filename, info.file_size, info.CRC) for info in archive.infolist()]


def read_unzip(path: Path) -> list[Found]:
    """Info-ZIP: test, and then really extract."""
    check_unzip(path)
    with TemporaryDirectory() as folder:
        _run("unzip", "-q", str(path), "-d", folder)
        for file in Path(folder).rglob("*"):
            assert not file.is_file() or file.stat().st_mode & 0o777 == 0o644
        return _files(folder)


def read_7z(path: Path) -> list[Found]:
    """7-Zip: test and extract."""
    check_7z(path)
    with TemporaryDirectory() as folder:
        _run("7z", "x", "-bd", f"-o{folder}", str(path))
        return _files(folder)


def read_bsdtar(path: Path) -> list[Found]:
    """Libarchive, by seeking; it extracts."""
    with TemporaryDirectory() as folder:
        assert _run("bsdtar", "-xf", str(path), "-C", folder) == ""
        return _files(folder)


def read_bsdtar_stream(path: Path) -> list[Found]:
    """Libarchive from a pipe, front to back."""
    with TemporaryDirectory() as folder, path.open("rb") as archive:
        assert _run("bsdtar", "-xf", "-", "-C", folder, stdin=archive.fileno()) == ""
        return _files(folder)


def read_java_stream(path: Path) -> list[Found]:
    """Java's ZipInputStream, front to back."""
    return _java("stream", path)


def read_java_file(path: Path) -> list[Found]:
    """Java's ZipFile, by the directory."""
    return _java("file", path)


def check_unzip(path: Path) -> None:
    """`unzip -t`, for archives that are too large to extract."""
    said = _run("unzip", "-tq", str(path))
    assert said.startswith("No errors detected"), said


def check_7z(path: Path) -> None:
    """`7z t`, for archives that are too large to extract."""
    said = _run("7z", "t", "-bd", str(path))
    assert "Everything is Ok" in said
    assert not re.search(r"warning|error", said, re.IGNORECASE), said


READERS: tuple[Callable[[Path], list[Found]], ...] = (
    read_python,
    read_unzip,
    read_7z,
    read_bsdtar,
    read_bsdtar_stream,
    read_java_stream,
    read_java_file,
)


def _java(mode: str, path: Path) -> list[Found]:
    said = _run("java", "-Dfile.encoding=UTF-8", str(_JAVA), mode, str(path))
    rows = [line.split(" ", 2) for line in said.splitlines()]
    return [Found(name, int(size), int(crc32, 16)) for size, crc32, name in rows]


def _run(*command: str, stdin: int = subprocess.DEVNULL) -> str:
    """Run a reader; gives stdout and stderr together."""
    if shutil.which(command[0]) is None:
        missing(command[0])
    environment = os.environ | {"LC_ALL": "C.UTF-8", "LANG": "C.UTF-8"}
    done = subprocess.run(
        command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, check=False
    )
    said = done.stdout.decode(errors="replace")
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}:\n{said[-2000:]}"
    return said


def _files(folder: str) -> list[Found]:
    return [
        Found(str(path.relative_to(folder)), path.stat().st_size, _crc32(path))
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    ]


def _crc32(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            value = zlib.crc32(chunk, value)
    return value
