"""The script a Python developer would write: download to a folder, zip it, upload it.

aiohttp, eight files at once; zipfile at its usual level; boto3's upload_file with its usual settings.
"""

from __future__ import annotations

import asyncio
import tempfile
import zipfile
from pathlib import Path

import aiohttp
import boto3

from tests.bench.peers.program import Task, measured, read_task

AT_ONCE = 8
CHUNK = 1024 * 1024


async def _download(task: Task, folder: Path) -> None:
    places = asyncio.Semaphore(AT_ONCE)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:

        async def fetch(name: str) -> None:
            async with places, session.get(task.base + name) as response:
                response.raise_for_status()
                with (folder / name).open("wb") as file:
                    async for chunk in response.content.iter_chunked(CHUNK):
                        file.write(chunk)

        await asyncio.gather(*(fetch(name) for name in task.names))


def work(task: Task) -> None:
    """Do it."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_download(task, Path(folder)))
        path = Path(folder) / "archive.zip"
        kind = zipfile.ZIP_DEFLATED if task.deflate else zipfile.ZIP_STORED
        with zipfile.ZipFile(path, "w", kind) as archive:
            for name in task.names:
                archive.write(Path(folder) / name, name)
        client = boto3.client(
            "s3",
            endpoint_url=task.place.endpoint_url,
            aws_access_key_id=task.place.access_key_id,
            aws_secret_access_key=task.place.secret_access_key,
            region_name="us-east-1",
        )
        client.upload_file(str(path), task.place.bucket, task.key)


if __name__ == "__main__":
    TASK = read_task()
    measured(lambda: work(TASK))
