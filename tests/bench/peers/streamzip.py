"""stream-zip with an upload that follows it: nothing is stored on the way.

Eight files are opened ahead by threads; parts of 16 MiB, four in flight.
"""

from __future__ import annotations

import itertools
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import Any

import boto3
import urllib3
from botocore.config import Config
from stream_zip import NO_COMPRESSION_64, ZIP_64, stream_zip

from tests.bench.peers.program import Task, measured, read_task

AHEAD = 8
IN_FLIGHT = 4
CHUNK = 1024 * 1024
PART = 16 * 1024 * 1024
MODIFIED = datetime(2026, 1, 1)  # noqa: DTZ001 - a ZIP archive knows no time zones
MODE = stat.S_IFREG | 0o644


def _opened(task: Task, pool: ThreadPoolExecutor, http: urllib3.PoolManager) -> Iterator[tuple[str, Any]]:
    """The files in order, up to AHEAD of them asked for before their turn."""

    def open_one(name: str) -> Any:
        answer = http.request("GET", task.base + name, preload_content=False)
        if answer.status != 200:
            raise RuntimeError(f"{name}: {answer.status}")
        return answer

    names = iter(task.names)
    waiting: deque[tuple[str, Future[Any]]] = deque(
        (name, pool.submit(open_one, name)) for name in itertools.islice(names, AHEAD)
    )
    while waiting:
        name, future = waiting.popleft()
        yield name, future.result()
        following = next(names, None)
        if following is not None:
            waiting.append((following, pool.submit(open_one, following)))


def _chunks(answer: Any) -> Iterator[bytes]:
    yield from answer.stream(CHUNK)
    answer.release_conn()


def _parts(chunks: Iterable[bytes]) -> Iterator[bytes]:
    held = bytearray()
    for chunk in chunks:
        held += chunk
        while len(held) >= PART:
            yield bytes(held[:PART])
            del held[:PART]
    yield bytes(held)


def work(task: Task) -> None:
    """Do it."""
    client: Any = boto3.client(
        "s3",
        endpoint_url=task.place.endpoint_url,
        aws_access_key_id=task.place.access_key_id,
        aws_secret_access_key=task.place.secret_access_key,
        region_name="us-east-1",
        config=Config(request_checksum_calculation="when_required"),
    )
    method = ZIP_64 if task.deflate else NO_COMPRESSION_64
    where = {"Bucket": task.place.bucket, "Key": task.key}
    upload = client.create_multipart_upload(**where)["UploadId"]
    http = urllib3.PoolManager(maxsize=AHEAD)
    with ThreadPoolExecutor(AHEAD) as fetching, ThreadPoolExecutor(IN_FLIGHT) as storing:
        files = _opened(task, fetching, http)
        members = ((name, MODIFIED, MODE, method, _chunks(answer)) for name, answer in files)
        done: list[tuple[int, Future[Any]]] = []
        for number, part in enumerate(_parts(stream_zip(members)), 1):
            if len(done) >= IN_FLIGHT:
                done[-IN_FLIGHT][1].result()
            sent = storing.submit(client.upload_part, **where, UploadId=upload, PartNumber=number, Body=part)
            done.append((number, sent))
        parts = [{"PartNumber": number, "ETag": sent.result()["ETag"]} for number, sent in done]
    client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})


if __name__ == "__main__":
    TASK = read_task()
    measured(lambda: work(TASK))
