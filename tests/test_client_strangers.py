"""The client among strangers: services that are none, folders with files of others, output that leads nowhere."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import shlex
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from downloader.client.bars import bars
from downloader.client.calls import Calls, Patience
from downloader.client.run import guarded
from downloader.client.save import save
from downloader.client.server import JobRef, Server
from downloader.client.stream import Event, Following
from downloader.client.target import Note, PartFile, Target, file_name
from downloader.client.views import Lines
from downloader.errors import AskedWrongError, AwayError, RefusedError
from tests.api import Api
from tests.clients import Relay, Say, relaying
from tests.conftest import Start
from tests.files import Origin
from tests.servers import S3
from tests.test_cli import Ended, ended, run

JOB = "0b7c2f4e-9f5d-4c1e-8a53-0d1f7c9be001"
REF = JobRef(JOB)


@pytest.fixture
async def stranger() -> AsyncIterator[Relay]:
    """A service that says what it is told to."""
    async with relaying("http://127.0.0.1:1") as relay:
        yield relay


@pytest.fixture
async def calls(stranger: Relay) -> AsyncIterator[Calls]:
    """Calls to it, without patience."""
    async with Calls.open(Server(stranger.base), Patience(calls_s=0, away_s=0)) as calls:
        yield calls


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"",
        b"[5]",
        b"{}",
        b"[" * 100_000,
        b'{"jobId": "../../../admin", "totalFiles": 1}',
        b'{"jobId": "\\u001b[2J;id", "totalFiles": 1}',
        b'{"jobId": "%s", "totalFiles": "many"}' % JOB.encode(),
        b'{"jobId": "%s", "totalFiles": NaN}' % JOB.encode(),
    ],
)
async def test_another_service_is_told_from_ours(stranger: Relay, calls: Calls, body: bytes) -> None:
    """Whatever else answers behind a URL is known by what it says, before an id of it is printed or called."""
    stranger.always = Say(200, body)
    for answer in (calls.initiate({}, "k"), calls.status(REF), calls.cancel(REF), calls.jobs(1, "", None)):
        with pytest.raises(RefusedError, match="but not as a downloader does"):
            await answer


@pytest.mark.parametrize(
    "problem",
    [{"code": "invalid_request", "errors": [5]}, {"code": "a\x1b[2J"}, {"code": 7}, []],
    ids=["errors", "controls", "number", "list"],
)
async def test_a_problem_of_another_service_is_told_from_ours(stranger: Relay, calls: Calls, problem: object) -> None:
    """What is no problem of the service is not taken for one."""
    stranger.always = Say(422, json.dumps(problem).encode())
    with pytest.raises(RefusedError, match="but not as a downloader does"):
        await calls.status(REF)


async def test_a_long_problem_is_read_to_its_end(stranger: Relay, calls: Calls) -> None:
    """A problem that comes in many pieces loses none of its faults."""
    faults = [{"pointer": f"/files/{number}", "detail": "x" * 300} for number in range(2000)]
    stranger.always = Say(422, json.dumps({"code": "invalid_request", "errors": faults}).encode())
    with pytest.raises(RefusedError) as caught:
        await calls.initiate({}, "k")
    assert (caught.value.code, len(caught.value.faults)) == ("invalid_request", 2000)


async def test_a_service_that_asks_to_wait_is_waited_for(stranger: Relay) -> None:
    """A call is repeated when the service said, and not before; who is to wait for too long is told so at once."""
    problem = json.dumps({"code": "rate_limited", "detail": "Too many."}).encode()
    stranger.faults.extend([Say(429, problem, retry_after="1"), Say(429, problem, retry_after="3000")])
    async with Calls.open(Server(stranger.base), Patience(pause_s=0)) as calls:
        began = time.monotonic()
        with pytest.raises(AwayError, match=r"does not take it now: Too many\."):
            await calls.status(REF)
    assert 0.9 < time.monotonic() - began < 5
    assert len(stranger.requests) == 2


@pytest.mark.parametrize(
    "stream",
    [
        "event: progress\ndata: {}\n\n",
        "event: files\ndata: {}\n\n",
        'event: files\ndata: {"files":[{"index":"0"}]}\n\n',
        "event: busy\ndata: 5\n\n",
        "event: retry\ndata: {}\n\n",
        f"data: {'[' * 100_000}\n\n",
        f"data: {'x' * 60_000}\n" * 100,
    ],
)
async def test_what_is_no_event_stream_is_no_news(stranger: Relay, calls: Calls, stream: str) -> None:
    """Events of another make, and one without an end, are as good as a connection that broke."""
    stranger.always = Say(200, stream.encode(), "text/event-stream")
    with pytest.raises(AwayError, match="what comes is no event stream"):
        async for _ in calls.events(REF, ""):
            pass


def _link_at(path: Path) -> None:
    path.with_name("precious").write_text("precious")
    path.symlink_to("precious")


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (Say(200, b"sign in" * 9, chunked=True), AwayError),
        (Say(200, b"sign in" * 9), RefusedError),
        (Say(206, b"sign in"), AwayError),
        (Say(410), RefusedError),
    ],
    ids=["no length", "other length", "other part", "gone"],
)
async def test_what_is_not_the_archive_is_not_saved(
    stranger: Relay, calls: Calls, tmp_path: Path, said: Say, error: type[Exception]
) -> None:
    """An answer in place of the store's is known by what is missing of it, and no byte of it is kept."""
    stranger.always = said
    job = {"archive": {"size": 7, "etag": "e"}, "downloadUrl": stranger.base}
    with PartFile.open(Target(tmp_path / "out.zip")) as part:
        with pytest.raises(error):
            await save(calls, REF, job, part, lambda *_: None)
        assert part.received == 0


def test_a_file_gets_its_row_when_there_is_room() -> None:
    """A file that began when all rows were taken is shown once others have ended."""
    job = {"jobId": JOB, "status": "processing", "progress": 1, "totalFiles": 20, "filesFailed": 0}
    files = [
        {"index": index, "fileId": index, "name": f"{index}.bin", "status": "fetching", "size": 9}
        for index in range(20)
    ]
    heard, screen = Following(), io.StringIO()
    with bars(screen) as shown:
        heard.hear(Event("files", {"files": files}))
        shown.update(heard)
        heard.hear(Event("files", {"files": [file | {"status": "done"} for file in files[:19]]}))
        shown.update(heard)
        fetching = [{"index": 19, "bytesFetched": 5}]
        heard.hear(Event("progress", job | {"filesCompleted": 19, "bytesFetched": 9, "fetching": fetching}))
        shown.update(heard)
    assert "19.bin" in screen.getvalue()


def test_a_terminal_that_is_closed_ends_nothing() -> None:
    """Who closes the terminal of a command that goes on without it does not stop it by that."""
    near, far = pty.openpty()
    with os.fdopen(far, "w") as terminal, bars(terminal) as shown:
        os.close(near)
        for _ in range(3):
            shown.notice("still at work")
        shown.saved("out.zip", 1, None)


@pytest.mark.parametrize("ending", [".part", ".part.json"])
@pytest.mark.parametrize(
    "put",
    [lambda path: path.write_text("precious"), _link_at, os.mkfifo, Path.mkdir],
    ids=["file", "link", "pipe", "folder"],
)
def test_what_lies_there_and_is_anothers_is_left_alone(tmp_path: Path, ending: str, put: object) -> None:
    """A file that only has the name of a part, as browsers give it, is no part of ours; nor is a link opened."""
    assert callable(put)
    put(tmp_path / f"out.zip{ending}")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(AskedWrongError, match=r"out\.zip\.part"), PartFile.open(Target(tmp_path / "out.zip")):
        pass
    assert sorted(tmp_path.iterdir()) == before
    assert all(path.read_text() == "precious" for path in before if path.is_file())


def test_a_note_is_never_written_through_a_link(tmp_path: Path) -> None:
    """What is known of a part goes into a file of its own, whatever lies where it is written first."""
    _link_at(tmp_path / "out.zip.part.json.new")
    with PartFile.open(Target(tmp_path / "out.zip")) as part:
        part.remember(Note("http://one.test", JOB))
    assert Note.read(tmp_path / "out.zip.part.json") == Note("http://one.test", JOB)
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_note_leads_to_a_job_and_nowhere_else(tmp_path: Path) -> None:
    """A note that somebody put there cannot send a key to another path of the service."""
    note = {"server": "http://one.test", "job_id": "../../admin", "digest": "", "etag": ""}
    (tmp_path / "note").write_text(json.dumps(note))
    assert Note.read(tmp_path / "note") is None


def test_a_name_that_is_too_long_is_told_at_once(tmp_path: Path) -> None:
    """There must be room for what lies beside the archive; a name that the service made up is cut to fit."""
    with pytest.raises(AskedWrongError, match="the name is longer than 241 bytes"):
        Target(tmp_path / f"{'n' * 238}.zip").check()
    Target(tmp_path / f"{'n' * 237}.zip").check()
    named = file_name("\u00e4" * 150 + ".zip")
    assert named.endswith("\u00e4.zip")
    Target(tmp_path / named).check()


async def test_a_fault_of_our_own_is_one_line() -> None:
    """What nobody thought of is one line that says where it was, and repeats nothing of the data."""

    async def work() -> int:
        raise KeyError("secret")

    said = io.StringIO()
    assert await guarded(Lines(said), work()) == 1
    assert said.getvalue().startswith("error: a fault of this program, please report it: KeyError in work, ")
    assert (said.getvalue().count("\n"), "secret" in said.getvalue()) == (1, False)


async def _in_shell(arguments: list[str], rest: str, cwd: Path, server: str) -> Ended:
    """Run the program with its standard streams as a shell leads them."""
    command = f"{shlex.join([sys.executable, '-m', 'downloader', *arguments])} {rest}"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "DOWNLOADER_URL": server}
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", command, cwd=cwd, env=environment, stdout=PIPE, stderr=PIPE
    )
    return await ended(process)


@pytest.mark.slow
async def test_closed_streams_are_no_hindrance(api: Api, origin: Origin, tmp_path: Path) -> None:
    """Without standard streams, as a cron job may have it, the archive is saved; who wanted output hears of it."""
    source = origin.url(10, "a", "a")
    end = await _in_shell(["fetch", source, "-o", "out.zip"], "<&- >&- 2>&-", tmp_path, api.base)
    assert (end.status, [path.name for path in tmp_path.iterdir()]) == (0, ["out.zip"])
    closed_output = Ended(5, "", "error: standard output: is closed\n")
    assert await _in_shell(["jobs"], ">&-", tmp_path, api.base) == closed_output


@pytest.mark.slow
async def test_a_full_device_is_one_line(api: Api, origin: Origin, tmp_path: Path) -> None:
    """Results that cannot be written are status 5; progress that cannot be shown ends nothing."""
    source = origin.url(10, "a", "a")
    end = await _in_shell(["fetch", source, "-o", "out.zip"], "2>/dev/full", tmp_path, api.base)
    assert (end.status, (tmp_path / "out.zip").exists()) == (0, True)
    end = await _in_shell(["jobs"], ">/dev/full", tmp_path, api.base)
    assert end.status == 5
    assert end.err.startswith("error: standard output: no space is left on the device")
    assert end.err.count("\n") == 1
    end = await _in_shell(["fetch", source, "-o", "json.zip", "--json"], ">/dev/full", tmp_path, api.base)
    assert (end.status, end.err) == (5, "")


@pytest.mark.slow
async def test_json_has_nothing_else_without_an_archive(api: Api, origin: Origin, tmp_path: Path) -> None:
    """Also where the job is left to itself, or only watched, each line is an object."""
    source = origin.url(10, "a", "a")
    posted = await run("fetch", source, "--detach", "--json", cwd=tmp_path, DOWNLOADER_URL=api.base)
    started = json.loads(posted.out)
    assert (started["event"], started["totalFiles"]) == ("started", 1)
    watched = await run("watch", started["jobId"], "--json", cwd=tmp_path, DOWNLOADER_URL=api.base)
    told = [json.loads(line) for line in watched.out.splitlines()]
    assert (told[-1]["event"], told[-1]["downloadUrl"][:4]) == ("completed", "http")


@pytest.mark.slow
async def test_a_useless_job_is_not_taken_up_again(start: Start, origin: Origin, s3: S3, tmp_path: Path) -> None:
    """When the store has something else than the job's archive, the same command begins anew."""
    async with relaying(s3.endpoint_url) as store, start(storage={"public_endpoint_url": store.base}) as api:
        store.faults.append(Say(200, b"another archive"))
        arguments = ["fetch", origin.url(10, "a", "a"), "-o", "out.zip"]
        end = await run(*arguments, cwd=tmp_path, DOWNLOADER_URL=api.base)
        assert end.status == 1
        assert "error: what the store has is not the job's archive; run the command again\n" in end.err
        assert list(tmp_path.iterdir()) == []
        again = await run(*arguments, cwd=tmp_path, DOWNLOADER_URL=api.base)
    assert again.status == 0, again.err
