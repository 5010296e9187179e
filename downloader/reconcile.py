"""`downloader reconcile`: opens memory and bucket, compares them, and says line by line what does not agree."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from downloader.config import Settings
from downloader.embedded import reached
from downloader.errors import StartError, StorageError, UnavailableError
from downloader.state.audit import Audit
from downloader.state.client import connect, opened
from downloader.state.scripts import Scripts
from downloader.work.reconcile import Finding, Reconciler
from downloader.work.storage import Storage


async def reconcile(settings: Settings, say: Callable[[str], None], *, fix: bool, older_than_s: float) -> int:
    """Print each finding and the sum; gives 0 when all agrees or was mended, else 1.

    Raises StartError when Redis or S3 cannot be asked. Safe beside a running service.
    """
    found = unmended = 0
    try:
        async for finding in _findings(settings, fix=fix, older_than_s=older_than_s):
            found += 1
            unmended += not finding.fixed
            say(f"{finding.kind}: {finding.what}: {finding.detail}{' (mended)' if finding.fixed else ''}")
    except (UnavailableError, StorageError) as error:
        raise StartError(f"reconcile: {error.message}; nothing more was looked at") from error
    say(f"{found} findings, {found - unmended} mended")
    return 1 if unmended else 0


async def _findings(settings: Settings, *, fix: bool, older_than_s: float) -> AsyncIterator[Finding]:
    async with (
        reached(settings) as effective,
        opened(connect(effective.redis.url)) as client,
        Storage.open(effective.storage) as storage,
    ):
        audit = Audit(client, Scripts(client, effective.redis.prefix))
        reconciler = Reconciler(audit, storage, effective.storage.prefix, fix=fix, older_than_s=older_than_s)
        async for finding in reconciler.run():
            yield finding
