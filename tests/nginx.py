"""Real nginx with the settings of docker/nginx.conf, at the addresses of a test."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from tests.api import Api
from tests.servers import free_ports, missing
from tests.waiting import wait_until

CONF = Path(__file__).parent.parent / "docker" / "nginx.conf"
NOWHERE = "127.0.0.1:9"
_KINDS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@dataclass(frozen=True)
class Ports:
    """Where one nginx listens: for the API, for links to archives, for who asks whether it lives, for TLS."""

    api: int = field(default_factory=lambda: free_ports(1)[0])
    store: int = field(default_factory=lambda: free_ports(1)[0])
    health: int = field(default_factory=lambda: free_ports(1)[0])
    tls: int = field(default_factory=lambda: free_ports(1)[0])


def conf(folder: Path, ports: Ports, replicas: Sequence[str], store: str) -> str:
    """The committed settings with our addresses, and nothing written outside of `folder`.

    Names that are asked again (`resolve`) need a newer nginx than most systems have: here replicas have addresses.
    """
    text = CONF.read_text(encoding="utf-8")
    (line,) = re.findall(r"server downloader:8080 resolve[^;]*;", text)
    servers = "\n".join(line.replace("downloader:8080 resolve", replica) for replica in replicas)
    folders = "\n".join(f"{kind}_temp_path {folder}/{kind};" for kind in _KINDS)
    text = replaced(
        text,
        {
            line: servers,
            "server store:8333 resolve ": f"server {store} ",
            "listen 80;": f"listen 127.0.0.1:{ports.api};",
            "listen 9000;": f"listen 127.0.0.1:{ports.store};",
            "listen 127.0.0.1:8081;": f"listen 127.0.0.1:{ports.health};",
            "http {": f"http {{ {folders}",
            "access_log /dev/stdout": f"access_log {folder}/access.log",
            "error_log /dev/stderr": f"error_log {folder}/error.log",
        },
    )
    # Started by root, nginx would work as another user, who may not enter the folder of a test.
    user = "user root;" if os.geteuid() == 0 else ""
    return f"{user}\ndaemon off;\npid {folder}/pid;\nerror_log stderr;\n{text}"


def replaced(text: str, changes: dict[str, str]) -> str:
    """`text` with each key of `changes` replaced, which must stand there once."""
    for committed, ours in changes.items():
        assert text.count(committed) == 1, committed
        text = text.replace(committed, ours)
    return text


def listens(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@asynccontextmanager
async def nginx(
    folder: Path,
    session: aiohttp.ClientSession,
    replicas: Sequence[Api | str],
    *,
    store: str = NOWHERE,
    ports: Ports | None = None,
) -> AsyncIterator[Api]:
    """A client that calls through nginx; replicas and the store are given by address, or as what calls them."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        missing("nginx")
    ports = ports or Ports()
    addresses = [one if isinstance(one, str) else one.base.removeprefix("http://") for one in replicas]
    path = folder / "nginx.conf"
    path.write_text(conf(folder, ports, addresses, store.removeprefix("http://")), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(program, "-c", str(path), "-p", str(folder), "-e", "stderr")
    try:
        await wait_until(lambda: listens(ports.api) or process.returncode is not None)
        assert process.returncode is None, "nginx did not start"
        yield Api(session, f"http://127.0.0.1:{ports.api}")
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
