"""What is over goes by itself: archives, records, streams, requests, temporary files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from redis.asyncio import Redis as RedisClient

from downloader.work.storage import Storage
from tests.conftest import Start, merged
from tests.files import Origin
from tests.waiting import wait_until


async def test_nothing_outlives_its_time(
    start: Start, settings: dict[str, Any], tmp_path: Path, origin: Origin
) -> None:
    """A done, a failed and a cancelled job with short lives: soon neither Redis nor bucket nor disk knows of them."""
    storage_settings = merged(settings, {}).storage
    client = RedisClient.from_url(settings["redis"]["url"])
    prefix = f"{{{settings['redis']['prefix']}}}:"
    lives = {"link_ttl_s": 1, "archive_ttl_s": 1, "record_ttl_s": 2, "retry_ttl_s": 1}
    async with (
        start(jobs=lives, worker={"sweep_s": 0.2}, cache={"dir": str(tmp_path)}) as api,
        Storage.open(storage_settings) as storage,
    ):
        done = await api.submit([origin.url(1000, "a"), origin.text(300_000)])
        failed = await api.submit([origin.status(404)])
        cancelled = await api.submit([origin.endless()])
        await origin.wait_for_connection()
        await api.call("POST", f"/v1/download/{cancelled}/cancel")
        assert (await api.finished(done))["status"] == "completed"
        await api.finished(failed)

        async def archive_expired() -> bool:
            return (await api.call("GET", f"/v1/download/{done}")).status in {404, 410}

        async def all_gone() -> bool:
            statuses = [
                (await api.call("GET", f"/v1/download/status/{job}")).status for job in (done, failed, cancelled)
            ]
            keys = [key async for key in client.scan_iter(f"{prefix}*:*")]
            ours = [key for key in keys if any(job.encode() in key for job in (done, failed, cancelled))]
            objects = [item async for item in storage.objects(storage_settings.prefix)]
            return statuses == [404] * 3 and not ours and not objects

        await wait_until(archive_expired)
        await wait_until(all_gone)
        assert await client.zcard(f"{prefix}expiries") == await client.zcard(f"{prefix}debris") == 0
        assert await client.hlen(f"{prefix}uploads") == 0
        assert list(tmp_path.iterdir()) == []
    await client.aclose()
