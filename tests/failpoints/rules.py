"""What must be true after a kill and the repair. Each rule gives the ways in which it is broken, in words."""

from __future__ import annotations

import asyncio
import hashlib
import io
import time
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from downloader.events import StateEvent, event_from_fields, event_order
from downloader.work.reports import CHECKSUMS_NAME
from tests.api import Api
from tests.conftest import LASTING
from tests.failpoints.shapes import Shape
from tests.failpoints.stage import BUCKET, Plot

CLEAN_WITHIN_S = 6.0
LOOK_EVERY_S = 0.05


async def jobs(plot: Plot) -> list[str]:
    """The ids of all jobs that are remembered."""
    keys = plot.stage.client.scan_iter(f"{plot.key_prefix}job:*", count=1000)
    return [key.decode().rpartition(":")[2] async for key in keys]


async def only_one_job(plot: Plot, job_id: str) -> list[str]:
    """However often it was asked for, there is one job."""
    found = await jobs(plot)
    return [] if found == [job_id] else [f"the jobs are {found}, not just {job_id}"]


async def ended_once(plot: Plot, api: Api, job_id: str) -> list[str]:
    """The job is completed, its events rise, and exactly one of them is the end."""
    broken = []
    status = await api.status(job_id)
    if status["status"] != "completed":
        broken.append(f"the job is {status['status']}: {status.get('error')} ({status.get('errorCode')})")
    rows: Any = await plot.stage.client.xrange(f"{plot.key_prefix}ev:{job_id}")
    events = [event_from_fields(key.decode(), fields) for key, fields in rows]
    order = [event_order(event.id) or (0, 0) for event in events]
    if order != sorted(set(order)):
        broken.append("the ids of its events do not rise")
    ends = [event.name for event in events if isinstance(event, StateEvent) and event.terminal]
    if ends != ["complete"]:
        broken.append(f"its terminal events are {ends}")
    elif not events[-1].terminal:
        broken.append("an event follows its end")
    shown = [frame.event async for frame in api.stream(job_id)]
    if shown[-1:] != ["complete"]:
        broken.append(f"its stream ends with {shown[-1:]}")
    return broken


async def right_archive(api: Api, job_id: str, shape: Shape) -> list[str]:
    """The archive holds what the source serves, byte for byte, and nothing else."""
    try:
        data = await api.archive_bytes(job_id)
        return await asyncio.to_thread(_compared, data, shape)
    except (AssertionError, zipfile.BadZipFile) as error:
        return [f"the archive cannot be read: {error!r}"]


async def right_files(api: Api, job_id: str, shape: Shape) -> list[str]:
    """Each file that was to be kept is there, byte for byte, behind its own link."""
    broken = []
    for index, data in shape.kept.items():
        async with api.session.get(f"{api.base}/v1/download/{job_id}/files/{index}") as answer:
            if answer.status != 200 or await answer.read() != data:
                broken.append(f"kept file {index} is not what its source serves ({answer.status})")
    return broken


def _compared(data: bytes, shape: Shape) -> list[str]:
    expected = shape.expected
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        if names != list(expected):
            return [f"the entries are {names}"]
        found = {name: archive.read(name) for name in names}
    broken = [f"{name} differs from its source" for name, right in expected.items() if right not in (None, found[name])]
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in _lines(found.get(CHECKSUMS_NAME)))}
    if sums and sums != {name: hashlib.sha256(right).hexdigest() for name, right in expected.items() if right}:
        broken.append("the checksums are not those of the files")
    return broken


def _lines(text: bytes | None) -> list[str]:
    return text.decode().splitlines() if text else []


async def clean(plot: Plot, *, objects: int = 1) -> list[str]:
    """Soon nothing is left but the archive and what is kept; gives what is still there when the time is over."""
    deadline = time.monotonic() + CLEAN_WITHIN_S
    while True:
        broken = [await rule(plot) for rule in _LEFTOVERS] + [await _objects(plot, objects)]
        left = [words for words in broken if words]
        if not left or time.monotonic() > deadline:
            return left
        await asyncio.sleep(LOOK_EVERY_S)


async def _keys(plot: Plot) -> AsyncIterator[str]:
    async for key in plot.stage.client.scan_iter(f"{plot.key_prefix}*", count=1000):
        yield key.decode().removeprefix(plot.key_prefix)


async def _lasting_keys(plot: Plot) -> str:
    client = plot.stage.client
    forever = [
        name async for name in _keys(plot) if name not in LASTING and await client.ttl(f"{plot.key_prefix}{name}") == -1
    ]
    return f"keys without a time to live: {sorted(forever)}" if forever else ""


async def _held_keys(plot: Plot) -> str:
    """Nothing is leased, suspected, running, delayed, waiting, uploading or due to be swept."""
    client = plot.stage.client
    held = {
        "leases": await client.zcard(f"{plot.key_prefix}leases"),
        "suspects": await client.hlen(f"{plot.key_prefix}suspects"),
        "delayed": await client.zcard(f"{plot.key_prefix}delayed"),
        "ring": await client.zcard(f"{plot.key_prefix}ring"),
        "uploads": await client.hlen(f"{plot.key_prefix}uploads"),
        "debris": await client.zcard(f"{plot.key_prefix}debris"),
    }
    bad = {name: count for name, count in held.items() if count}
    bad |= {name: 1 async for name in _keys(plot) if name.startswith(("running:", "ready:", "alone", "ckpt:"))}
    return f"still held: {bad}" if bad else ""


async def _uploads(plot: Plot) -> str:
    listed = await plot.stage.bucket.list_multipart_uploads(Bucket=BUCKET, Prefix=plot.object_prefix)
    left = [upload["Key"] for upload in listed.get("Uploads", []) if upload["Key"].startswith(plot.object_prefix)]
    return f"unfinished uploads: {left}" if left else ""


async def _objects(plot: Plot, wanted: int) -> str:
    listed = await plot.stage.bucket.list_objects_v2(Bucket=BUCKET, Prefix=plot.object_prefix)
    keys = [item["Key"] for item in listed.get("Contents", [])]
    return f"{len(keys)} objects instead of {wanted}: {keys}" if len(keys) != wanted else ""


_LEFTOVERS: tuple[Callable[[Plot], Awaitable[str]], ...] = (_lasting_keys, _held_keys, _uploads)


def empty_cache(plot: Plot) -> list[str]:
    """No file is left in the folder of the cache."""
    left = sorted(path.name for path in (plot.folder / "cache").rglob("*") if path.is_file())
    return [f"files in the cache: {left}"] if left else []
