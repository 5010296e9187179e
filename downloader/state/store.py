"""What the web side asks of the memory: take a job in, show it, end it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ResponseError

from downloader.config import JobsSettings, LimitsSettings, RedisSettings, WorkerSettings
from downloader.errors import RateLimitedError, RequestError, UnavailableError
from downloader.events import JobEvent, event_from_fields, event_order
from downloader.jobs import FileResult, JobRecord, JobRequest
from downloader.state.budgets import Charge
from downloader.state.client import Client, answered, translated
from downloader.state.hooks import Callbacks, receiver_of
from downloader.state.records import PAGE_FILES, KeptRequest, files_from_fields, record_from_fields, wire_from_fields
from downloader.state.scripts import Scripts
from downloader.wire import FileObject

IDEMPOTENCY_TTL_MS = 24 * 3600 * 1000
TOMBSTONE_TTL_MS = 60_000
DURABLE_WAIT_MS = 2000
MAINTENANCE_RETRY_S = 60
# Room becomes free when an archive expires or is deleted; when that will be is not worth a look at all of them.
STORED_RETRY_S = 300
# Of a large job each may have a few hundred KiB.
HISTORY_EVENTS = 20


@dataclass(frozen=True, slots=True)
class Order:
    """A job to take in; `fingerprint` is a digest of the request, to tell an honest repeat from another body.

    `address` is what a caller without a key is counted by, "" for one with a key. `kept` is the request as it is kept,
    for who has encoded it already.
    """

    job_id: str
    tenant: str
    request: JobRequest
    total_file_ids: int
    request_id: str
    traceparent: str = ""
    idempotency_key: str | None = None
    fingerprint: bytes = b""
    address: str = ""
    kept: KeptRequest | None = None


@dataclass(frozen=True, slots=True)
class Enqueued:
    """The job that was taken in, or with `replayed` the one that an earlier call with the same key made.

    `created_ms` is by the clock of the Redis server. `charge` is None for a repeat, which costs nothing.
    """

    job_id: str
    total_files: int
    total_file_ids: int
    created_ms: int
    replayed: bool
    charge: Charge | None = None


@dataclass(frozen=True, slots=True)
class History:
    """A job and its events after a given id, read in one step; `events` is None when the id is not in the stream.

    `more`: these are not all of them, and the record is ahead of them.
    """

    record: JobRecord | None
    events: tuple[JobEvent, ...] | None
    more: bool = False


class Store:
    """Job records in Redis. Every method raises UnavailableError while Redis is away."""

    def __init__(
        self,
        client: Client,
        scripts: Scripts,
        redis: RedisSettings,
        jobs: JobsSettings,
        limits: LimitsSettings,
        worker: WorkerSettings,
    ) -> None:
        self._client = client
        self._scripts = scripts
        self._jobs = jobs
        self._limits = limits
        self._lease_ms = int(worker.lease_s * 1000)
        self._durable_ack = redis.durable_ack
        self.callbacks = Callbacks(client, scripts)

    async def enqueue(self, order: Order) -> Enqueued:
        """Take a job in, once: the same order again, or the same idempotency key, gives the same job.

        Raises RequestError: `queue_full`, `rate_limited` or `quota_exceeded` (with retry_after_s), `maintenance`,
        `idempotency_mismatch` when the key was used with another request.
        """
        args = self._enqueue_arguments(order)
        answer = await (self._enqueue_durably(args) if self._durable_ack else self._scripts.run("enqueue", *args))
        verdict, detail = answer[0].decode(), answer[1].decode()
        told, charged = answer[2:]
        _refuse(verdict, detail, charged)
        total, ids, created_ms, gone = told
        if gone is not None:
            raise UnavailableError("redis", "the job was deleted while it was being read")
        return Enqueued(detail, int(total), int(ids), int(created_ms), verdict == "replayed", Charge.of(charged))

    def _enqueue_arguments(self, order: Order) -> tuple[Any, ...]:
        request, limits = order.request, self._limits.of(order.tenant)
        kept = order.kept or KeptRequest.of(request)
        counted = bool(order.address and limits.address_initiate_per_minute)
        return (
            order.job_id,
            order.tenant,
            len(request.sources),
            order.total_file_ids,
            order.request_id,
            order.traceparent,
            request.archive_name,
            kept.blob,
            _hidden(order.idempotency_key),
            order.fingerprint,
            IDEMPOTENCY_TTL_MS,
            limits.queued_jobs,
            limits.initiate_per_minute,
            self._jobs.record_ttl_s * 1000,
            f"initiate:@{order.address}" if counted else "",
            limits.address_initiate_per_minute,
            limits.day_files,
            limits.day_bytes,
            limits.stored_bytes,
            receiver_of(order.tenant, request.callback_url),
            *kept.pages,
        )

    async def _enqueue_durably(self, args: tuple[Any, ...]) -> Any:
        """Enqueue and wait on the same connection until the append-only file is on disk (WAITAOF)."""
        with translated():
            async with self._client.client() as connection:
                answer = await self._scripts.run("enqueue", *args, client=connection)
                wait: Any = connection.execute_command  # redis-py has no types for it
                synced = await wait("WAITAOF", 1, 0, DURABLE_WAIT_MS)
        if not synced or int(synced[0]) < 1:
            raise UnavailableError("redis", "the job could not be confirmed on disk in time; repeat the call")
        return answer

    async def record(self, tenant: str, job_id: str) -> JobRecord | None:
        """The tenant's job, or None when there is none by this id."""
        fields = await answered(self._client.hgetall(self._key("job", job_id)))
        if fields.get(b"tenant") != tenant.encode():
            return None
        position = None
        if fields[b"state"] == b"queued":
            rank = await answered(self._client.lpos(self._key("ready", tenant), job_id))
            position = rank + 1 if isinstance(rank, int) else None
        return record_from_fields(job_id, fields, position)

    async def tenant_of(self, job_id: str) -> str | None:
        """Whose job this is; None when there is none by this id."""
        tenant = await answered(self._client.hget(self._key("job", job_id), "tenant"))
        return None if tenant is None else str(tenant.decode())

    async def files(self, job_id: str, *, after: int, limit: int) -> list[FileResult]:
        """Up to `limit` files from index `after` on; [] past the end. The caller has checked the tenant."""
        return files_from_fields(after, after + limit, *await self._file_fields(job_id, after, limit))

    async def wire_files(self, job_id: str, *, after: int, limit: int) -> AsyncIterator[list[FileObject]]:
        """The same files in their wire form, some at a time; between them the event loop has its turn."""
        for page in wire_from_fields(after, after + limit, *await self._file_fields(job_id, after, limit)):
            yield page
            await asyncio.sleep(0)

    async def _file_fields(self, job_id: str, after: int, limit: int) -> tuple[dict[int, bytes], dict[int, bytes]]:
        """The pages that these files are on, by number, and what became of the files since, by index."""
        indexes = range(after, after + limit)
        pages = range(after // PAGE_FILES, (after + limit - 1) // PAGE_FILES + 1)
        names = [f"s{page}" for page in pages] + [str(index) for index in indexes]
        values = await answered(self._client.hmget(self._key("files", job_id), names))
        found = {page: value for page, value in zip(pages, values, strict=False) if value is not None}
        rest = values[len(pages) :]
        return found, {index: value for index, value in zip(indexes, rest, strict=True) if value is not None}

    async def request(self, tenant: str, job_id: str) -> JobRequest | None:
        """What the tenant's job was asked for; None when that is no longer kept."""
        if await self.record(tenant, job_id) is None:
            return None
        blob = await answered(self._client.get(self._key("req", job_id)))
        return JobRequest.from_json(blob) if blob else None

    async def history(self, tenant: str, job_id: str, after_id: str | None) -> History:
        """The job and what happened since `after_id`, HISTORY_EVENTS at most, in one step; without an id just the job.

        `events` is None when the id is malformed, was trimmed or never was one of this job's.
        """
        stream = self._key("ev", job_id)
        known = bool(after_id and event_order(after_id))
        with translated():
            async with self._client.pipeline(transaction=True) as pipeline:
                pipe: Any = pipeline  # its calls only queue, though their types say they must be awaited
                pipe.hgetall(self._key("job", job_id))
                if known:
                    pipe.xrange(stream, after_id or "-", after_id or "-", count=1)
                    pipe.xrange(stream, f"({after_id}", "+", count=HISTORY_EVENTS)
                try:
                    answers = await pipe.execute()
                except ResponseError:  # a number beyond 64 bits: not one of ours
                    known = False
                    answers = [await self._client.hgetall(self._key("job", job_id))]
        fields = answers[0]
        if fields.get(b"tenant") != tenant.encode():
            return History(None, None)
        record = record_from_fields(job_id, fields, None)
        if record is None or not known or not answers[1]:
            return History(record, None)
        events = tuple(event_from_fields(key.decode(), entry) for key, entry in answers[2])
        return History(record, events, more=len(events) == HISTORY_EVENTS)

    async def cancel(self, tenant: str, job_id: str) -> JobRecord | None:
        """End the tenant's job if it is active; gives the job as it is then, None when there is none."""
        if await self.record(tenant, job_id) is None:
            return None
        await self._scripts.run("cancel", job_id, *self._ttls_ms(), self._lease_ms)
        return await self.record(tenant, job_id)

    async def delete(self, tenant: str, job_id: str) -> None:
        """End the tenant's job and forget it: its request at once, its archive with the next sweep; idempotent."""
        if await self.cancel(tenant, job_id) is not None:
            await self._scripts.run("delete", job_id, TOMBSTONE_TTL_MS)

    async def ping(self) -> None:
        """Find out whether Redis answers."""
        await answered(self._client.ping())

    def _key(self, kind: str, name: str) -> str:
        return f"{self._scripts.prefix}{kind}:{name}"

    def _ttls_ms(self) -> tuple[int, int]:
        return self._jobs.record_ttl_s * 1000, self._jobs.retry_ttl_s * 1000


def _hidden(idempotency_key: str | None) -> str:
    """What stands for an idempotency key in the names of keys: callers may put anything into theirs. "" for none."""
    return hashlib.sha256(idempotency_key.encode()).hexdigest() if idempotency_key else ""


def _refuse(verdict: str, detail: str, charged: Sequence[int]) -> None:
    """Raise what a refusal means; nothing for an order that was taken."""
    match verdict:
        case "mismatch":
            reason = f"This Idempotency-Key made job {detail} from another body; use a new key for a new request."
            raise RequestError("idempotency_mismatch", reason)
        case "maintenance":
            raise RequestError("maintenance", detail, retry_after_s=MAINTENANCE_RETRY_S)
        case "full":
            reason = "Too many jobs are waiting (limits.queued_jobs); try again later."
            raise RequestError("queue_full", reason, retry_after_s=int(detail))
        case "files" | "bytes":
            reason = f"What is left of this day's {verdict} (UTC) is not enough for this job (limits.day_{verdict})."
            raise RequestError("quota_exceeded", reason, retry_after_s=int(detail))
        case "stored":
            reason = (
                f"Archives of {detail} bytes are stored, the most that is allowed (limits.stored_bytes);"
                " delete finished jobs, or wait until their archives expire."
            )
            raise RequestError("quota_exceeded", reason, retry_after_s=STORED_RETRY_S)
        case "rate":
            setting = ("initiate_per_minute", "address_initiate_per_minute")[int(charged[4]) - 1]
            raise RateLimitedError("new jobs", int(charged[1]), int(detail), setting)
        case _:
            return
