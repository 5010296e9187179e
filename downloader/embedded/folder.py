"""The data folder of the embedded servers: its locks, and the ports and keys that are made once and kept there."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import secrets
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from downloader.errors import StartError

IDENTITY_FILE = "embedded.json"
SERVICE_LOCK = "service.lock"
DATA_LOCK = "data.lock"
# How long a service that was killed may take to vanish before a new start takes it for alive, in seconds.
VANISH_S = 1.0
# How long the servers of a run that was killed may take to end before a new start gives up, in seconds.
RELEASE_S = 20.0
# Below the ports that systems lend to outgoing connections, so that none of those is on a remembered port.
PORTS = range(20_000, 30_000)
PORT_NAMES = (
    "valkey",
    "s3",
    "s3_grpc",
    "master",
    "master_grpc",
    "volume",
    "volume_grpc",
    "filer",
    "filer_grpc",
    "admin",
    "admin_grpc",
)
OTHER_FOLDER = "choose another folder with --set embedded.data_dir=PATH"


@dataclass(frozen=True, slots=True)
class DataFolder:
    """An opened data folder; `data_lock` is the descriptor that the servers inherit and so hold while they live."""

    path: Path
    data_lock: int
    ports: dict[str, int]
    keys: dict[str, str]

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
                    identity = _identity(path / IDENTITY_FILE)
                yield cls(path, data_lock, identity["ports"], identity["keys"])
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
            _write_private(path, text)

    def check_free(self, title: str, names: Iterable[str]) -> None:
        """Raise StartError when another program listens on one of the remembered ports."""
        for name in names:
            port = self.ports[name]
            if not _is_free(port):
                raise StartError(
                    f"port {port} of the embedded {title} is taken by another program: end that program, or delete "
                    f"{self.path / IDENTITY_FILE} to take new ports (links given out so far stop working)"
                )


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StartError(f"embedded.data_dir: cannot write to {path} ({reason}); {OTHER_FOLDER}") from error


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _locked(descriptor: int) -> bool:
    import fcntl  # not on Windows, where the rest of the service runs

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
        holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
        raise StartError(
            f"{path} is in use by another downloader (process {holder}): stop it, or {OTHER_FOLDER}"
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


def _identity(path: Path) -> dict[str, dict[str, Any]]:
    """The ports and keys of this folder, made at the first start."""
    if not path.exists():
        _write_private(path, json.dumps(_new_identity(), indent=2) + "\n")
    try:
        identity = json.loads(path.read_text(encoding="utf-8"))
        ports = {name: int(identity["ports"][name]) for name in PORT_NAMES}
        keys = {name: str(identity["keys"][name]) for name in _new_keys()}
    except (ValueError, KeyError, TypeError) as error:
        raise StartError(f"{path} is damaged: delete it to take new ports and keys; data stay") from error
    return {"ports": ports, "keys": keys}


def _new_identity() -> dict[str, object]:
    return {"ports": dict(zip(PORT_NAMES, _free_ports(len(PORT_NAMES)), strict=True)), "keys": _new_keys()}


def _new_keys() -> dict[str, str]:
    return {
        "valkey_password": secrets.token_urlsafe(24),
        "s3_access_key_id": secrets.token_hex(10).upper(),
        "s3_secret_access_key": secrets.token_urlsafe(30),
    }


def _write_private(path: Path, text: str) -> None:
    """Put a file in place whole, readable for us alone."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with open(fresh, "x", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _is_anothers(socket_file: Path) -> bool:
    """Whether what a weed that was killed left there is not ours to remove."""
    try:
        return os.geteuid() not in (0, socket_file.lstat().st_uid)
    except OSError:
        return False


def _free_ports(count: int) -> list[int]:
    start = secrets.randbelow(len(PORTS))
    circle = (PORTS[(start + step) % len(PORTS)] for step in range(len(PORTS)))
    free = [port for _, port in zip(range(count * 50), circle, strict=False) if _is_free(port)][:count]
    if len(free) < count:
        raise StartError(f"found no {count} free ports between {PORTS.start} and {PORTS.stop} on 127.0.0.1")
    return free


def _is_free(port: int) -> bool:
    """Whether our servers can have the port: nobody listens there, and no socket of another user's weed lies about."""
    if _is_anothers(Path(f"/tmp/seaweedfs-s3-grpc-{port}.sock")):  # noqa: S108 - weed's own name, which no flag moves
        return False
    with socket.socket() as probe:
        # Without this, a port whose last connection closed a minute ago counts as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
