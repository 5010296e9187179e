"""What the work side asks of the memory: the doorbell, claims, leases, reports and the end of an attempt.

BLPOP pops only a token that says "look": the truth is the ready structure, and the claim script takes from it. A
token that is lost between pop and claim costs one block time, never a job.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from downloader.config import JobsSettings, LimitsSettings, WorkerSettings
from downloader.errors import LeaseLostError
from downloader.events import fetching_to_field
from downloader.jobs import Claim, Completed, Failed, Figures, FileResult, JobRequest, Settlement, kept_folder
from downloader.state.client import BLOCK_S, Client, answered
from downloader.state.records import file_to_json
from downloader.state.scripts import Scripts

CRASHES = 3
# Doubled with each failure, and spread, so that jobs which failed together do not come back together.
RETRY_DELAY_MS = 2000
CRASH_DELAY_MS = 1000
DRAIN_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class Debris:
    """What an attempt that ended badly may have left in the bucket."""

    job_id: str
    token: str
    upload_id: str
    key: str


class Queue:
    """Claims and leases in Redis. Every method raises UnavailableError while Redis is away."""

    def __init__(
        self,
        client: Client,
        doorbell: Client,
        scripts: Scripts,
        jobs: JobsSettings,
        limits: LimitsSettings,
        worker: WorkerSettings,
    ) -> None:
        self._client = client
        self._doorbell = doorbell
        self._scripts = scripts
        self._jobs = jobs
        self._limits = limits
        self._own_limits = [word for one in limits.tenants if one.running_jobs for word in (one.name, one.running_jobs)]
        self._lease_ms = int(worker.lease_s * 1000)
        self._grace_ms = int(worker.reap_s * 500)
        self._slots = 0
        self._process = secrets.token_hex(8)
        self._nonce = secrets.token_hex(8)
        self._draining = False

    @property
    def process(self) -> str:
        """By which name this process claims."""
        return self._process

    async def claim(self, running: int, slots: int) -> Claim | None:
        """Take the next job, or None when there is none for a process with `running` jobs in `slots`.

        After a lost answer the next call gets the same job.
        """
        self._slots = slots
        verdict, *answer = await self._scripts.run(
            "claim",
            self._process,
            self._nonce,
            self._lease_ms,
            self._limits.running_jobs,
            running,
            slots,
            *self._own_limits,
        )
        self._nonce = secrets.token_hex(8)
        self._draining = verdict == b"drain"
        if verdict != b"job":
            return None
        job_id, tenant, token, attempt, request_id, traceparent, created, blob, base, alone, started = answer
        return Claim(
            job_id=job_id.decode(),
            tenant=tenant.decode(),
            token=token.decode(),
            attempt=int(attempt),
            request=_request(blob),
            request_id=request_id.decode(),
            traceparent=traceparent.decode(),
            created_ms=int(created),
            base=base.decode(),
            alone=bool(alone),
            started_ms=int(started),
        )

    async def wait(self) -> None:
        """Wait for the doorbell, BLOCK_S at most. Must never be cancelled: the popped token would be lost."""
        if self._draining:  # the doorbell rings for others while we wait for our own jobs to end
            await asyncio.sleep(DRAIN_PAUSE_S)
            return
        await answered(self._doorbell.blpop([f"{self._scripts.prefix}wake"], timeout=BLOCK_S))

    async def renew(self, tokens: Mapping[str, str]) -> frozenset[str]:
        """Renew the leases of all jobs of this process in one call; gives the jobs that are no longer ours."""
        pairs = [word for pair in tokens.items() for word in pair]
        lost = await self._scripts.run("renew", self._lease_ms, self._process, self._slots, *pairs)
        return frozenset(job_id.decode() for job_id in lost)

    async def report(
        self, claim: Claim, sequence: int, figures: Figures, files: Sequence[FileResult], event: bytes
    ) -> None:
        """Write the figures and the files that changed, with their events; LeaseLostError when not ours any more.

        `sequence` rises with each report of an attempt, so a repeat after a lost answer changes nothing.
        """
        changes = [part for file in files for part in (str(file.index), file_to_json(file))]
        mine = await self._scripts.run(
            "report",
            claim.job_id,
            claim.token,
            sequence,
            figures.done,
            figures.failed,
            figures.bytes_fetched,
            "" if figures.bytes_total is None else figures.bytes_total,
            figures.progress,
            figures.current_file or "",
            fetching_to_field(figures.fetching),
            event,
            *changes,
        )
        if not mine:
            raise LeaseLostError

    async def storing(self, claim: Claim, upload_id: str, key: str) -> None:
        """Remember that the attempt is about to store something; LeaseLostError when the job is not ours any more.

        Called before anything is stored at `key` with an empty `upload_id`, and with the upload's id before its
        first part goes out.
        """
        if not await self._scripts.run("upload", claim.job_id, claim.token, upload_id, key):
            raise LeaseLostError

    async def checkpoint(self, claim: Claim, number: int, piece: bytes, *, supersedes: bool) -> None:
        """Add a piece to the attempt's checkpoint; LeaseLostError when the job is not ours any more.

        The same `number` again replaces the piece. With `supersedes` whoever comes next goes on from this attempt,
        and what the one before left is swept.
        """
        if not await self._scripts.run("checkpoint", claim.job_id, claim.token, number, piece, int(supersedes)):
            raise LeaseLostError

    async def inherited(self, claim: Claim) -> list[bytes]:
        """The pieces of the checkpoint that this attempt may go on from, in order; [] when there is none."""
        if not claim.base:
            return []
        key = f"{self._scripts.prefix}ckpt:{claim.job_id}:{claim.base}"
        pieces = await answered(self._client.hgetall(key))
        return [pieces[number] for number in sorted(pieces, key=int)]

    async def settle(self, claim: Claim, outcome: Completed | Failed, figures: Figures) -> Settlement:
        """End the attempt with its outcome, once; LOST when it was not ours any more and nothing was published.

        A transient failure queues the job again while attempts are left.
        """
        archive = outcome.archive if isinstance(outcome, Completed) else None
        failed = outcome if isinstance(outcome, Failed) else None
        again_ms = int(RETRY_DELAY_MS * random.uniform(0.75, 1.25)) if failed and failed.transient else -1
        verdict = await self._scripts.run(
            "settle",
            claim.job_id,
            claim.token,
            "failed" if failed else "completed",
            failed.message if failed else "",
            failed.code if failed else "",
            figures.done,
            figures.failed,
            figures.bytes_fetched,
            *((archive.key, archive.name, archive.size, archive.entries, archive.etag) if archive else ("",) * 5),
            self._jobs.archive_ttl_s * 1000,
            self._jobs.link_ttl_s * 1000,
            *self._ttls_ms(),
            again_ms,
            self._jobs.attempts,
            kept_folder(archive.key) if archive and archive.kept else "",
        )
        return Settlement(verdict.decode())

    async def release(self, claim: Claim) -> None:
        """Give the job back to the front of the queue without charging the attempt."""
        await self._scripts.run("release", claim.job_id, claim.token)

    async def reap(self) -> int:
        """Take back jobs whose lease has lapsed (two calls apart); gives how many."""
        return int(
            await self._scripts.run("reap", self._grace_ms, CRASHES, CRASH_DELAY_MS, *self._ttls_ms(), self._lease_ms)
        )

    async def server_run_id(self) -> str:
        """The id of this run of the Redis server; it changes when Redis restarts or fails over."""
        return str((await self._scripts.run("server")).decode())

    async def debris(self, limit: int = 100) -> list[Debris]:
        """Attempts whose leftovers in the bucket are due to be swept."""
        words = await self._scripts.run("debris", limit)
        rows = [words[i : i + 3] for i in range(0, len(words), 3)]
        return [Debris(job.decode(), token.decode(), *_upload(upload.decode())) for job, token, upload in rows]

    async def forsaken(self, job_id: str, token: str) -> Debris | None:
        """What the attempt may have left in the bucket, if nobody needs it any more; else None."""
        upload = await self._scripts.run("forsaken", job_id, token)
        return None if upload is None else Debris(job_id, token, *_upload(upload.decode()))

    async def swept(self, debris: Debris) -> None:
        """Forget leftovers that are gone."""
        member = f"{debris.job_id} {debris.token}"
        await answered(self._client.hdel(f"{self._scripts.prefix}uploads", member))
        await answered(self._client.zrem(f"{self._scripts.prefix}debris", member))

    async def expired_archives(self, limit: int = 100) -> list[str]:
        """Keys of archives, and folders (with a slash at the end) of kept files, that are due by the server's clock.

        Due is what nobody can reach any more: the archive has expired, and so have its links.
        """
        seconds, _ = await answered(self._client.time())
        keys = await answered(
            self._client.zrange(
                f"{self._scripts.prefix}expiries", "-inf", seconds * 1000, byscore=True, offset=0, num=limit
            )
        )
        return [key.decode() for key in keys]

    async def archive_gone(self, key: str) -> None:
        """Forget an archive that was deleted."""
        await self._scripts.run("gone", key)

    def _ttls_ms(self) -> tuple[int, int]:
        return self._jobs.record_ttl_s * 1000, self._jobs.retry_ttl_s * 1000


def _request(blob: bytes) -> JobRequest:
    """The request as it was taken in; one that is gone or unreadable is empty, and the job fails for it."""
    try:
        return JobRequest.from_json(blob)
    except ValidationError:
        return JobRequest((), "")


def _upload(words: str) -> tuple[str, str]:
    upload_id, _, key = words.partition(" ")
    return upload_id, key
