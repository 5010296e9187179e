"""Takes jobs and sees each attempt to its end: claim, lease, run, settle. Knows no HTTP, ZIP or S3.

One dispatcher per process claims a job only when a slot and the job's least memory are free. All leases of the process
are renewed in one call. A job that is no longer ours is stopped at once and publishes nothing; at shutdown running
jobs get a while to end and are then given back to the front of the queue.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import structlog
from pydantic_core import to_json

from downloader.config import WorkerSettings
from downloader.errors import DownloaderError, JobError, LeaseLostError, UnavailableError
from downloader.jobs import Claim, Completed, Failed, Figures, FileResult, Outcome, Settlement
from downloader.observing import SILENT, Attributes, Ending, Observer
from downloader.wire import file_to_wire
from downloader.work.budget import ByteBudget
from downloader.work.checkpoint import Ledger
from downloader.work.progress import Progress

T = TypeVar("T")

REPORT_S = 0.25
CHANGES_PER_REPORT = 500
PAUSE_S = 0.5
SILENCE_S = 15.0

log = structlog.get_logger(__name__)


class JobQueue(Protocol):
    """What a worker needs of the queue; `state/queue.py` has it in Redis."""

    async def claim(self, running: int, slots: int) -> Claim | None:
        """Take the next job for a process with so many of its slots in use."""
        ...

    async def wait(self) -> None:
        """Wait a short while for the doorbell; never cancelled."""
        ...

    async def renew(self, tokens: Mapping[str, str]) -> frozenset[str]:
        """Renew leases; gives the jobs that are lost."""
        ...

    async def report(
        self, claim: Claim, sequence: int, figures: Figures, files: Sequence[FileResult], event: bytes
    ) -> None:
        """Write figures and changed files."""
        ...

    async def storing(self, claim: Claim, upload_id: str, key: str) -> None:
        """Remember what the attempt is about to store."""
        ...

    async def checkpoint(self, claim: Claim, number: int, piece: bytes, *, supersedes: bool) -> None:
        """Keep a piece of the attempt's checkpoint."""
        ...

    async def inherited(self, claim: Claim) -> Sequence[bytes]:
        """The checkpoint that an earlier attempt left."""
        ...

    async def settle(self, claim: Claim, outcome: Completed | Failed, figures: Figures) -> Settlement:
        """End the attempt; LOST when it was not ours."""
        ...

    async def release(self, claim: Claim) -> None:
        """Give the job back uncharged."""
        ...

    async def reap(self) -> int:
        """Take back lapsed jobs."""
        ...

    async def server_run_id(self) -> str:
        """Which run of the server this is."""
        ...


RunJob = Callable[[Claim, Progress, Ledger], Awaitable[Completed]]
Tidy = Callable[[str, str], Awaitable[None]]


class Stop(enum.Enum):
    """Why an attempt is stopped before its end."""

    LOST = "lost"
    RELEASE = "release"


@dataclass(slots=True)
class _Attempt:
    claim: Claim
    progress: Progress
    ledger: _JobLedger
    task: asyncio.Task[None] | None = None
    stop: Stop | None = None
    settling: bool = False
    sequence: int = 0
    log: structlog.typing.FilteringBoundLogger = field(default_factory=structlog.get_logger)


class _Persistently(Protocol):
    async def __call__(self, call: Callable[[], Awaitable[T]]) -> T: ...


class _JobLedger:
    """The ledger of one attempt; what has to be written before something is stored waits for Redis.

    `has_stored`: the attempt may have something in the bucket.
    """

    def __init__(self, queue: JobQueue, claim: Claim, persistently: _Persistently) -> None:
        self._queue = queue
        self._claim = claim
        self._persistently = persistently
        self.has_stored = False

    async def storing(self, key: str, upload_id: str = "") -> None:
        self.has_stored = True
        await self._persistently(lambda: self._queue.storing(self._claim, upload_id, key))

    async def save(self, number: int, piece: bytes, *, supersedes: bool) -> None:
        await self._queue.checkpoint(self._claim, number, piece, supersedes=supersedes)

    async def inherited(self) -> Sequence[bytes]:
        return await self._persistently(lambda: self._queue.inherited(self._claim))


class Worker:
    """The pool of jobs of one process."""

    def __init__(
        self,
        queue: JobQueue,
        run_job: RunJob,
        tidy: Tidy,
        settings: WorkerSettings,
        *,
        memory: ByteBudget,
        job_minimum_bytes: int,
        store_available: asyncio.Event,
        observer: Observer = SILENT,
    ) -> None:
        """`tidy(job, token)` sweeps at once what an attempt left that ended without an archive.

        `store_available` is set while archives can be stored; no job is taken while it is not.
        """
        self._queue = queue
        self._tidy = tidy
        self._store_available = store_available
        self._run_job = run_job
        self._settings = settings
        self._memory = memory
        self._minimum = job_minimum_bytes
        self._observer = observer
        # A slot that the budget can never fill would only keep its bytes from the jobs that run.
        self._slots = min(settings.concurrency, memory.total_bytes // job_minimum_bytes)
        self._running: dict[str, _Attempt] = {}
        self._stopping = asyncio.Event()
        self._slot_freed = asyncio.Event()
        self._renewed = time.monotonic()
        self._claimed = time.monotonic()

    @property
    def running(self) -> int:
        """Jobs that are being worked on."""
        return len(self._running)

    @property
    def slots(self) -> int:
        """Jobs that can be worked on at once."""
        return self._slots

    async def check(self) -> None:
        """Raise UnavailableError when the dispatcher has not got through to the queue for a while."""
        silent_s = time.monotonic() - self._claimed
        if self._slots > len(self._running) and silent_s > SILENCE_S:
            raise UnavailableError("workers", f"no claim has succeeded for {silent_s:.0f} s")

    @asynccontextmanager
    async def working(self, drain_s: float) -> AsyncIterator[None]:
        """Work for as long as the block runs; at its end take no more, then release what `drain_s` does not end."""
        async with asyncio.TaskGroup() as group:
            keepers = [group.create_task(self._renew_leases()), group.create_task(self._reap())]
            dispatcher = group.create_task(self._dispatch(group)) if self._slots else None
            try:
                yield
            finally:
                self._stopping.set()
                self._slot_freed.set()
                await self._drain(drain_s)
                if dispatcher is not None:
                    await asyncio.wait([dispatcher])
                    await self._drain(0)  # a job that was just being claimed
                for keeper in keepers:
                    keeper.cancel()

    def stop_job(self, job_id: str) -> None:
        """The job has ended elsewhere (cancelled, deleted, failed): stop working on it at once."""
        attempt = self._running.get(job_id)
        if attempt is not None and not attempt.settling:
            self._stop(attempt, Stop.LOST)

    # Taking jobs

    async def _dispatch(self, group: asyncio.TaskGroup) -> None:
        while not self._stopping.is_set():
            await self._free_slot()
            await self._memory.reserve(self._minimum)
            claim = await self._next_claim()
            if claim is None:
                self._memory.release(self._minimum)
                return
            await self._end_earlier(claim.job_id)
            ledger = _JobLedger(self._queue, claim, self._persistently)
            attempt = _Attempt(claim, Progress(claim.request.sources), ledger)
            attempt.log = log.bind(job_id=claim.job_id, request_id=claim.request_id, attempt=claim.attempt)
            self._running[claim.job_id] = attempt
            attempt.task = group.create_task(self._observed(attempt))

    async def _end_earlier(self, job_id: str) -> None:
        """A process that was held up may get a job back that it still works on: only the new attempt counts."""
        self.stop_job(job_id)
        while job_id in self._running:
            self._slot_freed.clear()
            await self._slot_freed.wait()

    async def _free_slot(self) -> None:
        while self._is_full and not self._stopping.is_set():
            self._slot_freed.clear()
            await self._slot_freed.wait()

    @property
    def _is_full(self) -> bool:
        alone = any(attempt.claim.alone for attempt in self._running.values())
        return alone or len(self._running) >= self._slots

    async def _next_claim(self) -> Claim | None:
        """Claim first, then listen at the doorbell for a moment, then claim again; None once we are stopping."""
        while not self._stopping.is_set():
            if not self._store_available.is_set():
                self._claimed = time.monotonic()
                await self._pause(PAUSE_S)
                continue
            try:
                claim = await self._queue.claim(len(self._running), self._slots)
                self._claimed = time.monotonic()
                if claim is not None:
                    return claim
                await self._queue.wait()
            except UnavailableError as error:
                log.warning("worker.queue_away", reason=error.message)
                await self._pause(PAUSE_S)
        return None

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    # One attempt

    async def _observed(self, attempt: _Attempt) -> None:
        """See to the attempt's end, for all who watch: one span below the call that made the job, and the figures."""
        claim, began = attempt.claim, time.monotonic()
        if claim.attempt == 1:
            self._observer.meter.job_taken(max(0, claim.started_ms - claim.created_ms) / 1000)
        attributes: Attributes = {
            "downloader.job.id": claim.job_id,
            "downloader.job.attempt": claim.attempt,
            "downloader.job.files": len(claim.request.sources),
        }
        with self._observer.tracer.span("job", attributes, kind="consumer", parent=claim.traceparent) as span:
            ending = await self._see_to_its_end(attempt)
            span.note("downloader.job.outcome", ending)
            if ending in {"failed", "retried"}:
                span.fail(ending)
        self._observer.meter.job_ended(ending, time.monotonic() - began)

    async def _see_to_its_end(self, attempt: _Attempt) -> Ending:
        """Run the job, then say what came of it; whatever happens, the slot and the memory are free afterwards."""
        attempt.log.info("job.started", files=len(attempt.claim.request.sources))
        ending: Ending = "stopped"
        stored = False
        try:
            outcome = await self._outcome(attempt)
            if outcome is not None:
                settlement = await self._settle(attempt, outcome)
                ending = _ending(outcome, settlement)
                stored = settlement is not Settlement.LOST and isinstance(outcome, Completed)
            elif attempt.stop is Stop.RELEASE:
                ending = "released"
                await self._release(attempt)
        finally:
            del self._running[attempt.claim.job_id]
            self._memory.release(self._minimum)
            self._slot_freed.set()
        if attempt.ledger.has_stored and not stored and not self._stopping.is_set():
            try:
                await self._tidy(attempt.claim.job_id, attempt.claim.token)
            except Exception:  # the rim: what is not swept now is swept later; other jobs must not die of it
                attempt.log.exception("job.tidy_failed")
        return ending

    async def _outcome(self, attempt: _Attempt) -> Outcome | None:
        """The job's outcome, or None when the attempt was stopped."""
        try:
            return await self._work(attempt)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if attempt.stop is None or task is None:
                raise
            task.uncancel()
        except LeaseLostError:
            attempt.stop = Stop.LOST
        attempt.log.info("job.stopped", why=attempt.stop.value)
        return None

    async def _work(self, attempt: _Attempt) -> Outcome:
        reporter = asyncio.create_task(self._report_while_running(attempt))
        try:
            return await self._run_job(attempt.claim, attempt.progress, attempt.ledger)
        except UnavailableError as error:
            return Failed(error.code, error.message, transient=True)
        except JobError as error:
            return Failed(error.code, error.message, transient=error.transient)
        except (DownloaderError, asyncio.CancelledError):
            raise
        except Exception:  # the rim: a fault of ours must end as a failed job, not as a dead process
            attempt.log.exception("job.crashed")
            return Failed("internal", "The job failed by a fault of the service.", transient=True)
        finally:
            reporter.cancel()
            await asyncio.gather(reporter, return_exceptions=True)

    async def _report_while_running(self, attempt: _Attempt) -> None:
        """Tell the figures at once when they change, and at most every REPORT_S."""
        while True:
            await attempt.progress.changed.wait()
            try:
                await self._report(attempt)
            except UnavailableError as error:
                attempt.log.warning("job.report_failed", reason=error.message)
            except LeaseLostError:
                self._stop(attempt, Stop.LOST)
                return
            await asyncio.sleep(REPORT_S)

    async def _report(self, attempt: _Attempt) -> None:
        progress = attempt.progress
        progress.changed.clear()
        files = progress.take_changes(CHANGES_PER_REPORT)
        event = to_json([file_to_wire(file) for file in files]) if files else b""
        attempt.sequence += 1
        try:
            await self._queue.report(attempt.claim, attempt.sequence, progress.figures(), files, event)
        except (UnavailableError, asyncio.CancelledError):
            progress.put_back(files)  # told again with the next report
            raise
        if progress.untold:
            progress.changed.set()

    async def _settle(self, attempt: _Attempt, outcome: Outcome) -> Settlement | None:
        """Tell what is untold, then the outcome; while Redis is away, for as long as a lease lasts.

        None when nobody knows whether the outcome is the job's.
        """
        attempt.settling = True
        try:
            with self._observer.tracer.span("settle"):
                while attempt.progress.untold:
                    await self._persistently(lambda: self._report(attempt))
                figures = attempt.progress.figures()
                mine = await self._persistently(lambda: self._queue.settle(attempt.claim, outcome, figures))
        except LeaseLostError:
            mine = Settlement.LOST
        except UnavailableError as error:
            attempt.log.error("job.settle_failed", reason=error.message)  # noqa: TRY400 - the reason says it all
            return None
        if isinstance(outcome, Completed):
            attempt.log.info("job.completed" if mine else "job.too_late", done=outcome.done, failed=outcome.failed)
        else:
            attempt.log.warning("job.failed" if mine else "job.too_late", code=outcome.code, reason=outcome.message)
        return mine

    async def _release(self, attempt: _Attempt) -> None:
        try:
            await self._queue.release(attempt.claim)
        except UnavailableError as error:
            attempt.log.warning("job.release_failed", reason=error.message)

    async def _persistently(self, call: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await call()
            except UnavailableError:
                if self._lease_over():
                    raise
                await asyncio.sleep(PAUSE_S)

    # Keeping what we have

    async def _renew_leases(self) -> None:
        """Renew all leases in one call; after an outage longer than a lease nothing is ours any more."""
        while True:
            await asyncio.sleep(self._settings.renew_s)
            tokens = {job_id: attempt.claim.token for job_id, attempt in self._running.items()}
            began = time.monotonic()
            try:
                lost = await self._queue.renew(tokens)
            except UnavailableError as error:
                log.warning("worker.renewal_failed", reason=error.message)
                lost = frozenset(tokens) if self._lease_over() else frozenset()
            else:
                self._renewed = began
            for job_id in lost:
                self.stop_job(job_id)

    def _lease_over(self) -> bool:
        return time.monotonic() - self._renewed > self._settings.lease_s

    def _stop(self, attempt: _Attempt, why: Stop) -> None:
        if attempt.stop is None and attempt.task is not None:
            attempt.stop = why
            attempt.task.cancel()

    async def _reap(self) -> None:
        """Look for lapsed jobs; not for one lease after Redis restarted, since none could be renewed meanwhile."""
        run_id, since = "", time.monotonic()
        while True:
            await asyncio.sleep(self._settings.reap_s)
            try:
                current = await self._queue.server_run_id()
                if current != run_id:
                    run_id, since = current, time.monotonic() if run_id else since - self._settings.lease_s
                if time.monotonic() - since >= self._settings.lease_s and (taken := await self._queue.reap()):
                    log.warning("worker.reaped", jobs=taken)
            except UnavailableError as error:
                log.debug("worker.reap_failed", reason=error.message)

    async def _drain(self, drain_s: float) -> None:
        tasks = [attempt.task for attempt in self._running.values() if attempt.task is not None]
        if not tasks:
            return
        log.info("worker.draining", jobs=len(tasks), drain_s=drain_s)
        if drain_s:
            await asyncio.wait(tasks, timeout=drain_s)
        for attempt in list(self._running.values()):
            if not attempt.settling:
                self._stop(attempt, Stop.RELEASE)
        await asyncio.wait(tasks)


def _ending(outcome: Outcome, settlement: Settlement | None) -> Ending:
    match settlement:
        case None:
            return "unsettled"
        case Settlement.LOST:
            return "stopped"
        case Settlement.AGAIN:
            return "retried"
        case Settlement.DONE:
            return "completed" if isinstance(outcome, Completed) else "failed"
