"""The ports and keys of a data folder: made once, kept in a file that only its owner reads."""

from __future__ import annotations

import json
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from downloader.errors import StartError

IDENTITY_FILE = "embedded.json"
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


@dataclass(frozen=True, slots=True)
class Identity:
    """The ports of the servers by name, and their secrets."""

    ports: dict[str, int]
    keys: dict[str, str]

    @classmethod
    def kept(cls, folder: Path) -> Identity:
        """What the folder has; made at the first start. OSError when the folder cannot be written to."""
        path = folder / IDENTITY_FILE
        if not path.exists():
            write_private(path, json.dumps(_new(), indent=2) + "\n")
        return cls.read(folder)

    @classmethod
    def read(cls, folder: Path) -> Identity:
        """What the folder has. StartError when it is damaged; OSError when it is not there or not for us."""
        path = folder / IDENTITY_FILE
        text = path.read_text(encoding="utf-8")
        try:
            identity = json.loads(text)
            ports = {name: int(identity["ports"][name]) for name in PORT_NAMES}
            keys = {name: str(identity["keys"][name]) for name in _new_keys()}
        except (ValueError, KeyError, TypeError) as error:
            raise StartError(f"{path} is damaged: delete it to take new ports and keys; data stay") from error
        return cls(ports, keys)


def write_private(path: Path, text: str) -> None:
    """Put a file in place whole, readable for us alone."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with open(fresh, "x", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _new() -> dict[str, object]:
    return {"ports": dict(zip(PORT_NAMES, _free_ports(len(PORT_NAMES)), strict=True)), "keys": _new_keys()}


def _new_keys() -> dict[str, str]:
    return {
        "valkey_password": secrets.token_urlsafe(24),
        "s3_access_key_id": secrets.token_hex(10).upper(),
        "s3_secret_access_key": secrets.token_urlsafe(30),
    }


def _is_anothers(socket_file: Path) -> bool:
    """Whether what a weed that was killed left there is not ours to remove."""
    try:
        return os.geteuid() not in (0, socket_file.lstat().st_uid)
    except OSError:
        return False


def _free_ports(count: int) -> list[int]:
    start = secrets.randbelow(len(PORTS))
    circle = (PORTS[(start + step) % len(PORTS)] for step in range(len(PORTS)))
    free = [port for _, port in zip(range(count * 50), circle, strict=False) if is_free(port)][:count]
    if len(free) < count:
        raise StartError(f"found no {count} free ports between {PORTS.start} and {PORTS.stop} on 127.0.0.1")
    return free


def is_free(port: int) -> bool:
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
