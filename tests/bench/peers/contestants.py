"""The contestants, each as something that runs a task and tells what it took."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import aiohttp

from tests.api import Api
from tests.bench.peers.program import Task, Took
from tests.bench.plan import LIMIT, RCLONE, RCLONE_PLAIN, SCRIPT, STREAM_ZIP
from tests.bench.process import memory_bytes
from tests.bench.running import DONE_S, Service

Contestant = Callable[[Task], Took]
RCLONE_FAST = (
    *("--ignore-checksum", "--s3-no-head", "--s3-no-check-bucket", "--s3-disable-checksum"),
    "--s3-chunk-size=16Mi",
)
POLL_S = 0.02


class DidNotFinishError(RuntimeError):
    """A contestant ended without an archive."""


def contestants(ours: Mapping[str, Service]) -> dict[str, Contestant]:
    """All that can run on this machine, by name; the service, which always can, as often as it is there."""
    known: dict[str, Contestant] = {name: Downloader(service) for name, service in ours.items()}
    if rclone := _found("rclone"):
        known |= {RCLONE: _rclone(rclone, *RCLONE_FAST), RCLONE_PLAIN: _rclone(rclone)}
    if find_spec("boto3"):
        known[SCRIPT] = _program("script")
    if find_spec("boto3") and find_spec("stream_zip"):
        known[STREAM_ZIP] = _program("streamzip")
    if _found("curl"):
        known[LIMIT] = limit
    return known


def _found(name: str) -> str | None:
    beside_python = Path(sys.executable).with_name(name)
    return str(beside_python) if beside_python.exists() else shutil.which(name)


def _program(module: str) -> Contestant:
    """A Python program of this package."""

    def run(task: Task) -> Took:
        command = [sys.executable, "-m", f"tests.bench.peers.{module}"]
        ended = subprocess.run(command, input=task.to_json(), capture_output=True, text=True, check=False)
        if ended.returncode:
            raise DidNotFinishError(f"{module}: {ended.stderr[-2000:]}")
        return Took(**json.loads(ended.stdout))

    return run


def _rclone(program: str, *flags: str) -> Contestant:
    """`rclone archive create` with these flags; it fetches one file after the other and stores, whatever is asked."""

    def run(task: Task) -> Took:
        place = task.place
        remote = f":s3,provider=Other,endpoint='{place.endpoint_url}',access_key_id={place.access_key_id}"
        remote += f",secret_access_key={place.secret_access_key},region=us-east-1:{place.bucket}/{task.key}"
        return _child([program, "archive", "create", *flags, "-q", f":http,url='{task.base}':", remote])

    return run


def curl(task: Task) -> Took:
    """Fetch all files to nowhere, eight at once."""
    lines = "".join(f'url = "{task.base}{name}"\noutput = "/dev/null"\n' for name in task.names)
    return _child(["curl", "-sS", "--fail", "-Z", "--parallel-max", "8", "-K", "-"], lines)


def limit(task: Task) -> Took:
    """Fetching and storing at once: what the machine can do if a contestant costs nothing but that."""
    command = [sys.executable, "-m", "tests.bench.peers.storer"]
    storer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert storer.stdin is not None
    assert storer.stdout is not None
    # Its start and its signing are not the machine's limit: it begins when told to, by the end of its input.
    storer.stdin.write(task.to_json())
    storer.stdin.flush()
    storer.stdout.readline()
    begun = time.perf_counter()
    storer.stdin.close()
    fetched = curl(task)
    said = storer.stdout.read()
    if storer.wait():
        raise DidNotFinishError("storer")
    stored = Took(**json.loads(said))
    wall = max(time.perf_counter() - begun, stored.wall_s)
    return Took(wall, fetched.cpu_s + stored.cpu_s, fetched.peak_bytes + stored.peak_bytes)


def _child(command: Sequence[str], text: str = "") -> Took:
    """Run a program to its end; what the kernel says it took.

    The peak is asked for while it runs: what a child's account says at its end counts its parent's memory too.
    """
    with tempfile.TemporaryFile() as said:
        begun = time.perf_counter()
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said, text=True)
        assert child.stdin is not None
        child.stdin.write(text)
        child.stdin.close()
        peak = 0
        while True:
            pid, status, used = os.wait4(child.pid, os.WNOHANG)
            if pid:
                break
            peak = max(peak, memory_bytes(child.pid, "VmHWM"))
            time.sleep(POLL_S)
        took = Took(time.perf_counter() - begun, used.ru_utime + used.ru_stime, peak)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            said.seek(0)
            raise DidNotFinishError(f"{command[0]}: {said.read()[-2000:].decode(errors='replace')}")
    return took


@dataclass
class Downloader:
    """The service at work; `job` is what became of its last task."""

    service: Service
    job: dict[str, Any] = field(default_factory=dict)

    def __call__(self, task: Task) -> Took:
        """Give it the task as a client does, and wait for the end of the job's events."""
        return asyncio.run(self._run(task))

    async def _run(self, task: Task) -> Took:
        files = [{"url": task.base + name, "name": name} for name in task.names]
        options = {"compress": "auto" if task.deflate else False}
        service = self.service
        service.reset_peak()
        async with aiohttp.ClientSession() as session:
            api = Api(session, service.url)
            cpu, begun = service.cpu_s(), time.perf_counter()
            job = await api.finished(await api.submit(files, options=options), within_s=DONE_S)
            wall, used = time.perf_counter() - begun, service.cpu_s() - cpu
        self.job = job
        if job["status"] != "completed" or job["filesFailed"]:
            raise DidNotFinishError(f"job {job['status']}: {job['error']}, {job['filesFailed']} files failed")
        return Took(wall, used, service.peak_bytes())

    def archive(self, target: Path | None) -> int:
        """Download the last archive to `target`, if given, and have the job forgotten; gives the archive's size."""
        return asyncio.run(self._archive(target))

    async def _archive(self, target: Path | None) -> int:
        async with aiohttp.ClientSession() as session:
            api = Api(session, self.service.url)
            if target is not None:
                target.write_bytes(await api.archive_bytes(self.job["jobId"]))
            await api.call("DELETE", f"/v1/download/{self.job['jobId']}")
        return int(self.job["archive"]["size"])
