"""Looks into the saved archive: each file of the job that arrived is there, with the SHA-256 that the job names."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from downloader.errors import SaveError

CHUNK_BYTES = 1024 * 1024


class DamagedError(SaveError):
    """The archive that was saved is not the job's, though its length is."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = "archive_damaged"


def verify(path: Path, files: Iterable[dict[str, Any]]) -> int:
    """How many files were compared; DamagedError names the first that differs. Reads every byte: give it a thread.

    What else is in the archive is read to its end, too, where its checksum is.
    """
    done = [file for file in files if file["status"] == "done"]
    try:
        with zipfile.ZipFile(path) as archive:
            for file in done:
                _compare(archive, file)
            for name in set(archive.namelist()) - {file["name"] for file in done}:
                _digest(archive, name)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise DamagedError(f"the archive is damaged: {error}; fetch it again with --force") from error
    return len(done)


def _compare(archive: zipfile.ZipFile, file: dict[str, Any]) -> None:
    try:
        digest = _digest(archive, file["name"])
    except KeyError as error:
        raise DamagedError(f"the archive lacks {file['name']}; fetch it again with --force") from error
    if file["sha256"] not in (None, digest):  # without one its checksum in the archive has been compared
        raise DamagedError(f"{file['name']} in the archive is not what the job names; fetch it again with --force")


def _digest(archive: zipfile.ZipFile, name: str) -> str:
    digest = hashlib.sha256()
    with archive.open(name) as entry:
        while chunk := entry.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
