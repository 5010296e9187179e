"""One job of many files from a moody source, at the front door of the real service with real neighbours.

With eight tries per file, a file is lost with a probability of 0.2^8 = 0.0003 %, so one of 1,000 in 0.3 % of all runs;
with the service's default of five it would be one in every fourth run.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tests.field.bench import Bench, Finished, bench, finished
from tests.field.host import HOST
from tests.hostile.moody import RATE, Moody, moody
from tests.servers import S3, Redis, start_valkey, start_weed

ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class FlakyFigures:
    """What it took, and what did not arrive as it is: `faults` has to be empty."""

    files: int
    done: int
    requests: int
    resumed: int
    moods: Counter[str]
    sent_bytes: int
    needed_bytes: int
    took_s: float
    faults: list[str]

    @property
    def overhead(self) -> float:
        """How many times the bytes that are needed were sent."""
        return self.sent_bytes / self.needed_bytes

    def __str__(self) -> str:
        moods = ", ".join(f"{count} {mood}" for mood, count in sorted(self.moods.items()))
        return (
            f"flaky: {self.done} of {self.files} files arrived as they are in {self.took_s:.1f} s, "
            f"{RATE:.0%} of the requests failing, {ATTEMPTS} attempts\n"
            f"  {self.requests} requests, {self.resumed} of them resuming; {self.moods.total()} met a mood: {moods}\n"
            f"  {self.sent_bytes} bytes sent for {self.needed_bytes} needed: {self.overhead:.3f} times"
        )


def try_flaky(count: int, seed: int = 1) -> FlakyFigures:
    """With neighbours of its own."""
    with start_valkey() as valkey, start_weed() as s3:
        return try_flaky_with(valkey, s3, count, seed)


def try_flaky_with(valkey: Redis, s3: S3, count: int, seed: int = 1) -> FlakyFigures:
    """One job of `count` files, by a service of its own."""
    with bench(valkey, s3) as (made, loop):
        return loop.run(_job(made, count, seed))


async def _job(made: Bench, count: int, seed: int) -> FlakyFigures:
    settings = {"sources": {"attempts": ATTEMPTS}}
    async with moody(count, seed, HOST) as source, made.serving("flaky", settings) as service:
        begun = time.monotonic()
        urls = [source.origin.url(file.path) for file in source.files]
        job_id = await service.api.submit(urls, options={"manifest": True})
        done = await finished(service.api, job_id, within_s=90)
        took_s = time.monotonic() - begun
    faults = [*done.complaints(), *_faults(source, done)]
    arrived = sum(file["status"] == "done" for file in done.files)
    return FlakyFigures(
        count,
        arrived,
        source.requests,
        source.resumed,
        source.moods,
        source.body_bytes,
        source.needed_bytes,
        took_s,
        faults,
    )


def _faults(source: Moody, done: Finished) -> Iterator[str]:
    """Everything that is not exactly as it was sent: in the status, in the manifest, and in the archive."""
    if len(done.files) != len(source.files):
        yield f"{len(done.files)} files in the status"
    names = Counter(done.names)
    listed = [] if done.zip is None else json.loads(done.zip.read("manifest.json"))["files"]
    if len(listed) != len(source.files) or names.total() != len(source.files) + 2:
        yield f"{len(listed)} files in the manifest, {names.total()} entries in the archive"
    for index, (sent, file) in enumerate(zip(source.files, done.files, strict=False)):
        right = (sent.size, hashlib.sha256(sent.data).hexdigest())
        if file["status"] != "done":
            yield f"{sent.path}: {done.code(index)}"
        elif done.data(index) != sent.data or names[file["name"]] != 1:
            yield f"{sent.path}: other bytes in the archive, or not once"
        elif (file["size"], file["sha256"]) != right:
            yield f"{sent.path}: the status says {file['size']} bytes, {file['sha256']}"
        elif (listed[index]["size"], listed[index]["sha256"]) != right:
            yield f"{sent.path}: the manifest says {listed[index]['size']} bytes, {listed[index]['sha256']}"
