"""Where the archive goes: never over another file, and what an interrupted command left behind is taken up again.

Beside `out.zip` lie, while it is not there yet, `out.zip.part` with its first bytes and `out.zip.part.json`, which says
of which job and archive they are. A lock on the part keeps a second command away. Files of these names that another
program made, such as a browser, are left alone.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import IO, Protocol

from downloader import names
from downloader.client.server import JOB_ID
from downloader.client.text import amount, printable, why
from downloader.errors import AskedWrongError, SaveError

STDOUT = "-"
DEFAULT_NAME = "download.zip"
NAME_BYTES_MAX = 255
NOTE_BYTES_MAX = 4096
_LONGEST_ENDING = ".part.json.new"
# What opens the part opens no other file by it, and waits for nobody. Windows has neither of the two.
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_JOB_ID = re.compile(JOB_ID)


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
        if len(os.fsencode(self.path.name + _LONGEST_ENDING)) > NAME_BYTES_MAX:
            most = NAME_BYTES_MAX - len(_LONGEST_ENDING)
            raise AskedWrongError(f"{shown}: the name is longer than {most} bytes; take a shorter one with -o")
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
        reason = getattr(error, "strerror", None) or "it is no name of a file"
        raise AskedWrongError(f"-o {printable(output or '.')}: {reason}; take another name") from error
    return target


def file_name(name: str) -> str:
    """The archive's own name as a file name that is safe here, whoever made it up."""
    plain = names.safe_name(name or DEFAULT_NAME).rpartition("/")[2]
    stem = plain[:-4] if plain.lower().endswith(".zip") else plain
    ending = plain[len(stem) :] or ".zip"
    room = NAME_BYTES_MAX - len(ending + _LONGEST_ENDING)
    return stem.encode()[:room].decode(errors="ignore") + ending


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
            if not stat.S_ISREG(path.lstat().st_mode):
                return None
            with path.open("rb") as file:
                found = json.loads(file.read(NOTE_BYTES_MAX))
            note = cls(**{field.name: str(found[field.name]) for field in fields(cls)})
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None
        return note if _JOB_ID.fullmatch(note.job_id) else None


class PartFile:
    """The part of a target, locked. Without a note of a job at the end of the block it goes."""

    def __init__(self, target: Target, file: IO[bytes], *, lasts: bool) -> None:
        self.target = target
        self._file = file
        self._lasts = lasts
        self.note = Note.read(target.note)
        self.received = file.seek(0, os.SEEK_END) if self.note else 0

    @classmethod
    @contextmanager
    def open(cls, target: Target, *, lasts: bool = True) -> Iterator[PartFile]:
        """Take the part for this command alone; AskedWrongError when that is not possible, or it is another's.

        One that does not last goes at the end of the block in any case: no later command can go on from it.
        """
        if os.path.lexists(target.note) and Note.read(target.note) is None:
            raise _foreign(target.note)
        with _opened(target.part) as file:
            _lock(file, target)
            target.check()  # another command may have made it since
            part = cls(target, file, lasts=lasts)
            if part.note is None and os.fstat(file.fileno()).st_size:
                raise _foreign(target.part)
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
                fresh.unlink(missing_ok=True)
                with fresh.open("x", encoding="utf-8") as file:  # never through a link
                    json.dump(asdict(note), file)
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
        if self.note is None or not self._lasts:
            with suppress(OSError):
                if _is_at(self._file, self.target.part):
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
            reason = "its reader has left" if error.errno == errno.EPIPE else why(error)
            raise SaveError(f"standard output: {reason}") from error

    def restart(self) -> int:
        """All that is out must be skipped."""
        return self.received


@contextmanager
def _saving(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SaveError(f"{printable(path)}: {why(error)}") from error


def _foreign(path: Path) -> AskedWrongError:
    return AskedWrongError(
        f"{printable(path)} is there, and is none of this program's; move it away, or take another -o"
    )


def _opened(path: Path) -> IO[bytes]:
    try:
        file = os.fdopen(os.open(path, _FLAGS, 0o666), "r+b", buffering=0)
    except OSError as error:
        raise AskedWrongError(f"{printable(path)}: {why(error)}; take another -o") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise _foreign(path)
    return file


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Whether the open file is the one of this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False


def _lock(file: IO[bytes], target: Target) -> None:
    if sys.platform == "win32":
        return
    import fcntl  # not on Windows

    busy = AskedWrongError(f"another downloader is saving to {printable(target.path)}; wait for it")
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise busy from None
    except OSError:  # a file system without locks
        return
    if not _is_at(file, target.part):  # it was finished in between, and this is the archive now
        raise busy


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
