"""What must be gone once all jobs have ended and the sweep has had its time."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from aiobotocore.session import get_session
from redis.asyncio import Redis as RedisClient

from tests.chaos.history import History, Left
from tests.chaos.replicas import Replica, open_files
from tests.chaos.stage import PREFIX, Stage
from tests.conftest import LASTING
from tests.waiting import wait_until

SWEPT_WITHIN_S = 45.0
# A health check, a heartbeat or a half-closed connection more or less is no leak.
FILES_MARGIN = 6
EMPTY_SETS = ("leases", "delayed", "debris", "ring")
EMPTY_LISTS = ("alone",)
EMPTY_HASHES = ("uploads", "suspects")


async def look(stage: Stage, history: History, archives: Mapping[str, tuple[int, str]], jobs: frozenset[str]) -> None:
    """Wait until nothing is left, and write down what still is when the time for sweeping is over.

    `archives` are the sizes and ETags of the visible ones by job, `jobs` the ids that were accepted.
    """
    until = time.monotonic() + SWEPT_WITHIN_S
    while True:
        found = {**await _in_redis(stage, jobs), **await _in_s3(stage, archives), **_on_disk(stage)}
        if not any(found.values()) or time.monotonic() > until:
            break
        await asyncio.sleep(1)
    for what, items in found.items():
        history.add(Left(time.time(), what, tuple(items)))


async def _in_redis(stage: Stage, jobs: frozenset[str]) -> dict[str, list[str]]:
    client: RedisClient = stage.redis.client
    start = f"{{{PREFIX}}}:"
    forever, unknown, running = [], [], []
    async for key in client.scan_iter(f"{start}*", count=1000):
        name = key.decode().removeprefix(start)
        kind, _, rest = name.partition(":")
        if name not in LASTING and await client.ttl(key) == -1:
            forever.append(name)
        if kind == "job" and rest not in jobs:
            unknown.append(name)
        if kind in ("running", "ready"):
            running.append(name)
    found = {"keys without TTL": forever, "jobs nobody was told of": unknown, "running or ready sets": running}
    for name in EMPTY_SETS:
        found[name] = _texts(await client.zrange(f"{start}{name}", 0, -1))
    for name in EMPTY_LISTS:
        found[name] = _texts(await client.lrange(f"{start}{name}", 0, -1))
    for name in EMPTY_HASHES:
        found[name] = _texts(await client.hkeys(f"{start}{name}"))
    return found


def _texts(members: Iterable[Any]) -> list[str]:
    return [member.decode() for member in members]


async def _in_s3(stage: Stage, archives: Mapping[str, tuple[int, str]]) -> dict[str, list[str]]:
    async with get_session().create_client(
        "s3",
        endpoint_url=stage.s3.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=stage.s3.access_key_id,
        aws_secret_access_key=stage.s3.secret_access_key,
    ) as client:
        uploads, objects = [], []
        async for page in client.get_paginator("list_multipart_uploads").paginate(Bucket="downloads"):
            uploads += [f"{item['Key']} {item['UploadId']}" for item in page.get("Uploads", [])]
        async for page in client.get_paginator("list_objects_v2").paginate(Bucket="downloads"):
            objects += [(item["Size"], item["ETag"].strip('"'), item["Key"]) for item in page.get("Contents", [])]
    return {"multipart uploads": uploads, **compared(archives, objects)}


def compared(archives: Mapping[str, tuple[int, str]], objects: Iterable[tuple[int, str, str]]) -> dict[str, list[str]]:
    """The bucket holds the visible archives, each as the service describes it, and nothing else.

    Two attempts at a job may have made the same bytes, so of a job with too many objects all are named.
    """
    found: dict[str, list[tuple[int, str, str]]] = defaultdict(list)
    for size, etag, key in objects:
        found[key.partition("/")[0]].append((size, etag, key))
    strays, without = [], []
    for job_id, stored in found.items():
        if len(stored) > 1 or job_id not in archives:
            strays += [f"{key} ({size} bytes, {etag})" for size, etag, key in stored]
    for job_id, (size, etag) in archives.items():
        if (size, etag) not in [kept[:2] for kept in found[job_id]]:
            without.append(f"{job_id} ({size} bytes, {etag})")
    return {"objects besides the archives": strays, "archives without object": without}


def _on_disk(stage: Stage) -> dict[str, list[str]]:
    found = [str(path) for replica in stage.replicas for path in replica.cache.rglob("*")]
    return {"temporary files": found}


def count_open(stage: Stage) -> list[int]:
    """How many files and sockets each replica has open, without the pool of connections to Redis."""
    return [len(_open(stage, replica)) for replica in stage.replicas]


async def look_at_open_files(stage: Stage, history: History, baseline: int) -> None:
    """Wait until idle connections have been closed, and write down who has more open than a fresh replica."""
    with suppress(AssertionError):  # said below, with what is open
        await wait_until(lambda: max(count_open(stage)) <= baseline + FILES_MARGIN, within_s=SWEPT_WITHIN_S, every_s=1)
    found = []
    for replica in stage.replicas:
        files = _open(stage, replica)
        if len(files) > baseline + FILES_MARGIN:
            found.append(f"replica {replica.number}: {len(files)} open, a fresh one has {baseline}: {sorted(files)}")
    history.add(Left(time.time(), "open files", tuple(found)))


def _open(stage: Stage, replica: Replica) -> list[str]:
    return open_files(replica.process.pid, stage.redis_proxy.port)
