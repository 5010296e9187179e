"""The demo from the first to the last line it prints."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from downloader import __version__
from downloader.client.calls import Calls
from downloader.client.follow import follow
from downloader.client.server import API, JobRef, Server
from downloader.client.text import amount
from downloader.client.views import view_of
from downloader.config import Settings
from downloader.demo.check import check
from downloader.demo.files import DemoFile, demo_files
from downloader.demo.origin import serving
from downloader.service import running

JOB_S = 300.0


async def run_demo(port: int, data_dir: Path | None, wait: Callable[[], Awaitable[None]] | None) -> int:
    """Run the service with its embedded servers, give it a job, check the archive; 0 when it was right, else 1.

    `port` 0 takes any free one; without a `data_dir` the data go with the demo. With `wait`, the service goes on until
    that returns.
    """
    began = time.monotonic()
    files = demo_files()
    with _folder(data_dir) as folder:
        say(f"downloader {__version__}: starting the service with a private Valkey and SeaweedFS")
        async with serving(files) as origin, running(_settings(port, folder)) as service:
            base = f"http://127.0.0.1:{service.port}"
            say(f"ready after {time.monotonic() - began:.1f} s at {base}")
            async with Calls.open(Server(base)) as calls, asyncio.timeout(JOB_S):
                job = await _job(calls, files, origin)
                wrong = await _verdict(calls.session, job, files)
            if wait is not None:
                _invite(base, job, origin)
                await wait()
    return 1 if wrong else 0


def _settings(port: int, folder: Path) -> Settings:
    """Default settings, but for the sources on loopback; no file and no environment gets in the way of a demo."""
    return Settings.model_validate(
        {
            "server": {"port": port, "drain_s": 0},
            "sources": {"allow_networks": ["127.0.0.0/8"], "attempts": 3},
            "embedded": {"data_dir": str(folder)},
        }
    )


async def _job(calls: Calls, files: Sequence[DemoFile], origin: str) -> dict[str, Any]:
    """Post the job and show it to its end; gives its status."""
    accepted = await calls.initiate(job_request(files, origin), str(uuid.uuid4()))
    ref = JobRef(accepted["jobId"])
    say(f"job {ref.job_id}: {len(files)} files, two of them broken on purpose")
    with view_of(to=sys.stdout) as shown:
        async for heard in follow(calls, ref, shown.notice):
            shown.update(heard)
    return await calls.status(ref)


def job_request(files: Sequence[DemoFile], origin: str) -> dict[str, Any]:
    """The body that asks for these files in one archive."""
    sources = [{"id": file.name, "url": f"{origin}/files/{file.name}"} for file in files]
    return {"files": sources, "archiveName": "demo.zip", "options": {"manifest": True}}


async def _verdict(session: aiohttp.ClientSession, job: dict[str, Any], files: Sequence[DemoFile]) -> list[str]:
    """Check the archive and say what was found."""
    if job["status"] != "completed":
        wrong = [f"the job is {job['status']}: {job['error']}"]
    else:
        wrong = await check(session, job["downloadUrl"], job, files)
    for fault in wrong:
        say(f"wrong: {fault}")
    if not wrong:
        archive = job["archive"]
        took = job["processingTimeMs"] / 1000
        say(
            f"archive checked: {archive['name']}, {archive['entries']} entries, {amount(archive['size'])}, {took:.1f} s"
        )
        say("every file is there and equal to its source; the two broken ones stand in MISSING-FILES.txt")
    return wrong


def _invite(base: str, job: dict[str, Any], origin: str) -> None:
    """Say what to try next."""
    body = f'{{"files": [{{"url": "{origin}/files/report.pdf"}}, {{"url": "{origin}/files/noise.png"}}]}}'
    say()
    say(f"the archive:   {job['downloadUrl']}")
    say(f"its status:    {base}{API}/status/{job['jobId']}")
    say(f"page and docs: {base}/")
    say("your own job:")
    say(f"  curl {base}{API}/initiate --json '{body}'")
    say(f"  curl -N -H 'Accept: text/event-stream' {base}{API}/subscribe/JOB_ID")
    say(f"  curl -LO -J {base}{API}/JOB_ID")
    say()
    say("serving until Ctrl-C")


@contextmanager
def _folder(data_dir: Path | None) -> Iterator[Path]:
    if data_dir is not None:
        yield data_dir
        return
    with tempfile.TemporaryDirectory(prefix="downloader-demo-") as folder:
        yield Path(folder)


def say(text: str = "") -> None:
    """Print a line at once, also into a pipe."""
    print(text, flush=True)
