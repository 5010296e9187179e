"""The program as a client: real processes against a real service, and what may go wrong between the two."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import shlex
import signal
import sys
import zipfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from downloader.cli import app
from downloader.client.calls import Calls, Patience
from downloader.client.follow import HELD_BACK, follow
from downloader.client.lists import read_wanted
from downloader.client.server import JobRef, Server, job_of
from downloader.client.target import file_name
from downloader.client.text import printable
from downloader.errors import AskedWrongError, AwayError, RefusedError
from tests.api import Api
from tests.clients import Cut, Relay, Say, Stall, fed, in_terminal, relaying
from tests.conftest import Start
from tests.files import Origin
from tests.gated import Gated, gated_source
from tests.servers import S3, free_ports
from tests.tenants import make_key
from tests.test_cli import Ended, ended, run, serving
from tests.test_cli import start as start_program
from tests.waiting import wait_until

JOB = "0b7c2f4e-9f5d-4c1e-8a53-0d1f7c9be001"
QUICK = Patience(call_s=5, calls_s=5, first_event_s=0.5, poll_s=0.05, stream_again_s=0.2, pause_s=0.05, away_s=5)
BIG = 3_000_000


def _objects(end: Ended) -> list[dict[str, Any]]:
    """What `--json` printed, line by line."""
    return [json.loads(line) for line in end.out.splitlines()]


def _names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return sorted(archive.namelist())


async def _jobs(api: Api) -> list[dict[str, Any]]:
    return list((await api.call("GET", "/v1/download/jobs")).body["jobs"])


async def test_what_is_missing_is_told_and_is_status_3(api: Api, origin: Origin, tmp_path: Path) -> None:
    """A job without some of its files gives the archive of the others, names the missing ones, and says so by 3."""
    sources = [origin.url(1000, "a", "a.bin"), origin.status(404), origin.url(10, "b", "b.bin")]
    end = await run("fetch", *sources, "-o", "out.zip", "--verify", cwd=tmp_path, DOWNLOADER_URL=api.base)
    assert (end.status, end.out) == (3, ""), end
    assert "1 of 3 files missing:\n  404: the source answered with status 404 (http_status:404)" in end.err
    assert _names(tmp_path / "out.zip") == ["MISSING-FILES.txt", "a.bin", "b.bin"]
    assert [path.name for path in tmp_path.iterdir()] == ["out.zip"], "something was left behind"


async def test_json_is_a_clean_stream(api: Api, origin: Origin, tmp_path: Path) -> None:
    """With --json standard output has one object per line and nothing else; each file is told of once, the end last."""
    (tmp_path / "list.txt").write_text(
        "# two files\n\n" + f"in/one.bin\t{origin.url(10, 'a')}\n{origin.url(20, 'b', 'two.bin')}\n{origin.status(410)}"
    )
    # The status of kept files has links that the events lack: still nothing is told twice.
    end = await run(
        "fetch", "@list.txt", "--name=both", "--json", "--keep-files", cwd=tmp_path, DOWNLOADER_URL=api.base
    )
    told = _objects(end)
    kinds = [each["event"] for each in told]
    assert (end.status, end.err) == (3, "")
    assert (kinds[0], kinds[-1]) == ("started", "saved")
    assert sorted(each["name"] for each in told if each["event"] == "file" and each["status"] == "done") == [
        "in/one.bin",
        "two.bin",
    ]
    assert kinds.count("file") == 3
    assert kinds.count("completed") == 1
    assert told[-1] == {"event": "saved", "path": "both.zip", "size": (tmp_path / "both.zip").stat().st_size} | {
        "compared": None
    }


async def test_a_list_comes_and_an_archive_goes_through_pipes(api: Api, origin: Origin, tmp_path: Path) -> None:
    """`-` reads the list from standard input, `-o -` writes the archive to standard output, and nothing beside it."""
    text = json.dumps([origin.url(1000, "a", "a.bin"), {"url": origin.url(10, "b"), "name": "b.bin"}])
    status, out, said = await fed("fetch", "-", "-o", "-", text=text, cwd=tmp_path, DOWNLOADER_URL=api.base)
    assert status == 0, said
    assert zipfile.ZipFile(io.BytesIO(out)).namelist() == ["a.bin", "b.bin"]
    assert list(tmp_path.iterdir()) == []


async def test_nothing_is_overwritten(api: Api, origin: Origin, tmp_path: Path) -> None:
    """A file that is there is left alone, which is said before any work begins; --force replaces it."""
    (tmp_path / "download.zip").write_text("precious")
    end = await run("fetch", origin.url(10, "a"), cwd=tmp_path, DOWNLOADER_URL=api.base)
    assert (end.status, end.out) == (2, "")
    assert end.err == "error: download.zip is there already; take another name, or --force to replace it\n"
    assert await _jobs(api) == []
    end = await run("fetch", origin.url(10, "a", "a"), "--force", cwd=tmp_path, DOWNLOADER_URL=api.base)
    assert end.status == 0, end.err
    assert _names(tmp_path / "download.zip") == ["a"]


@pytest.mark.slow
async def test_jobs_are_posted_seen_cancelled_and_tried_again(api: Api, origin: Origin, tmp_path: Path) -> None:
    """`--detach` prints an id; `jobs` lists it, `cancel` ends it, `watch` tells how it ended, `retry` gets the rest."""

    async def do(*arguments: str) -> Ended:
        return await run(*arguments, cwd=tmp_path, DOWNLOADER_URL=api.base)

    endless = (await do("fetch", origin.endless(), "--detach")).out.strip()
    origin.broken.add("late.bin")
    flaky = (await do("fetch", origin.flaky(10, "late.bin"), origin.url(10, "a", "a"), "--detach")).out.strip()
    listed = (await do("jobs", "--json")).out.splitlines()
    assert [json.loads(line)["jobId"] for line in listed] == [flaky, endless]
    assert await do("cancel", f"{api.base}/v1/download/status/{endless}") == Ended(
        0, f"job {endless} is cancelled\n", ""
    )
    table = (await do("jobs", "--status=cancelled")).out
    assert re.fullmatch(rf"JOB .*\n{endless}  cancelled .*\n", table), table
    watched = await do("watch", endless)
    assert watched.status == 1
    assert f"job {endless} cancelled" in watched.err
    seen = await do("watch", flaky, "--quiet")
    assert seen.status == 3
    assert seen.out.startswith("http://"), "the link to the archive"
    origin.broken.clear()
    again = await do("retry", flaky, "-o", "rest.zip")
    assert again.status == 0, again.err
    assert _names(tmp_path / "rest.zip") == ["late.bin"]


@pytest.mark.slow
async def test_a_key_is_needed_and_never_shown(
    start: Start, settings: dict[str, Any], origin: Origin, tmp_path: Path
) -> None:
    """Without a key one line says what to do; a key works from a file and the environment, and stands in no output."""
    async with start(access={"open": False}) as api:
        _, key = await make_key(settings, "acme")
        (tmp_path / "key").write_text(f"{key}\n")
        end = await run("jobs", cwd=tmp_path, DOWNLOADER_URL=api.base)
        assert (end.status, end.out, end.err.count("\n")) == (1, "", 1)
        assert "a key is needed; give it with --key-file" in end.err
        source = origin.url(10, "a", "a")
        saved = await run("fetch", source, "--json", "--key-file=key", cwd=tmp_path, DOWNLOADER_URL=api.base)
        listed = await run("jobs", "--json", cwd=tmp_path, DOWNLOADER_URL=api.base, DOWNLOADER_KEY=key)
        wrong = await run("jobs", cwd=tmp_path, DOWNLOADER_URL=api.base, DOWNLOADER_KEY=key[:-1])
        said = await run("jobs", "--key-file=key", cwd=tmp_path, DOWNLOADER_URL=api.base, DOWNLOADER_KEY=key[:-1])
        headers = {"Authorization": f"Bearer {key}"}
        given = (await api.initiate([source], headers=headers)).body["statusUrl"]
        watched = await run("watch", f"{api.base}{given}", "-o", "watched.zip", cwd=tmp_path)
    assert [saved.status, listed.status, wrong.status, said.status] == [0, 0, 2, 0]
    assert watched.status == 0, "the job's own token is enough to read it"
    shown = "".join(end.out + end.err for end in (saved, listed, wrong, said))
    assert key[:-1] not in shown
    assert key.split("_")[2][:20] not in shown


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["fetch", "https://x.test/a", "--server=http://127.0.0.1:1"], 4, "http://127.0.0.1:1 does not answer: conn"),
        (["fetch", "ftp://x.test/a"], 2, "argument 1: 'ftp://x.test/a' is no URL; write https://"),
        pytest.param(
            ["fetch", "@gone.txt"],
            2,
            "gone.txt: cannot be read (No such file or directory); write @ and the path",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["fetch", "https://x.test/a", "-o", "no/out.zip"],
            2,
            "there is no folder no; make it, or take another one",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["fetch", "https://x.test/a", "--json", "-o", "-"],
            2,
            "--json and -o - both want standard output",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["fetch", "https://x.test/a", "--set", "server.port=1", "--server=http://127.0.0.1:1"],
            2,
            "--set and --config are for a fetch without a service; leave out --server",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["fetch", "https://x.test/a", "--idempotency-key=a\nb"],
            2,
            "--idempotency-key takes at most 255 visible ASCII characters",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["fetch", "https://x.test/a", "--detach"],
            2,
            "--detach needs a service that stays: give --server",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["jobs", "--server=localhost:8080"],
            2,
            "--server takes the base URL of a service, such as https://",
            marks=pytest.mark.slow,
        ),
        pytest.param(["watch", "no-job"], 2, "'no-job' is no job: give its id, or a URL of it", marks=pytest.mark.slow),
    ],
)
async def test_what_cannot_be_done_is_one_line(tmp_path: Path, arguments: list[str], status: int, says: str) -> None:
    """Whatever is wrong is one line with the remedy, no traceback, and a status that says whose turn it is."""
    end = await run(*arguments, cwd=tmp_path)
    shown = json.loads(end.out)["message"] + "\n" if "--json" in arguments else end.err.removeprefix("error: ")
    assert end.status == status
    assert shown.startswith(says)
    assert shown.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
async def test_a_fault_of_the_list_is_told_by_its_line(api: Api, origin: Origin, tmp_path: Path) -> None:
    """What the service finds wrong with a file is told by the place in the list where the person finds it."""
    (tmp_path / "list.csv").write_text(f"url,name,checksum\n{origin.url(1, 'a')},a,\n{origin.url(1, 'b')},b,sha1:12\n")
    end = await run("fetch", "@list.csv", cwd=tmp_path, DOWNLOADER_URL=api.base)
    assert (end.status, end.out) == (1, "")
    assert end.err.startswith("error: list.csv, line 3 (checksum): ")


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("https://x.test/a\r\n\n# c\n  https://x.test/b  ", [{"url": "https://x.test/a"}, {"url": "https://x.test/b"}]),
        ("\ufeffn a\thttps://x.test/a#x", [{"url": "https://x.test/a#x", "name": "n a"}]),
        ("URL,size\nhttps://x.test/a,12\n", [{"url": "https://x.test/a", "size": 12}]),
        ('name,url\n"a, b",s3://bucket/k\n', [{"url": "s3://bucket/k", "name": "a, b"}]),
        ('["https://x.test/a", {"url": "u", "id": 7}]', [{"url": "https://x.test/a"}, {"url": "u", "id": 7}]),
        ('{"files": [{"url": "u"}], "archiveName": "x"}', [{"url": "u"}]),
    ],
)
def test_lists_of_all_kinds(text: str, files: list[dict[str, Any]]) -> None:
    """Lines, names before a tab, CSV with a header, JSON as the API takes it: each is known by itself."""
    assert read_wanted(["-"], lambda _: text.encode()).body["files"] == files


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "the list is empty"),
        (b"https://x.test/a\nnonsense\x1b[2J\n", "standard input, line 2: 'nonsense\ufffd[2J' is no URL"),
        (b"https://x.test/a\n\xff", "standard input, line 2: is not UTF-8 text"),
        (b"url,nome\nhttps://x.test/a,b", "standard input, line 1: must be a header with a column url"),
        (b"url,url\nhttps://x.test/a,https://x.test/b", "standard input, line 1: names a column twice"),
        (b"url,size\nhttps://x.test/a,big", "standard input, line 2: size must be a whole number"),
        (b'["https://x.test/a", 7]', "standard input, entry 2: must be a URL, or an object"),
        (b'["https://x.test/a",\n]', "standard input, line 2: is not JSON"),
        (b"x" * (16 * 1024 * 1024 + 1), "standard input: more than 16777216 bytes; split the list"),
        (b"https://x.test/a\n" * 100_001, "standard input: more than 100000 files; split the list"),
    ],
)
def test_a_wrong_list_names_the_line(text: bytes, says: str) -> None:
    """What is wrong with a list is told with its line and the remedy, and nothing of it moves the cursor."""
    with pytest.raises(AskedWrongError) as caught:
        read_wanted(["-"], lambda most: text[:most])
    assert caught.value.message.startswith(says)


def test_other_peoples_texts_do_not_move_the_cursor() -> None:
    """Names and messages of others come out on one line, without controls, bidi overrides and hidden marks."""
    assert printable("a\x1b[2J\r\nb\u202ec\u200bd\x9b1m") == "a\ufffd[2J\ufffd\ufffdb\ufffdc\ufffdd\ufffd1m"
    assert len(printable("x" * 1000)) == 400
    assert file_name("../../etc/\x1bpasswd") == "_passwd.zip"


def test_a_job_is_known_by_any_of_its_urls() -> None:
    """An id, a path and a whole URL name a job; a URL of another service never gets this one's key."""
    server = Server("http://one.test", "key")
    for text in (JOB, JOB.upper(), f"/v1/download/{JOB}", f"http://one.test/v1/download/status/{JOB}?x=1"):
        ref, at = job_of(text, server, server_is_given=True)
        assert (ref, at.base) == (JobRef(JOB), "http://one.test")
    ref, at = job_of(f"https://two.test/dl/v1/download/subscribe/{JOB}?token=abc", server, server_is_given=False)
    assert (ref.job_id, ref.token, at.base, at.key) == (JOB, "abc", "https://two.test/dl", "")
    for text in ("http://[", f"http://[::1/{JOB}", "x"):
        with pytest.raises(AskedWrongError, match="is no job"):
            job_of(text, server, server_is_given=True)
    with pytest.raises(AskedWrongError, match="the key is not sent to where a job's URL leads; add --server"):
        job_of(f"https://two.test/v1/download/{JOB}", server, server_is_given=False)
    with pytest.raises(AskedWrongError, match=r"the job's URL is of http://two\.test"):
        job_of(f"http://two.test/v1/download/{JOB}", server, server_is_given=True)


def _commands(command: Any, path: str = "downloader") -> list[tuple[str, Any]]:
    found = [(path, command)]
    for name, child in getattr(command, "commands", {}).items():
        found += _commands(child, f"{path} {name}")
    return found


@pytest.mark.parametrize(("path", "command"), _commands(get_command(app)), ids=lambda value: str(value)[:40])
def test_every_help_has_examples_that_fit(path: str, command: Any) -> None:
    """The help of each command shows it in use, each example on a line of its own, at 80 columns."""
    with command.make_context(path, ["x"], resilient_parsing=True) as context:
        context.terminal_width = 80
        shown = command.get_help(context)
    examples = shown.partition("Examples:\n")[2].splitlines()
    lines = [line for line in examples if path.rsplit(maxsplit=1)[-1] in line]
    assert lines, shown
    assert all(len(line) <= 80 for line in shown.splitlines())
    for line in lines:
        assert line.startswith("    ")
        shlex.split(line)


@pytest.mark.slow
async def test_a_shell_completes_commands_and_options(tmp_path: Path) -> None:
    """The completion script is for `downloader` however it was started, and what it asks for is answered."""
    program = shlex.join([sys.executable, "-m", "downloader"])
    shell = await asyncio.create_subprocess_exec(
        "bash", "-c", f"{program} --show-completion; true", cwd=tmp_path, env=_environment(), stdout=PIPE, stderr=PIPE
    )
    script = await ended(shell)
    assert "complete -o default -F _downloader_completion downloader" in script.out, script
    asked = {"_DOWNLOADER_COMPLETE": "complete_bash", "COMP_WORDS": "downloader wa", "COMP_CWORD": "1"}
    assert (await run(cwd=tmp_path, **asked)).out.split() == ["watch"]


# The way between


async def _followed(
    api: Api, relay: Relay, job_id: str, origin: Gated | None = None
) -> tuple[list[str], dict[str, Any]]:
    """Follow a job through a relay to its end; the gate opens once something was heard."""
    said: list[str] = []
    job: dict[str, Any] = {}
    async with Calls.open(Server(relay.base), QUICK) as calls, asyncio.timeout(30):
        async for heard in follow(calls, JobRef(job_id), said.append):
            job = heard.job
            if origin is not None:
                origin.gate.set()
    return said, job


@pytest.mark.parametrize(
    ("faults", "says"),
    [
        ([Say(502), Say(503), Say(504)], ["no connection (the answer was 503 Service Unavailable); trying again"]),
        ([Cut(200), Cut(10), Cut(400)], []),
        ([Say(200, b"<html>sign in</html>")], [HELD_BACK]),
        ([Say(200, b'event: busy\ndata: {"reason":"full","retryMs":100}\n\n', "text/event-stream")], ["full"]),
        ([Say(200, b"event: reset\ndata: {}\n\n", "text/event-stream")], []),
    ],
    ids=["bad gateway", "cut", "stranger", "busy", "reset"],
)
async def test_a_job_is_followed_through_a_bad_way(api: Api, faults: list[Any], says: list[str]) -> None:
    """A proxy that errs, cuts or answers for the service, and a service without room, cost nothing but time."""
    async with gated_source() as origin, relaying(api.base, "/subscribe/") as relay:
        job_id = await api.submit([origin.held(1000), origin.url(10, "a")])
        relay.faults.extend(faults)
        said, job = await _followed(api, relay, job_id, origin)
    assert (job["status"], job["filesCompleted"]) == ("completed", 2)
    assert all(any(text in line for line in said) for text in says), said


async def test_events_that_are_held_back_are_done_without(api: Api) -> None:
    """Where a proxy lets no event through, the status is asked for instead, and that is said once."""
    async with gated_source() as origin, relaying(api.base, "/subscribe/") as relay:
        job_id = await api.submit([origin.held(1000)])
        relay.always = Stall(0)
        said, job = await _followed(api, relay, job_id, origin)
    assert job["status"] == "completed"
    assert said == [HELD_BACK]
    assert len(relay.requests) >= 1


async def test_a_service_that_stays_away_is_given_up(api: Api) -> None:
    """After its patience a client says how long it has waited; a job that is gone is told at once."""
    async with gated_source() as origin, relaying(api.base) as relay:
        job_id = await api.submit([origin.held(1000)])
        async with Calls.open(Server(relay.base), Patience(pause_s=0.05, pause_max_s=0.1, away_s=0.5)) as calls:
            relay.always = Say(503)
            with pytest.raises(AwayError, match=r"no answer for 0 s|no answer for 1 s"):
                async for _ in follow(calls, JobRef(job_id), lambda _: None):
                    pass
            relay.always = None
            with pytest.raises(RefusedError, match="There is no such job"):
                async for _ in follow(calls, JobRef(JOB), lambda _: None):
                    pass
        assert (await api.call("DELETE", f"/v1/download/{job_id}")).status == 204


@pytest.fixture
async def store(s3: S3) -> AsyncIterator[Relay]:
    """What lies between people and the store."""
    async with relaying(s3.endpoint_url) as relay:
        yield relay


@pytest.mark.slow
async def test_no_byte_of_the_archive_comes_twice(start: Start, origin: Origin, store: Relay, tmp_path: Path) -> None:
    """A transfer that breaks off goes on where it stopped, with the link signed again where the store refuses it."""
    async with start(storage={"public_endpoint_url": store.base}) as api:
        store.faults.extend([Cut(1_000_000), Say(403), Cut(700_000), Say(503)])
        source = origin.url(BIG, "a", "a.bin")
        end = await run("fetch", source, "-o", "out.zip", "--verify", cwd=tmp_path, DOWNLOADER_URL=api.base)
    assert end.status == 0, end.err
    size = (tmp_path / "out.zip").stat().st_size
    assert store.sent == size, [asked.get("Range") for asked in store.requests]
    starts = [int(asked.get("Range", "bytes=0-")[6:-1]) for asked in store.requests]
    assert starts == sorted(starts)
    assert all("If-Range" in asked for asked in store.requests if "Range" in asked)
    assert zipfile.ZipFile(tmp_path / "out.zip").read("a.bin") == origin.data(BIG, "a")


async def _stalled(api: Api, source: str, store: Relay, cwd: Path) -> Process:
    """A command whose transfer of the archive has stopped in the middle."""
    store.faults.append(Stall(1_000_000))
    process = await start_program("fetch", source, "-o", "out.zip", cwd=cwd, DOWNLOADER_URL=api.base)
    part = cwd / "out.zip.part"
    await wait_until(lambda: part.exists() and part.stat().st_size == 1_000_000)
    return process


@pytest.mark.slow
async def test_the_same_command_goes_on_where_it_was_stopped(
    start: Start, origin: Origin, store: Relay, tmp_path: Path
) -> None:
    """After Ctrl-C in the middle of the transfer the same command fetches the rest, of the same job."""
    async with start(storage={"public_endpoint_url": store.base}) as api:
        source = origin.url(BIG, "a", "a.bin")
        process = await _stalled(api, source, store, tmp_path)
        second = await run("fetch", source, "-o", "out.zip", cwd=tmp_path, DOWNLOADER_URL=api.base)
        assert (second.status, second.err) == (2, "error: another downloader is saving to out.zip; wait for it\n")
        process.send_signal(signal.SIGINT)
        interrupted = await ended(process)
        assert interrupted.status == 130
        assert re.search(r"To see it through: downloader watch [0-9a-f-]{36} -o out\.zip\n", interrupted.err)
        end = await run("fetch", source, "-o", "out.zip", cwd=tmp_path, DOWNLOADER_URL=api.base)
        assert end.status == 0, end.err
        assert len(await _jobs(api)) == 1
    assert zipfile.ZipFile(tmp_path / "out.zip").read("a.bin") == origin.data(BIG, "a")
    assert [asked.get("Range") for asked in store.requests] == [None, "bytes=1000000-"]
    assert store.sent == (tmp_path / "out.zip").stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == ["out.zip"]


@pytest.mark.slow
async def test_another_request_does_not_go_on_with_what_was_left(
    start: Start, origin: Origin, store: Relay, tmp_path: Path
) -> None:
    """What a killed command left of one list is no beginning of another list's archive."""
    async with start(storage={"public_endpoint_url": store.base}) as api:
        process = await _stalled(api, origin.url(BIG, "a", "a.bin"), store, tmp_path)
        process.kill()
        await process.wait()
        assert len(list(tmp_path.iterdir())) == 2
        end = await run("fetch", origin.url(10, "b", "b"), "-o", "out.zip", cwd=tmp_path, DOWNLOADER_URL=api.base)
        assert end.status == 0, end.err
    assert _names(tmp_path / "out.zip") == ["b"]


@pytest.mark.slow
async def test_what_was_damaged_meanwhile_is_fetched_anew(
    start: Start, origin: Origin, store: Relay, tmp_path: Path
) -> None:
    """What lies on the disk since an earlier command may have lost bytes with the power; it is not taken as it is."""
    async with start(storage={"public_endpoint_url": store.base}) as api:
        source = origin.url(BIG, "a", "a.bin")
        process = await _stalled(api, source, store, tmp_path)
        process.kill()
        await process.wait()
        with (tmp_path / "out.zip.part").open("r+b") as part:
            part.seek(500_000)
            part.write(bytes(4096))
        end = await run("fetch", source, "-o", "out.zip", cwd=tmp_path, DOWNLOADER_URL=api.base)
        assert end.status == 0, end.err
        assert "is damaged; fetching it anew" in end.err
        assert len(await _jobs(api)) == 1
    assert zipfile.ZipFile(tmp_path / "out.zip").read("a.bin") == origin.data(BIG, "a")


@pytest.mark.slow
@pytest.mark.parametrize("cancels", [False, True])
async def test_ctrl_c_says_how_to_go_on(api: Api, tmp_path: Path, cancels: bool) -> None:
    """Ctrl-C while the job runs leaves it running and says how to see it through, or cancels it where that is asked."""
    flags = ["--cancel-on-interrupt"] if cancels else []
    async with gated_source() as origin:
        arguments = ["fetch", origin.held(1000), "-o", "out.zip", *flags]
        process = await start_program(*arguments, cwd=tmp_path, DOWNLOADER_URL=api.base)
        await wait_until(lambda: (tmp_path / "out.zip.part.json").exists() and origin.requests)
        process.send_signal(signal.SIGINT)
        end = await ended(process)
        assert end.status == 130
        assert "Traceback" not in end.err
        (job,) = await _jobs(api)
        if cancels:
            assert job["status"] == "cancelled"
            assert list(tmp_path.iterdir()) == [], "what cannot be gone on with"
            return
        assert f"the job goes on. To see it through: downloader watch {job['jobId']} -o out.zip\n" in end.err
        origin.gate.set()
        again = await run("watch", job["jobId"], "-o", "out.zip", cwd=tmp_path, DOWNLOADER_URL=api.base)
        assert again.status == 0, again.err
    assert _names(tmp_path / "out.zip") == ["1000"]


@pytest.mark.slow
async def test_a_terminal_shows_bars(api: Api, origin: Origin, tmp_path: Path) -> None:
    """Fifty files show bars of those on their way and one for all, never fifty rows, and a summary at the end."""
    named = [f"report-{number}.pdf\t{origin.slow(20_000, 0.4)}?{number}" for number in range(48)]
    (tmp_path / "list").write_text("\n".join([*named, f"lost.pdf\t{origin.status(404)}", origin.url(9, "z", "z")]))
    shown = await in_terminal("fetch", "@list", "-o", "out.zip", cwd=tmp_path, rows=8, DOWNLOADER_URL=api.base)
    assert shown.status == 3
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.written)
    assert re.search(r"report-\d+\.pdf +\S*━+", text), "no bar of a file"
    assert re.search(r"\d+ of 50 files +\S*━+\S* +\d+ %  [\d.]+ kB", text), "no bar of the job"
    assert "  missing lost.pdf  http_status:404" in text
    assert re.search(
        r"49 of 50 files packed in .*\n1 of 50 files missing:\n  lost.pdf: .*\nsaved out.zip \(", _plain(text)
    )
    frames = re.split(r"\r\x1b\[2K(?:\x1b\[1A\x1b\[2K)*", shown.written)
    highest = max(sum("━" in row for row in frame.splitlines()) for frame in frames)
    assert 1 < highest <= 5, "a small terminal is filled by rows of files"
    assert shown.written.count("\x1b[?25l") == shown.written.count("\x1b[?25h"), "the cursor stays hidden"


def _plain(text: str) -> str:
    return text.replace("\r", "")


@pytest.mark.slow
@pytest.mark.parametrize("columns", [30, 60])
async def test_a_narrow_terminal_is_enough(api: Api, origin: Origin, tmp_path: Path, columns: int) -> None:
    """No row is wider than the terminal, and NO_COLOR leaves out the colours, not the bars."""
    name = "a-name-that-is-far-longer-than-the-terminal-is-wide-\u202eand-turns-around.bin"
    (tmp_path / "list").write_text(f"{name}\t{origin.slow(20_000, 0.3)}", encoding="utf-8")
    arguments = ["fetch", "@list", "-o", "out.zip"]
    shown = await in_terminal(*arguments, cwd=tmp_path, columns=columns, DOWNLOADER_URL=api.base, NO_COLOR="1")
    assert shown.status == 0
    assert "\u202e" not in shown.written
    assert not re.search(r"\x1b\[[0-9;]*3[0-9][;m]", shown.written), "a colour"
    rows = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.written))
    bars = [row for row in rows if "━" in row]
    assert bars
    assert max(map(len, bars)) <= columns


@pytest.mark.slow
async def test_a_link_that_has_expired_is_signed_again(
    start: Start, origin: Origin, store: Relay, tmp_path: Path
) -> None:
    """A transfer that outlives its link goes on with a new one, from where it was."""
    async with start(storage={"public_endpoint_url": store.base}, jobs={"link_ttl_s": 2}) as api:
        source = origin.url(BIG, "a", "a.bin")
        process = await _stalled(api, source, store, tmp_path)
        process.send_signal(signal.SIGSTOP)
        await wait_until(lambda: _answers_403(store), every_s=0.2)
        store.requests.clear()
        await store.break_off()
        process.send_signal(signal.SIGCONT)
        end = await ended(process)
    assert end.status == 0, end.err
    assert [asked["Range"] for asked in store.requests] == ["bytes=1000000-"] * 2, "refused once, then taken"
    assert zipfile.ZipFile(tmp_path / "out.zip").read("a.bin") == origin.data(BIG, "a")


async def _answers_403(store: Relay) -> bool:
    """Whether the store has stopped taking the link that was asked for last."""
    async with store.session.get(store.last, headers={"Host": store.base.partition("//")[2]}) as answer:
        return answer.status == 403


@pytest.mark.slow
async def test_a_full_disk_is_one_line_and_the_rest_comes_later(
    start: Start, origin: Origin, store: Relay, tmp_path: Path
) -> None:
    """When the archive does not fit, one line says so, the status is 5, and the same command goes on afterwards."""
    code = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, -1))
from downloader.cli import main
main()
"""
    async with start(storage={"public_endpoint_url": store.base}) as api:
        arguments = ["fetch", origin.url(BIG, "a", "a.bin"), "-o", "out.zip"]
        limited = await ended(await start_program(*arguments, code=code, cwd=tmp_path, DOWNLOADER_URL=api.base))
        assert limited.status == 5
        assert "\nerror: out.zip: the file system, or a limit of the shell, takes no file of this size" in limited.err
        assert "Traceback" not in limited.err
        end = await run(*arguments, cwd=tmp_path, DOWNLOADER_URL=api.base)
        assert end.status == 0, end.err
        assert len(await _jobs(api)) == 1
    assert store.requests[-1]["Range"] == "bytes=1000000-"
    assert zipfile.ZipFile(tmp_path / "out.zip").read("a.bin") == origin.data(BIG, "a")


@pytest.mark.slow
async def test_a_reader_that_leaves_is_no_traceback(api: Api, origin: Origin, tmp_path: Path) -> None:
    """When the program behind the pipe ends early, one line says so."""
    command = f"{shlex.quote(sys.executable)} -m downloader fetch {origin.url(BIG, 'a')} -q -o - | head -c 10 > head"
    script = f"set -o pipefail; {command}"
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", script, cwd=tmp_path, env=_environment(DOWNLOADER_URL=api.base), stdout=PIPE, stderr=PIPE
    )
    end = await ended(process)
    assert (end.status, end.err) == (5, "error: standard output: its reader has left\n" + end.err.partition("\n")[2])
    assert "Traceback" not in end.err
    assert (tmp_path / "head").read_bytes()[:2] == b"PK"


def _environment(**more: str) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("DOWNLOADER_")}
    return ours | {"PYTHONPATH": str(Path(__file__).parents[1])} | more


@pytest.mark.slow
async def test_a_service_that_is_killed_and_comes_back(settings: dict[str, Any], tmp_path: Path) -> None:
    """A client outlives its service: it waits, says so, and brings the archive of the same job."""
    (port,) = free_ports(1)
    fast = {"worker": {"lease_s": 2, "renew_s": 0.5, "reap_s": 0.3}}
    lasting = settings | {"server": {"port": port, "drain_s": 0}} | fast
    async with gated_source() as origin:
        arguments = ["fetch", origin.held(1000), origin.url(10, "a", "a"), "--json"]
        async with serving(lasting, tmp_path) as (service, url):
            client = await start_program(*arguments, cwd=tmp_path, DOWNLOADER_URL=url)
            await wait_until(lambda: len(origin.requests) == 2)
            service.kill()
            await service.wait()
        assert client.stdout is not None
        told: list[dict[str, Any]] = []
        while not any("trying again" in each.get("message", "") for each in told):
            told.append(json.loads(await client.stdout.readline()))
        async with serving(lasting, tmp_path) as (_, _url):
            origin.gate.set()
            end = await ended(client)
    told += _objects(end)
    assert (end.status, end.err) == (0, "")
    assert [each["event"] for each in told if each["event"] in {"started", "completed", "saved"}] == [
        "started",
        "completed",
        "saved",
    ]
    assert _names(tmp_path / "download.zip") == ["1000", "a"]


@pytest.mark.slow
async def test_without_a_server_the_parts_are_embedded(origin: Origin, tmp_path: Path) -> None:
    """Without a service the command runs one of its own, takes its settings, and leaves nothing but the archive."""
    (tmp_path / "tmp").mkdir()
    arguments = ["fetch", origin.url(1000, "a", "a.bin"), origin.status(404), "-o", "out.zip"]
    flags = ["--set", "sources.allow_networks=127.0.0.0/8", "--verify"]
    (tmp_path / "config.toml").write_text("[server]\nnonsense = 1\n")  # a service's, so it is none of ours
    # What the commands of a client read from the environment is no setting of a service.
    end = await run(*arguments, *flags, cwd=tmp_path, TMPDIR=str(tmp_path / "tmp"), DOWNLOADER_KEY="unused")
    assert end.status == 3, end.err
    assert _names(tmp_path / "out.zip") == ["MISSING-FILES.txt", "a.bin"]
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
async def test_a_signal_ends_the_embedded_parts(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C, and a terminal that is closed, end the service with the command, and nothing of either is left."""
    (tmp_path / "tmp").mkdir()
    async with gated_source() as origin:
        arguments = ["fetch", origin.held(1000), "-o", "out.zip", "--set", "sources.allow_networks=127.0.0.0/8"]
        process = await start_program(*arguments, cwd=tmp_path, TMPDIR=str(tmp_path / "tmp"))
        await wait_until(lambda: origin.requests)
        process.send_signal(number)
        end = await ended(process)
    assert (end.status, "Traceback" in end.err) == (130, False), end.err
    assert "is cancelled" in end.err
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]
    assert list((tmp_path / "tmp").iterdir()) == []
