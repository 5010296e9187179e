"""An archive judged: by its names, by a linter of its headers and by other people's readers."""

from __future__ import annotations

import re
import threading
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.field.bench import Finished
from tests.readers import READERS, Found, read_python
from tests.ziplint import lint

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


def read_by(done: Finished, readers: tuple[Callable[[Path], list[Found]], ...] = READERS[:5]) -> str:
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
    return read_by(done, READERS)
