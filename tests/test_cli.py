"""The command line, run as a person runs it: in a process of its own."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
import os
import re
import signal
import socket
import sys
import zipfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr

from downloader import __version__
from downloader.demo.check import check
from downloader.demo.files import DemoFile, Manner
from tests.files import Origin
from tests.servers import free_ports
from tests.waiting import wait_until

READY = re.compile(rf"downloader {re.escape(__version__)} listening on (http://127\.0\.0\.1:\d+)\n")
LIMIT_S = 60.0
# Settings, and the size of a terminal that is not the program's (pytest-xdist sets one).
NOT_OURS = ("DOWNLOADER_", "COLUMNS", "LINES")


@dataclasses.dataclass(frozen=True)
class Ended:
    """What a process left behind."""

    status: int
    out: str
    err: str


async def start(
    *arguments: str,
    cwd: Path,
    code: str | None = None,
    stdin: int = asyncio.subprocess.DEVNULL,
    stdout: int = PIPE,
    stderr: int = PIPE,
    **environment: str,
) -> Process:
    """Start the program, or some other `code`, without the settings and the terminal of our own environment."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(NOT_OURS)}
    root = str(Path(__file__).parents[1])
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *(("-m", "downloader") if code is None else ("-c", code)),
        *arguments,
        cwd=cwd,
        env=ours | {"PYTHONPATH": root} | environment,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
    )


async def ended(process: Process, so_far: str = "") -> Ended:
    """Wait until it has ended."""
    async with asyncio.timeout(LIMIT_S):
        out, err = await process.communicate()
    return Ended(cast("int", process.returncode), so_far + out.decode(), err.decode())


async def run(*arguments: str, cwd: Path, **environment: Any) -> Ended:
    """Run the program to its end."""
    return await ended(await start(*arguments, cwd=cwd, **environment))


async def line_of(process: Process) -> str:
    """The next line of its output."""
    async with asyncio.timeout(LIMIT_S):
        return (await cast("asyncio.StreamReader", process.stdout).readline()).decode()


def as_flag(value: object) -> object:
    """A value of a setting as `--set` takes it."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return json.dumps(value) if isinstance(value, list) else value


@asynccontextmanager
async def serving(settings: dict[str, Any], cwd: Path, *more: str) -> AsyncIterator[tuple[Process, str]]:
    """`downloader serve` with the settings of a test, as flags; yields it and its URL once it says that it is ready."""
    flags = [
        f"--set={section}.{key}={as_flag(value)}" for section, keys in settings.items() for key, value in keys.items()
    ]
    process = await start("serve", *flags, *more, cwd=cwd)
    try:
        ready = await line_of(process)
        if not READY.fullmatch(ready):
            pytest.fail(f"not ready: {ready!r} {(await ended(process)).err}")
        yield process, ready.split()[-1]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        (
            ["serve", "--set", "server.prot=1"],
            {},
            "server.prot (flag): there is no such key; did you mean server.port?",
        ),
        (
            ["serve", "--set", "server.port"],
            {},
            "--set server.port (flag): has no value; write --set section.key=value",
        ),
        (["serve", "--port", "eighty"], {}, "server.port (flag): "),
        (["serve", "--config", "gone.toml"], {}, "gone.toml: no such file"),
        (["config"], {"DOWNLOADER_SERVER__PROT": "1"}, "DOWNLOADER_SERVER__PROT (environment): there is no such key"),
    ],
)
async def test_a_wrong_setting_is_one_line_and_status_2(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], says: str
) -> None:
    """Whatever is wrong with the settings ends the start with one line that names it, and no traceback."""
    end = await run(*arguments, cwd=tmp_path, **environment)
    assert (end.status, end.out) == (2, "")
    assert end.err.startswith(f"error: {says}"), end.err
    assert end.err.count("\n") == 1


async def test_config_shows_what_is_in_effect_without_secrets(tmp_path: Path) -> None:
    """`config` prints the effective settings as TOML: flags over environment over file, secrets masked."""
    (tmp_path / "config.toml").write_text('[worker]\nconcurrency = 7\nfiles_in_flight = 3\n[log]\nlevel = "error"\n')
    end = await run(
        "config",
        "--set=worker.concurrency=9",
        cwd=tmp_path,
        DOWNLOADER_WORKER__CONCURRENCY="8",
        DOWNLOADER_LOG__LEVEL="debug",
        DOWNLOADER_REDIS__URL="redis://user:hidden-1@example.com/0",
        DOWNLOADER_STORAGE__SECRET_ACCESS_KEY="hidden-2",
    )
    assert (end.status, end.err) == (0, "")
    assert "concurrency = 9\nfiles_in_flight = 3\n" in end.out
    assert 'level = "debug"' in end.out
    assert "hidden" not in end.out


async def test_version(tmp_path: Path) -> None:
    """`--version` prints the version."""
    assert await run("--version", cwd=tmp_path) == Ended(0, f"downloader {__version__}\n", "")


async def test_serve_answers_and_ends_gently(settings: dict[str, Any], tmp_path: Path) -> None:
    """`serve` says in one line where it listens, logs JSON into a pipe, and ends with status 0 after SIGTERM."""
    async with serving(settings, tmp_path, "--log-level=info") as (process, url), aiohttp.ClientSession() as session:
        async with session.get(f"{url}/readyz") as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        end = await ended(process)
    assert (end.status, end.out) == (0, "")
    assert all({"event", "level", "timestamp"} <= json.loads(line).keys() for line in end.err.splitlines())


async def test_a_second_signal_ends_at_once(settings: dict[str, Any], tmp_path: Path, origin: Origin) -> None:
    """A first Ctrl-C drains for as long as drain_s says; a second one does not wait for that."""
    patient = settings | {"server": {"port": 0, "drain_s": 600}}
    async with serving(patient, tmp_path) as (process, url), aiohttp.ClientSession() as session:
        body = {"files": [{"url": origin.endless()}]}
        async with session.post(f"{url}/v1/download/initiate", json=body) as answer:
            assert answer.status == 202
        await wait_until(lambda: origin.open)
        process.send_signal(signal.SIGINT)
        await wait_until(lambda: _refuses(session, url))
        assert process.returncode is None, "it did not wait for the running job"
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(5):
            assert await process.wait() == 130


async def test_a_taken_port_is_one_line(settings: dict[str, Any], tmp_path: Path) -> None:
    """A service that cannot start says why in one line and ends with status 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        redis, storage = settings["redis"]["url"], settings["storage"]
        end = await run(
            "serve",
            f"--port={port}",
            f"--set=redis.url={redis}",
            f"--set=storage.endpoint_url={storage['endpoint_url']}",
            f"--set=storage.access_key_id={storage['access_key_id']}",
            "--log-level=error",
            cwd=tmp_path,
            DOWNLOADER_STORAGE__SECRET_ACCESS_KEY=storage["secret_access_key"].get_secret_value(),
        )
    assert (end.status, end.out) == (2, "")
    assert end.err.startswith(f"error: cannot listen on 127.0.0.1:{port}: the port is taken"), end.err
    assert end.err.count("\n") == 1


async def test_redis_that_is_away_is_waited_for(settings: dict[str, Any], tmp_path: Path) -> None:
    """Without Redis the service comes up all the same and says 503, since waiting can mend that."""
    (port,) = free_ports(1)
    away = settings | {"redis": {"url": f"redis://127.0.0.1:{port}/0"}}
    body = {"files": [{"url": "http://x.test/"}]}
    async with (
        serving(away, tmp_path) as (_, url),
        aiohttp.ClientSession() as session,
        session.post(f"{url}/v1/download/initiate", json=body) as answer,
    ):
        assert answer.status == 503


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_during_the_start_unwinds_it(tmp_path: Path, number: signal.Signals) -> None:
    """A signal that comes before everything is up closes what is open and gives the status for that."""
    code = """
import asyncio
from downloader.lifetime import run

async def work(stop):
    try:
        print("starting", flush=True)
        await asyncio.sleep(600)
    finally:
        print("closed", flush=True)

raise SystemExit(run(work, interrupted=7))
"""
    process = await start(code=code, cwd=tmp_path)
    assert await line_of(process) == "starting\n"
    process.send_signal(number)
    assert await ended(process) == Ended(7, "closed\n", "")


@pytest.mark.parametrize(
    ("raised", "ready", "status", "lines"),
    [
        ("StartError('no way')", False, 2, ["error: no way"]),
        (
            "ExceptionGroup('', [StartError('one'), ExceptionGroup('', [StartError('two')])])",
            False,
            2,
            ["error: one", "error: two"],
        ),
        ("StartError('lost it')", True, 1, ["error: lost it"]),
    ],
)
async def test_what_ends_the_service_is_said_in_a_line(
    tmp_path: Path, raised: str, ready: bool, status: int, lines: list[str]
) -> None:
    """An expected end is a line per reason, also out of task groups; status 2 before the service was up, 1 after."""
    code = f"""
import asyncio
from downloader.errors import StartError
from downloader.lifetime import run

async def work(stop):
    if {ready}:
        waiting = asyncio.create_task(stop.asked())
        await asyncio.sleep(0)
        waiting.cancel()
    raise {raised}

raise SystemExit(run(work))
"""
    end = await ended(await start(code=code, cwd=tmp_path))
    assert (end.status, end.out, end.err.splitlines()) == (status, "", lines)


async def test_the_unexpected_is_logged_with_its_traceback(tmp_path: Path) -> None:
    """A fault of our own is status 1 and leaves a traceback, even when StartErrors came with it."""
    code = """
from downloader.errors import StartError
from downloader.lifetime import run

async def work(stop):
    raise ExceptionGroup("", [StartError("no way"), KeyError("a fault")])

raise SystemExit(run(work))
"""
    end = await ended(await start(code=code, cwd=tmp_path))
    assert end.status == 1
    assert "service.died" in end.out + end.err
    assert "KeyError" in end.out + end.err


@pytest.mark.slow
async def test_demo_shows_the_whole_job(tmp_path: Path) -> None:
    """`demo --exit` does one job of a dozen files on real parts, checks the archive and leaves nothing behind."""
    end = await run("demo", "--exit", cwd=tmp_path, TMPDIR=str(tmp_path), NO_COLOR="1")
    assert (end.status, end.err) == (0, "")
    assert "archive checked: demo.zip, 13 entries" in end.out
    assert len(re.findall(r"^  (?:ok|missing) ", end.out, re.MULTILINE)) == 12
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in await _command_lines()


@pytest.mark.slow
async def test_demo_goes_on_until_it_is_stopped(tmp_path: Path) -> None:
    """`demo` prints the links and goes on serving; Ctrl-C ends it with status 0."""
    process = await start("demo", cwd=tmp_path, TMPDIR=str(tmp_path))
    said = ""
    while "serving until Ctrl-C" not in said:
        line = await line_of(process)
        assert line, (await ended(process)).err
        said += line
    link = re.search(r"the archive: +(\S+)", said)
    page = re.search(r"page and docs: +(\S+)", said)
    assert link
    assert page
    async with aiohttp.ClientSession() as session:
        async with session.get(link[1]) as answer:
            assert answer.status == 200
            assert answer.headers["Content-Disposition"].startswith("attachment")
            assert zipfile.ZipFile(io.BytesIO(await answer.read())).testzip() is None
        async with session.get(page[1]) as answer:
            assert answer.status == 200
    process.send_signal(signal.SIGINT)
    assert (await ended(process)).status == 0
    assert list(tmp_path.iterdir()) == []


SMALL = (
    DemoFile("a.txt", "text/plain", lambda: iter((b"one", b"two"))),
    DemoFile("b.txt", "text/plain", lambda: iter((b"three",))),
    DemoFile("lost.txt", "text/plain", lambda: iter((b"four",)), Manner.NOT),
)
RIGHT = {
    "a.txt": b"onetwo",
    "b.txt": b"three",
    "MISSING-FILES.txt": b"lost.txt",
    "manifest.json": b"",
    "SHA256SUMS": b"",
}


@pytest.mark.parametrize(
    ("entries", "fault"),
    [
        (RIGHT, None),
        (RIGHT | {"a.txt": b"onetwx"}, "a.txt in the archive differs from its source"),
        ({name: text for name, text in RIGHT.items() if name != "b.txt"}, "b.txt is missing in the archive"),
        (RIGHT | {"lost.txt": b""}, "lost.txt should not be in the archive"),
        (RIGHT | {"MISSING-FILES.txt": b"nothing"}, "MISSING-FILES.txt does not name lost.txt"),
        (None, "the archive is not a ZIP file: File is not a zip file"),
    ],
)
async def test_the_demo_sees_a_wrong_archive(entries: dict[str, bytes] | None, fault: str | None) -> None:
    """The demo's judgement is no formality: it names what is missing, changed or too much in an archive."""
    states = [("done", "a.txt"), ("done", "b.txt"), ("failed", "lost.txt")]
    hashes = {file.name: file.sha256() for file in SMALL}
    job = {"files": [{"fileId": name, "status": status, "sha256": hashes[name]} for status, name in states]}
    async with (
        _linked(_zip(entries) if entries is not None else b"no archive") as link,
        aiohttp.ClientSession() as session,
    ):
        assert await check(session, link, job, SMALL) == ([fault] if fault else [])


def _zip(entries: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return target.getvalue()


@asynccontextmanager
async def _linked(content: bytes) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/archive", _answering(content))
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/archive"
    finally:
        await runner.cleanup()


def _answering(content: bytes) -> Callable[[web.Request], Any]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=content)

    return answer


async def _refuses(session: aiohttp.ClientSession, url: str) -> bool:
    """Whether a service takes no calls any more: not ready, or not listening."""
    try:
        async with session.get(f"{url}/readyz") as answer:
            return answer.status == 503
    except aiohttp.ClientConnectionError:
        return True


async def _command_lines() -> str:
    process = await asyncio.create_subprocess_exec("ps", "-eo", "args", stdout=PIPE)
    out, _ = await process.communicate()
    return out.decode()
