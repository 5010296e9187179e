"""What the memory of jobs should be after each call, in plain Python: the judge of the Lua scripts.

It is told in the design's words and keeps to them where it can: debris, for one, is not moved about but follows from
what was announced and who still needs it. Where the design leaves a choice (whose turn it is among tenants that wait
equally long, how long exactly a delay is) the model allows a set or a range and goes on from what was chosen.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from dataclasses import dataclass, field, replace

from downloader.config import Settings
from downloader.errors import RequestError
from downloader.jobs import TERMINAL, Archive, Figures, JobState
from downloader.state.hooks import receiver_of
from downloader.state.store import Order
from tests.hookmodel import HookModel

SUSPECT_CRASHES = 2
CRASHES_ALLOWED = 3
CRASH_DELAY_MS = 1000
RETRY_DELAY_MS = (1500, 2500)

Attempt = tuple[str, str]  # job, token
Range = tuple[int, int]  # the earliest and the latest, in ms


class Place(enum.Enum):
    """Where a job can be found; always in exactly one place."""

    READY = "ready"
    ALONE = "alone"
    DELAYED = "delayed"
    LEASES = "leases"
    ENDED = "ended"


@dataclass(slots=True)
class ModelJob:
    """One job as it should be; `token` is the running attempt's, `settled_by` that of the attempt that ended it."""

    job_id: str
    tenant: str
    created: int
    state: JobState = JobState.QUEUED
    attempt: int = 0
    crashes: int = 0
    failures: int = 0
    total: int = 0
    token: str = ""
    base: str = ""
    settled_by: str = ""
    sequence: int = 0
    progress: int = 0
    figures: Figures = field(default_factory=Figures)
    files: dict[str, str] = field(default_factory=dict)
    code: str = ""
    archive_key: str = ""
    events: int = 1
    kept: bool = False
    gone: bool = False
    tellings: int = 0

    @property
    def suspect(self) -> bool:
        """True for a job that took down so many workers that it runs alone."""
        return self.crashes >= SUSPECT_CRASHES

    @property
    def active(self) -> bool:
        """True until the job has ended."""
        return self.state not in TERMINAL


@dataclass(frozen=True, slots=True)
class Offer:
    """What a claim may be answered with: one of `jobs`, nothing when there are none, or the wish to be idle first."""

    jobs: frozenset[str] = frozenset()
    drain: bool = False


class Model:
    """All jobs, the queue and the leftovers; time stands still but for `now`."""

    def __init__(self, settings: Settings, now: int) -> None:
        self.now = now
        self.jobs: dict[str, ModelJob] = {}
        self.ready: defaultdict[str, list[str]] = defaultdict(list)
        self.alone: list[str] = []
        self.delayed: dict[str, Range] = {}
        self.leases: dict[str, int] = {}
        self.marks: dict[str, tuple[str, int]] = {}
        self.drainer = ""
        self.announced: dict[Attempt, tuple[str, str]] = {}
        self.pieces: dict[Attempt, dict[int, str]] = {}
        self.debris: dict[Attempt, Range] = {}
        self.expiries: dict[str, int] = {}
        self.hooks = HookModel()
        self.ever_announced: set[Attempt] = set()
        self.published: set[Attempt] = set()
        self.swept_away: set[Attempt] = set()
        self.lease_ms = int(settings.worker.lease_s * 1000)
        self.grace_ms = int(settings.worker.reap_s * 500)
        self.cap = settings.limits.running_jobs
        self._limits = settings.limits
        self._jobs = settings.jobs
        self._slots: dict[str, tuple[int, int]] = {}
        self._turn = 0
        self._served: dict[str, int] = {}
        self._waiting_since: dict[str, int] = {}
        self._keys: dict[tuple[str, str], Order] = {}
        self._taken_in: defaultdict[tuple[str, int], int] = defaultdict(int)

    # Taking in

    def enqueue(self, order: Order) -> tuple[ModelJob, bool]:
        """The job the order made, now or before, and whether its key was used before; RequestError when refused."""
        if order.job_id in self.jobs:
            return self.jobs[order.job_id], False
        key = (order.tenant, order.idempotency_key or "")
        first = self._keys.get(key) if key[1] else None
        if first is not None and not self.jobs[first.job_id].gone:
            if first.fingerprint != order.fingerprint:
                raise RequestError("idempotency_mismatch", first.job_id)
            return self.jobs[first.job_id], True
        self._refuse_too_many(order.tenant)
        self._keys[key] = order
        job = self.jobs[order.job_id] = ModelJob(order.job_id, order.tenant, self.now)
        job.total = len(order.request.sources)
        self.hooks.expect(job.job_id, receiver_of(order.tenant, order.request.callback_url))
        self._make_ready(job)
        return job, False

    def _refuse_too_many(self, tenant: str) -> None:
        # Those that wait for their next attempt have been taken in before and do not count.
        if len(self.ready[tenant]) >= self._limits.queued_jobs:
            raise RequestError("queue_full", tenant)
        minute = (tenant, self.now // 60_000)
        if self._taken_in[minute] >= self._limits.initiate_per_minute:
            raise RequestError("rate_limited", tenant)
        self._taken_in[minute] += 1

    def _make_ready(self, job: ModelJob, *, front: bool = False) -> None:
        queue = self.alone if job.suspect else self.ready[job.tenant]
        if not job.suspect and not queue:
            self._waiting_since[job.tenant] = self._turn
        queue.insert(0 if front else len(queue), job.job_id)

    # Claiming

    def offer(self, process: str, running: int, slots: int) -> Offer:
        """What a new claim of the process may be answered with."""
        self.note_slots(process, slots)
        self._come_due()
        if suspect := next((job for job in self.alone if self._below(self.cap, self.jobs[job].tenant)), None):
            if not running:
                return Offer(frozenset({suspect}))
            if self.drainer in {"", process}:
                self.drainer = process
                return Offer(drain=True)
        return Offer(frozenset(self.ready[tenant][0] for tenant in self._next_tenants()))

    def note_slots(self, process: str, slots: int) -> None:
        """The process lives, for a lease."""
        self._slots[process] = (slots, self.now + self.lease_ms)

    def _come_due(self) -> None:
        due = sorted((latest, job) for job, (_, latest) in self.delayed.items() if latest <= self.now)
        for _, job in due:
            del self.delayed[job]
            self._make_ready(self.jobs[job])

    def running(self, tenant: str) -> set[str]:
        """The tenant's jobs that are worked on."""
        return {job for job in self.leases if self.jobs[job].tenant == tenant}

    def _below(self, most: int, tenant: str) -> bool:
        return len(self.running(tenant)) < most

    def _share(self) -> int:
        live = sum(slots for slots, until in self._slots.values() if until > self.now)
        return max(1, live * 3 // 4)

    def _next_tenants(self) -> set[str]:
        """Whose turn it may be: below the share while others wait, else below the cap; nobody is passed over twice."""
        waiting = {tenant for tenant, jobs in self.ready.items() if jobs}
        able = {tenant for tenant in waiting if self._below(self.cap, tenant)}
        if len(waiting) > 1:
            able = {tenant for tenant in able if self._below(self._share(), tenant)} or able
        longest = min((self._waiting_since[tenant] for tenant in able), default=0)
        return {tenant for tenant in able if self._served.get(tenant, 0) <= longest}

    def take(self, job_id: str, token: str) -> ModelJob:
        """The attempt that a claim began; `job_id` is one of its offer."""
        job = self.jobs[job_id]
        if job.suspect:
            self.alone.remove(job_id)
            self.drainer = ""
        else:
            self.ready[job.tenant].remove(job_id)
            self._turn += 1
            self._served[job.tenant] = self._waiting_since[job.tenant] = self._turn
        job.state, job.token, job.attempt = JobState.PROCESSING, token, job.attempt + 1
        job.sequence, job.events = 0, job.events + 1
        if not job.kept:
            job.progress, job.figures = 0, Figures()
        job.kept = False
        self.leases[job_id] = self.now + self.lease_ms
        return job

    # An attempt's own calls

    def owns(self, job_id: str, token: str) -> bool:
        """True while the token is that of the job's running attempt."""
        job = self.jobs.get(job_id)
        return job is not None and job.state is JobState.PROCESSING and job.token == token

    def renew(self, tokens: dict[str, str]) -> set[str]:
        """The jobs that are no longer the caller's."""
        for job_id, token in tokens.items():
            if self.owns(job_id, token):
                self.leases[job_id] = self.now + self.lease_ms
                self.marks.pop(job_id, None)
        return {job_id for job_id, token in tokens.items() if not self.owns(job_id, token)}

    def report(self, attempt: Attempt, sequence: int, figures: Figures, files: dict[str, str]) -> bool:
        """New figures and files, once for each sequence number; figures never fall."""
        if not self.owns(*attempt):
            return False
        job = self.jobs[attempt[0]]
        if sequence > job.sequence:
            job.sequence, job.figures = sequence, _risen(job, figures)
            job.progress = min(99, max(job.progress, figures.progress))
            job.files |= files
            job.events += 2 if files else 1
        return True

    def storing(self, attempt: Attempt, upload_id: str, key: str) -> bool:
        """Announce what will be stored."""
        if not self.owns(*attempt):
            return False
        self.announced[attempt] = (upload_id, key)
        self.ever_announced.add(attempt)
        return True

    def checkpoint(self, attempt: Attempt, number: int, piece: str, *, supersedes: bool) -> bool:
        """Keep a piece; with `supersedes` the attempt becomes what the next one goes on from."""
        if not self.owns(*attempt):
            return False
        self.pieces.setdefault(attempt, {})[number] = piece
        if supersedes:
            self.jobs[attempt[0]].base = attempt[1]
        self._account()
        return True

    def inherited(self, job_id: str, base: str) -> list[str]:
        """The pieces that an attempt with this base finds."""
        pieces = self.pieces.get((job_id, base), {})
        return [pieces[number] for number in sorted(pieces)]

    # Ends of an attempt

    def complete(self, attempt: Attempt, archive: Archive, figures: Figures) -> bool:
        """The attempt made the archive; False when it was not the job's any more."""
        if not self.owns(*attempt):
            return self.jobs[attempt[0]].settled_by == attempt[1]
        job = self.jobs[attempt[0]]
        if self.announced.pop(attempt, None):
            self.published.add(attempt)
        job.progress, job.archive_key = 100, archive.key
        self.expiries[archive.key] = self.now + (self._jobs.archive_ttl_s + self._jobs.link_ttl_s) * 1000
        self._settle(job, JobState.COMPLETED, figures)
        return True

    def fail(self, attempt: Attempt, code: str, figures: Figures, *, transient: bool) -> bool:
        """The attempt failed: another one follows if that may help and failures are left."""
        if not self.owns(*attempt):
            return self.jobs[attempt[0]].settled_by == attempt[1]
        job = self.jobs[attempt[0]]
        job.failures += 1
        if transient and job.failures < self._jobs.attempts:
            earliest, latest = (delay * 2 ** (job.failures - 1) for delay in RETRY_DELAY_MS)
            self._queue_again(job)
            self.delayed[job.job_id] = (self.now + earliest, self.now + latest)
            self._account()
        else:
            job.code = code
            self._settle(job, JobState.FAILED, figures)
        return True

    def _settle(self, job: ModelJob, state: JobState, figures: Figures) -> None:
        job.settled_by, job.figures = job.token, figures
        self._end(job, state)
        self._account()

    def release(self, attempt: Attempt) -> None:
        """Back to the front of the queue, the attempt not charged; so its figures must not fall either."""
        if not self.owns(*attempt):
            return
        job = self.jobs[attempt[0]]
        self._queue_again(job)
        job.attempt, job.kept = job.attempt - 1, True
        self._make_ready(job, front=True)
        self._account()

    def _queue_again(self, job: ModelJob) -> None:
        self._leave(job)
        job.state, job.files, job.events = JobState.QUEUED, {}, job.events + 1

    def _end(self, job: ModelJob, state: JobState) -> None:
        self._leave(job)
        job.state, job.base, job.events = state, "", job.events + 1
        self.hooks.ended(job.job_id, self.now)

    def _leave(self, job: ModelJob) -> None:
        self.leases.pop(job.job_id, None)
        self.marks.pop(job.job_id, None)
        self.delayed.pop(job.job_id, None)
        for queue in (self.alone, self.ready[job.tenant]):
            if job.job_id in queue:
                queue.remove(job.job_id)
        job.token, job.figures = "", replace(job.figures, current_file=None)

    # Ends from outside

    def cancel(self, tenant: str, job_id: str) -> ModelJob | None:
        """End the tenant's job if it is active."""
        job = self.jobs.get(job_id)
        if job is None or job.tenant != tenant or job.gone:
            return None
        if job.active:
            ended = (job_id, job.token)
            job.code = "cancelled"
            self._end(job, JobState.CANCELLED)
            self._account(unaware=ended)
        return job

    def delete(self, tenant: str, job_id: str) -> None:
        """End the tenant's job and forget it; its archive is due at once."""
        job = self.cancel(tenant, job_id)
        if job is None:
            return
        job.gone, job.files = True, {}
        self.hooks.forget(job_id)
        if job.archive_key:
            self.expiries[job.archive_key] = self.now

    def reap(self) -> int:
        """Mark lapsed leases, and take back jobs whose lease was seen lapsed a while ago and still is."""
        lapsed = [job for job, until in self.leases.items() if until <= self.now]
        due = [job for job in lapsed if job in self.marks and self.now - self.marks[job][1] >= self.grace_ms]
        for job in lapsed:
            self.marks.setdefault(job, (self.jobs[job].token, self.now))
        for job in due:
            self._crash(self.jobs[job])
        return len(due)

    def _crash(self, job: ModelJob) -> None:
        ended = (job.job_id, job.token)
        job.crashes += 1
        if job.crashes >= CRASHES_ALLOWED:
            job.code = "worker_lost"
            self._end(job, JobState.FAILED)
        else:
            self._queue_again(job)
            due = self.now + CRASH_DELAY_MS * job.crashes
            self.delayed[job.job_id] = (due, due)
        self._account(unaware=ended)

    # Leftovers

    def needed(self, attempt: Attempt) -> bool:
        """True while what the attempt stored is of use: to itself, or to the next one."""
        job = self.jobs[attempt[0]]
        return self.owns(*attempt) or (job.active and job.base == attempt[1])

    def _account(self, unaware: Attempt | None = None) -> None:
        """Give up what nobody needs any more.

        An attempt that was ended from outside does not know it yet and may store more for up to a lease.
        """
        for attempt in [attempt for attempt in self.pieces if not self.needed(attempt)]:
            del self.pieces[attempt]
        for attempt in self.announced:
            if attempt in self.debris or self.needed(attempt):
                continue
            latest = self.now + (self.lease_ms if unaware else 0)
            self.debris[attempt] = (latest if attempt == unaware else self.now, latest)

    def due_debris(self) -> dict[Attempt, tuple[str, str]]:
        """What is to be swept now."""
        return {attempt: self.announced[attempt] for attempt, (due, _) in self.debris.items() if due <= self.now}

    def forsaken(self, attempt: Attempt) -> tuple[str, str] | None:
        """What the attempt may have left, known or not, unless it is needed or the archive."""
        job = self.jobs[attempt[0]]
        archive = job.state is JobState.COMPLETED and job.settled_by == attempt[1]
        return None if archive or self.needed(attempt) else self.announced.get(attempt, ("", ""))

    def swept(self, attempt: Attempt) -> None:
        """The leftovers are gone."""
        if self.announced.pop(attempt, None):
            self.swept_away.add(attempt)
        self.debris.pop(attempt, None)

    def expired_archives(self) -> set[str]:
        """Archives whose time is over; looked at by the whole second, as they may stay a little longer."""
        return {key for key, due in self.expiries.items() if due <= self.now // 1000 * 1000}

    # What can be seen

    def place(self, job: ModelJob) -> Place:
        """Where the job is to be found."""
        if not job.active:
            return Place.ENDED
        if job.job_id in self.leases:
            return Place.LEASES
        if job.job_id in self.delayed:
            return Place.DELAYED
        return Place.ALONE if job.job_id in self.alone else Place.READY

    def position(self, job: ModelJob) -> int | None:
        """The job's place in its tenant's queue, from 1."""
        queue = self.ready[job.tenant]
        return queue.index(job.job_id) + 1 if job.job_id in queue else None


def _risen(job: ModelJob, figures: Figures) -> Figures:
    """The figures after a report; what was done or failed before may have come out the other way round."""
    done = max(job.figures.done, figures.done)
    return replace(
        figures,
        done=done,
        failed=min(max(job.figures.failed, figures.failed), job.total - done),
        bytes_fetched=max(job.figures.bytes_fetched, figures.bytes_fetched),
    )
