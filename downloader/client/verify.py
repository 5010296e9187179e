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


def verify(path: Path, files: Iterable[dict[str, Any]]) -> int:
    """How many files were compared; SaveError names the first that differs. Reads every byte: give it a thread."""
    compared = 0
    try:
        with zipfile.ZipFile(path) as archive:
            for file in files:
                if file["status"] == "done":
                    _compare(archive, file)
                    compared += 1
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise SaveError(f"the archive is damaged: {error}; fetch it again with --force") from error
    return compared


def _compare(archive: zipfile.ZipFile, file: dict[str, Any]) -> None:
    digest = hashlib.sha256()
    try:
        with archive.open(file["name"]) as entry:
            while chunk := entry.read(CHUNK_BYTES):
                digest.update(chunk)
    except KeyError as error:
        raise SaveError(f"the archive lacks {file['name']}; fetch it again with --force") from error
    if digest.hexdigest() != file["sha256"]:
        raise SaveError(f"{file['name']} in the archive is not what the job names; fetch it again with --force")
