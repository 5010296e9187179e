"""An archive judged: by its names, by a linter of its headers and by other people's readers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
import unicodedata
import zipfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.field.bench import Finished
from tests.readers import READERS, Found, read_python
from tests.servers import missing
from tests.ziplint import lint

_JAVA = Path(__file__).parents[1] / "java" / "ReadZip.java"
_RESERVED = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} | {
    port + digit for port in ("COM", "LPT") for digit in "0123456789¹²³"
}


def legal(path: str) -> bool:
    """Whether a name is one that every system takes, inside the folder it is extracted to."""
    return len(path) <= 200 and path == unicodedata.normalize("NFC", path) and all(map(_is_legal_part, path.split("/")))


def _is_legal_part(part: str) -> bool:
    stem = part.partition(".")[0].rstrip().upper()
    return (
        part not in ("", ".", "..")
        and re.search(r'[\x00-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069<>:"|?*\\]', part) is None
        and part[-1] not in ". "
        and stem not in _RESERVED
        and len(part.encode()) <= 255
        and len(part) <= 150
    )


_ONE_AT_A_TIME = threading.Lock()  # readers take whole cores from the service that is being tried


def read_by(done: Finished, readers: tuple[Callable[[Path], list[Found]], ...] = READERS[1:5]) -> str:
    """`right` if each reader finds the same files without a complaint; Java is asked by `read_by_all` only."""
    assert done.archive is not None, "no archive"
    try:
        lint(done.archive)
    except AssertionError as error:
        return f"linter: {error}"
    with TemporaryDirectory() as folder:
        path = Path(folder) / "archive.zip"
        path.write_bytes(done.archive)
        wanted = set(read_python(path))
        for reader in readers:
            try:
                with _ONE_AT_A_TIME:
                    found = set(reader(path))
            except AssertionError as error:
                return f"{reader.__name__}: {error}"[:300]
            if found != wanted:
                return f"{reader.__name__} finds {sorted(found ^ wanted)[:4]}"
    return "right"


def entries_of(done: Finished) -> list[zipfile.ZipInfo]:
    """The archive's directory."""
    assert done.zip is not None
    return done.zip.infolist()


def read_by_all(done: Finished) -> str:
    """The same with Java's two readers."""
    return read_by(done, (*READERS[1:5], java_stream, java_file))


@lru_cache
def _java_classes() -> TemporaryDirectory[str]:
    """Java's part of the readers, compiled once: half a second less for each look."""
    if shutil.which("javac") is None:
        missing("javac")
    folder = TemporaryDirectory(prefix="field-java-")
    subprocess.run(["javac", "-d", folder.name, str(_JAVA)], check=True, capture_output=True)
    return folder


def java_stream(path: Path) -> list[Found]:
    """Java's ZipInputStream, front to back."""
    return _java("stream", path)


def java_file(path: Path) -> list[Found]:
    """Java's ZipFile, by the directory."""
    return _java("file", path)


def _java(mode: str, path: Path) -> list[Found]:
    quick = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dfile.encoding=UTF-8", "-Dsun.jnu.encoding=UTF-8")
    asked = ("java", *quick, "-cp", _java_classes().name, "ReadZip", mode, str(path))
    utf8 = os.environ | {"LC_ALL": "C.UTF-8", "LANG": "C.UTF-8"}
    done = subprocess.run(asked, capture_output=True, check=False, env=utf8)
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert done.returncode == 0, said[:500]
    rows = [line.split(" ", 2) for line in said.splitlines()]
    return [Found(name, int(size), int(crc32, 16)) for size, crc32, name in rows]
