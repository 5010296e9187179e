"""The data folder of the embedded servers: its locks, and what it keeps."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from downloader.embedded.identity import IDENTITY_FILE, Identity, is_free, write_private
from downloader.errors import StartError

SERVICE_LOCK = "service.lock"
DATA_LOCK = "data.lock"
# How long a service that was killed may take to vanish before a new start takes it for alive, in seconds.
VANISH_S = 1.0
# How long the servers of a run that was killed may take to end before a new start gives up, in seconds.
RELEASE_S = 20.0
OTHER_FOLDER = "choose another folder with --set embedded.data_dir=PATH"


@dataclass(frozen=True, slots=True)
class DataFolder:
    """An opened data folder; `data_lock` is the descriptor that the servers inherit and so hold while they live."""

    path: Path
    data_lock: int
    identity: Identity

    @classmethod
    @asynccontextmanager
    async def opened(cls, path: Path) -> AsyncIterator[DataFolder]:
        """Lock the folder for this service; made if missing.

        Raises StartError when it is in use or cannot be written to.
        """
        path, service_lock = _opened(path)
        try:
            with _writable(path):
                await _lock_service(service_lock, path)
                data_lock = _open_lock(path / DATA_LOCK)
            try:
                await _lock_data(data_lock, path)
                with _writable(path):
                    identity = Identity.kept(path)
                yield cls(path, data_lock, identity)
            finally:
                os.close(data_lock)
        finally:
            os.close(service_lock)

    def make(self, *names: str) -> Path:
        """A folder within, made if missing."""
        path = self.path.joinpath(*names)
        with _writable(path):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def write(self, path: Path, text: str) -> None:
        """Write a file that only we may read."""
        with _writable(path):
            write_private(path, text)

    def check_free(self, title: str, names: Iterable[str]) -> None:
        """Raise StartError when another program listens on one of the remembered ports."""
        for name in names:
            port = self.identity.ports[name]
            if not is_free(port):
                raise StartError(
                    f"port {port} of the embedded {title} is taken by another program: end that program, or delete "
                    f"{self.path / IDENTITY_FILE} to take new ports (links given out so far stop working)"
                )


def holder(path: Path) -> str | None:
    """The process id of the service that holds the folder; None when none does."""
    try:
        descriptor = os.open(path / SERVICE_LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StartError(f"embedded.data_dir: cannot look into {path} ({error.strerror}); run as its owner") from error
    try:
        # Shared, for the blink of an eye: two that look do not take each other for the service.
        return None if _locked(descriptor, shared=True) else _holder(descriptor)
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    return os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StartError(f"embedded.data_dir: cannot write to {path} ({reason}); {OTHER_FOLDER}") from error


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _locked(descriptor: int, *, shared: bool = False) -> bool:
    import fcntl  # not on Windows, where the rest of the service runs

    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def _opened(path: Path) -> tuple[Path, int]:
    """The folder's full path, made if missing, and the file whose lock says that a service works on it."""
    path = path.absolute()
    with _writable(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path, _open_lock(path / SERVICE_LOCK)


async def _lock_service(descriptor: int, path: Path) -> None:
    """Lock out other services; one that was killed a moment ago is given the time to vanish."""
    try:
        await _lock_within(descriptor, VANISH_S)
    except TimeoutError:
        raise StartError(
            f"{path} is in use by another downloader (process {_holder(descriptor)}): stop it, or {OTHER_FOLDER}"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


async def _lock_data(descriptor: int, path: Path) -> None:
    """Wait until the servers of a run that was killed have ended: they hold this lock as long as one of them lives."""
    try:
        await _lock_within(descriptor, RELEASE_S)
    except TimeoutError:
        raise StartError(
            f"the servers of a former run still work on {path}: end them (valkey-server, weed) and start again"
        ) from None


async def _lock_within(descriptor: int, limit_s: float) -> None:
    async with asyncio.timeout(limit_s):
        while not _locked(descriptor):  # noqa: ASYNC110 - no event: flock cannot wait with a limit
            await asyncio.sleep(0.05)
