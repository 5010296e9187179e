"""The bench runs from end to end, at a size at which its figures mean nothing: so it is there when it is wanted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.figures import FIGURES, PEERS
from tests.bench.results import Results
from tests.bench.split import shares_of, stage_of
from tests.bench.targets import TARGETS, Target, Verdict
from tests.conftest import LINUX

QUICK = ("worker.lease_s=2", "worker.renew_s=0.5", "worker.reap_s=0.5")


def bench(out: Path, *words: str) -> Results:
    settings = [word for setting in QUICK for word in ("--set", setting)]
    command = [sys.executable, "-m", "tests.bench", *words, "--scale", "0.002", "--runs", "1", "--out", str(out)]
    ended = subprocess.run([*command, *settings], capture_output=True, text=True, timeout=110, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return Results.read(out)


SMALL = ["--stores=sink", "--contestants=downloader"]


@pytest.mark.skipif(not LINUX, reason="it asks /proc what processes take")
@pytest.mark.parametrize(
    ("names", "more"),
    [
        pytest.param(["W1", "ceiling"], SMALL, marks=pytest.mark.slow),
        pytest.param(["peers", "W1"], [], marks=pytest.mark.deep),
        pytest.param(["W2", "W3", "W4", "W5", "W6"], SMALL, marks=pytest.mark.deep),
        pytest.param(["split", "memory", "latency", "broken"], [], marks=pytest.mark.deep),
        pytest.param(["hurry", "streams"], [], marks=pytest.mark.deep),
        pytest.param(["growth", "lag", "replicas", "queue"], [], marks=pytest.mark.deep),
        pytest.param(["takeover"], [], marks=pytest.mark.deep),
        pytest.param(["resume"], [], marks=pytest.mark.deep),
    ],
)
def test_every_figure_runs(tmp_path: Path, names: list[str], more: list[str]) -> None:
    """Each figure gives numbers; tables, chart and raw numbers are written. What is not installed is left out."""
    results = bench(tmp_path, *names, *more)
    measured = [name for name in names if name != "peers"]
    assert list(results.by_name) == measured
    for name in measured:
        numbers = results.by_name[name].numbers
        assert numbers or name == "split"
        if name in PEERS:
            assert numbers["sink.downloader.wall_s"] > 0
    assert (tmp_path / "bench.md").read_text().count("## ") == len(measured)
    assert (tmp_path / "bench.svg").read_text().startswith("<svg ")
    assert set(json.loads((tmp_path / "bench.json").read_text())) == set(measured)


def test_every_target_names_a_figure() -> None:
    """A bound of a figure that does not exist would never be missed."""
    named = {number.partition(".")[0] for target in TARGETS for number in (target.value, target.per) if number}
    assert named <= set(FIGURES)


def test_a_verdict() -> None:
    """Bounds are kept from above or below, of a number or of a quotient; what was not measured is no success."""
    numbers = {"a": {"x": 3.0}, "b": {"y.z": 2.0, "none": 0.0}}
    assert Target("", "a.x", 3).verdict(numbers) is Verdict.REACHED
    assert Target("", "a.x", 2).verdict(numbers) is Verdict.MISSED
    assert Target("", "a.x", 2, at_least=True).verdict(numbers) is Verdict.REACHED
    assert Target("", "a.x", 1.6, per="b.y.z").found(numbers) == 1.5
    for unknown in (Target("", "a.w", 1), Target("", "c.x", 1), Target("", "a.x", 9, per="b.none")):
        assert unknown.verdict(numbers) is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("stack", "stage"),
    [
        ("run (asyncio/runners.py:118)", "fetch"),
        ("run (asyncio/runners.py:118);ResponseHandler.data_received (aiohttp/client_proto.py:359)", "fetch"),
        ("run (asyncio/runners.py:118);Intake.write (downloader/work/intake.py:9);f (asyncio/futures.py:4)", "cache"),
        ("_worker (concurrent/futures/thread.py:83);Inspector.update (downloader/work/inspection.py:54)", "hash"),
        ("_worker (concurrent/futures/thread.py:83);deflate (downloader/work/deflate.py:54)", "zip"),
        ("Storage.upload_part (downloader/work/storage.py:9);add_auth (botocore/auth.py:434)", "upload"),
        ("write_bytes (aiohttp/client_reqrep.py:1594);write (aiohttp/http_writer.py:104)", "upload"),
        ("Worker._report (downloader/work/worker.py:9);send (redis/asyncio/connection.py:3)", "other"),
        ("handle (aiohttp/web_protocol.py:9);write (aiohttp/http_writer.py:104)", "other"),
    ],
)
def test_what_a_sample_was_busy_with(stack: str, stage: str) -> None:
    """The innermost frame that is known decides."""
    assert stage_of(stack.split(";")) == stage


def test_samples_weigh_as_much_as_their_thread_computed() -> None:
    """Threads that wait are seen as often as those that compute; what each really used is the measure."""
    hashing, waiting = (
        "Inspector.update (downloader/work/inspection.py:54)",
        "_worker (concurrent/futures/thread.py:81)",
    )
    stacks = [
        "thread (1): MainThread;run (asyncio/runners.py:118) 30",
        "thread (1): MainThread;Packer.pack (downloader/work/packing.py:1) 10",
        f"thread (2): compute_0;{hashing} 3",
        f"thread (2): compute_0;{waiting} 500",
    ]
    shares = shares_of("\n".join(stacks), {1: 6.0, 2: 2.0, 3: 9.0})
    assert shares == {"fetch": 0.5625, "hash": 0.25, "cache": 0.0, "zip": 0.1875, "upload": 0.0, "other": 0.0}
