"""Where the archive goes: never over another file, and what an interrupted command left behind is taken up again.

Beside `out.zip` lie, while it is not there yet, `out.zip.part` with its first bytes and `out.zip.part.json`, which says
of which job and archive they are. A lock on the part keeps a second command away.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Protocol

from downloader import names
from downloader.client.text import amount, printable
from downloader.errors import AskedWrongError, SaveError

STDOUT = "-"
DEFAULT_NAME = "download.zip"


class Sink(Protocol):
    """What takes the archive's bytes in their order; `received` counts them."""

    received: int

    def begin(self, etag: str, size: int) -> None:
        """Make ready for the archive; what is there of another one goes."""

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes; SaveError when there is no room for them."""

    def restart(self) -> int:
        """Make ready for the first byte again; gives how many bytes must be skipped because they are out already."""


@dataclass(frozen=True, slots=True)
class Target:
    """The file that is to be made; `force` allows it to be there already."""

    path: Path
    force: bool = False

    @property
    def part(self) -> Path:
        """Where its first bytes lie."""
        return self.path.with_name(f"{self.path.name}.part")

    @property
    def note(self) -> Path:
        """What is known of these bytes."""
        return self.path.with_name(f"{self.path.name}.part.json")

    def check(self) -> None:
        """AskedWrongError when the archive cannot be saved there."""
        shown = printable(self.path)
        if self.path.is_symlink() or self.path.exists():
            if not self.path.is_file():
                raise AskedWrongError(f"{shown} is there and is no plain file; take another name, or -o - for a pipe")
            if not self.force:
                raise AskedWrongError(f"{shown} is there already; take another name, or --force to replace it")
        folder = self.path.parent
        if not folder.is_dir():
            raise AskedWrongError(f"there is no folder {printable(folder)}; make it, or take another one with -o")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise AskedWrongError(f"the folder {printable(folder)} cannot be written to; take another one with -o")


def target_of(output: str | None, name: str | None, *, force: bool) -> Target | None:
    """Where the archive of this `name` goes; None when that is not known before the name is.

    `output` is a file, a folder (with a slash at its end, or there already), or nothing: the current folder. Raises
    AskedWrongError.
    """
    try:
        folder = output is None or output.endswith(("/", os.sep)) or Path(output).is_dir()
        if not folder and output:
            target = Target(Path(output), force)
        elif name is None:
            return None
        else:
            target = Target(Path(output or ".") / file_name(name), force)
        target.check()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no name of a file"
        raise AskedWrongError(f"-o {printable(output or '.')}: {why}; take another name") from error
    return target


def file_name(name: str) -> str:
    """The archive's own name as a file name that is safe here, whoever made it up."""
    plain = names.safe_name(name or DEFAULT_NAME).rpartition("/")[2]
    return plain if plain.lower().endswith(".zip") else f"{plain}.zip"


@dataclass(frozen=True, slots=True)
class Note:
    """What is known of a part: the job, the request it came from (a digest), and the archive that the bytes are of."""

    server: str
    job_id: str
    digest: str = ""
    etag: str = ""

    @classmethod
    def read(cls, path: Path) -> Note | None:
        """The note at `path`; None when there is none, or none of ours."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


class PartFile:
    """The part of a target, locked. Without a note of a job at the end of the block it goes."""

    def __init__(self, target: Target, file: IO[bytes]) -> None:
        self.target = target
        self._file = file
        self.note = Note.read(target.note)
        self.received = file.seek(0, os.SEEK_END) if self.note else 0

    @classmethod
    @contextmanager
    def open(cls, target: Target) -> Iterator[PartFile]:
        """Take the part for this command alone; AskedWrongError when that is not possible."""
        try:
            file = os.fdopen(os.open(target.part, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
        except OSError as error:
            raise AskedWrongError(f"{printable(target.part)}: {_why(error)}; take another -o") from error
        with file:
            _lock(file, target)
            part = cls(target, file)
            try:
                yield part
            finally:
                part.leave()

    def remember(self, note: Note | None) -> None:
        """Keep what is known for the next command; a part of another job is thrown away."""
        if note is None or self.note is None or self.note.job_id != note.job_id or self.note.server != note.server:
            self.restart()
        if note is not None:
            if self.note is not None and self.note.job_id == note.job_id:
                note = replace(note, digest=note.digest or self.note.digest, etag=note.etag or self.note.etag)
            with _saving(self.target.note):
                fresh = self.target.note.with_name(f"{self.target.note.name}.new")
                fresh.write_text(json.dumps(asdict(note)), encoding="utf-8")
                fresh.replace(self.target.note)
        self.note = note

    def begin(self, etag: str, size: int) -> None:
        """Make ready for the archive: what is there of another one goes, and there must be room for the rest."""
        if self.received > size or (self.received and (self.note is None or self.note.etag != etag)):
            self.restart()
        if self.note is not None and self.note.etag != etag:
            self.remember(replace(self.note, etag=etag))
        with _saving(self.target.path):
            at_hand = os.statvfs(self.target.path.parent) if sys.platform != "win32" else None
        if at_hand and at_hand.f_bavail * at_hand.f_frsize < size - self.received:
            room = amount(at_hand.f_bavail * at_hand.f_frsize)
            rest = amount(size - self.received)
            raise SaveError(f"{printable(self.target.path)} needs {rest} and there is room for {room}; make room")

    async def write(self, chunk: bytes) -> None:
        """Append.

        Not in a thread: a connection that breaks meanwhile would take along what has arrived and is not read yet.
        """
        with _saving(self.target.path):
            rest = memoryview(chunk)
            self._file.seek(self.received)
            while rest:
                written = self._file.write(rest)
                self.received += written
                rest = rest[written:]

    def restart(self) -> int:
        """Throw away what is there."""
        self._file.truncate(0)
        self.received = 0
        return 0

    async def finish(self) -> None:
        """Give the whole archive its name, safe from a loss of power."""
        await asyncio.to_thread(self._finish)

    def _finish(self) -> None:
        with _saving(self.target.path):
            os.fsync(self._file.fileno())
            self.target.check()
            self.target.part.replace(self.target.path)
            self.target.note.unlink(missing_ok=True)
            self.note = None
            _sync_folder(self.target.path.parent)

    def leave(self) -> None:
        """Remove the part when nobody can go on from it."""
        if self.note is None:
            with suppress(OSError):
                if self.target.part.exists() and os.path.samestat(
                    os.fstat(self._file.fileno()), self.target.part.stat()
                ):
                    self.target.part.unlink()
            with suppress(OSError):
                self.target.note.unlink(missing_ok=True)


class Stdout:
    """The archive into a pipe: what is out cannot be taken back, so a new start skips it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.received = 0

    def begin(self, etag: str, size: int) -> None:
        """Nothing to make ready."""

    async def write(self, chunk: bytes) -> None:
        """Pass the bytes on; SaveError when nobody reads them any more."""
        await asyncio.to_thread(self._write, chunk)

    def _write(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        try:
            while rest:
                written = os.write(self._descriptor, rest)
                self.received += written
                rest = rest[written:]
        except OSError as error:
            why = "its reader has left" if error.errno == errno.EPIPE else _why(error)
            raise SaveError(f"standard output: {why}") from error

    def restart(self) -> int:
        """All that is out must be skipped."""
        return self.received


@contextmanager
def _saving(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SaveError(f"{printable(path)}: {_why(error)}") from error


def _why(error: OSError) -> str:
    remedies = {
        errno.ENOSPC: "no space is left on the device; make room, and the same command goes on",
        errno.EDQUOT: "the disk quota is used up; make room, and the same command goes on",
        errno.EFBIG: "the file system, or a limit of the shell, takes no file of this size",
        errno.EROFS: "the file system is read-only",
    }
    return remedies.get(error.errno or 0, (error.strerror or "cannot be written").lower())


def _lock(file: IO[bytes], target: Target) -> None:
    if sys.platform == "win32":
        return
    import fcntl  # not on Windows

    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise AskedWrongError(f"another downloader is saving to {printable(target.path)}; wait for it") from None
    except OSError:  # a file system without locks
        return


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
