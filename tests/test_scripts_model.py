"""The Lua scripts against the model of `scriptmodel.py`: any calls in any order, by several processes.

The scripts run as they are but for the one line that asks for the time, which is swapped for one that reads it from a
key, so that leases lapse without waiting and clocks go back. What Redis ages by itself (PEXPIRE) is only seen to have
a time to live at all.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, assume
from hypothesis import settings as profile
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis import Redis as SyncClient
from redis.asyncio import Redis as RedisClient

from downloader.callbacks import Attempt as Try
from downloader.callbacks import CallbackState, DueCallback
from downloader.config import Settings
from downloader.errors import LeaseLostError, RequestError, UnavailableError
from downloader.jobs import (
    Archive,
    Claim,
    Completed,
    Failed,
    Figures,
    FileResult,
    FileStatus,
    JobRequest,
    JobState,
    Source,
)
from downloader.state.client import Client, connect
from downloader.state.hooks import Hooks, receiver_of
from downloader.state.queue import Debris, Queue
from downloader.state.records import file_to_json
from downloader.state.scripts import NAMES, Argument, Scripts, source_of
from downloader.state.store import Enqueued, Order, Store
from tests.conftest import LASTING
from tests.scriptmodel import CRASH_DELAY_MS, RETRY_DELAY_MS, Attempt, Model, ModelJob, Place
from tests.servers import Redis

T = TypeVar("T")

# Small numbers, so that caps, budgets and shares are met within a few steps.
SETTINGS = Settings.model_validate(
    {
        "worker": {"lease_s": 30, "renew_s": 10, "reap_s": 2},
        "limits": {"running_jobs": 4, "queued_jobs": 5, "initiate_per_minute": 10},
        "jobs": {"attempts": 3, "archive_ttl_s": 60, "link_ttl_s": 10},
    }
)
LEASE_MS, GRACE_MS = 30_000, 1000
HOOK_LEASE_MS = 12_000
SLOTS = (1, 2, 2)
TENANTS = ("amber", "birch", "cedar")
START_MS = 1_700_000_000_000
SNAPSHOT = "state progress done failed total bytes btotal current attempt err ecode akey aname aexp".split()
OF_A_JOB = frozenset("job req files ev ckpt".split())
OF_ACTIVE_JOBS = frozenset("ready running alone".split())

TIME_LINE = "local time = redis.call('TIME')\n"
STEERED_LINE = "local time = {string.match(redis.call('GET', P .. 'now'), '^(%d+) (%d+)$')}\n"

LOOK = """
local found = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
  local kind, content = redis.call('TYPE', key).ok, nil
  if kind == 'hash' then content = redis.call('HGETALL', key)
  elseif kind == 'list' then content = redis.call('LRANGE', key, 0, -1)
  elseif kind == 'set' then content = redis.call('SMEMBERS', key)
  elseif kind == 'zset' then content = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  elseif kind == 'stream' then content = redis.call('XLEN', key)
  else content = redis.call('GET', key) end
  found[#found + 1] = {string.sub(key, #ARGV[1] + 1), redis.call('PTTL', key), content}
end
return {found, redis.call('XRANGE', ARGV[1] .. 'live', '(' .. ARGV[2], '+')}
"""


# A memory whose clock is steered and whose answers get lost


@dataclass(frozen=True, slots=True)
class Mutation:
    """A fault put into a script ("lib" is part of all): `old`, which must be there exactly once, becomes `new`."""

    script: str
    old: str
    new: str


def steered(name: str, mutation: Mutation | None) -> str:
    """The script's own text, but for the line that asks for the time (and a fault, when one is wanted)."""
    text = swapped(source_of(name), TIME_LINE, STEERED_LINE)
    if mutation is not None and mutation.script in {name, "lib"}:
        text = swapped(text, mutation.old, mutation.new)
    return text


def swapped(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"{old!r} is there {text.count(old)} times"
    return text.replace(old, new)


class SteeredScripts(Scripts):
    """The scripts under the test's clock; the answer of the `lose`th call from now is lost on the way."""

    def __init__(self, client: Client, prefix: str, mutation: Mutation | None) -> None:
        super().__init__(client, prefix)
        self._scripts = {name: client.register_script(steered(name, mutation)) for name in NAMES}
        self.lose = 0
        self.lost_answer: Any = None

    async def run(self, name: str, *args: Argument, client: Client | None = None) -> Any:
        """Run the script, and then perhaps do not tell."""
        answer = await super().run(name, *args, client=client)
        self.lose = max(0, (losing := self.lose) - 1)
        if losing == 1:
            self.lost_answer = answer
            raise UnavailableError("redis", "the answer was lost")
        return answer


class SteeredClient(RedisClient):
    """A client that tells the test's time, as the scripts do."""

    now_key = ""

    async def time(self, **_: Any) -> tuple[int, int]:
        seconds, microseconds = (await self.get(self.now_key) or b"").split()
        return int(seconds), int(microseconds)


class Memory:
    """One memory of its own and three processes that work on it."""

    def __init__(self, url: str, mutation: Mutation | None) -> None:
        self.client = SteeredClient(connection_pool=connect(url).connection_pool)
        self.client.auto_close_connection_pool = True  # it is the only one that uses the pool
        self.scripts = SteeredScripts(self.client, f"m{secrets.token_hex(6)}", mutation)
        self.prefix = self.scripts.prefix
        self.client.now_key = f"{self.prefix}now"
        parts = (SETTINGS.jobs, SETTINGS.limits, SETTINGS.worker)
        self.store = Store(self.client, self.scripts, SETTINGS.redis, *parts)
        self.doorbells = [connect(url, blocking=True) for _ in SLOTS]
        self.queues = [Queue(self.client, bell, self.scripts, *parts) for bell in self.doorbells]
        self.hooks = [Hooks(self.scripts, HOOK_LEASE_MS / 1000) for _ in SLOTS]
        # For the test's own looks: far quicker, and those are most of all calls.
        self.eye: Any = SyncClient.from_url(url)
        self._look = self.eye.register_script(LOOK)

    def set_time(self, now_ms: int) -> None:
        self.eye.set(self.client.now_key, f"{now_ms // 1000} {now_ms % 1000 * 1000}")

    def look(self, after_id: str = "0-0") -> Seen:
        """All there is, and the events after an id."""
        return Seen(*self._look(keys=[self.prefix], args=[self.prefix, after_id]))

    def events(self, job_id: str) -> list[Event]:
        """All of the job's own stream."""
        entries = self.eye.xrange(f"{self.prefix}ev:{job_id}")
        return [event(key, [part for item in entry.items() for part in item]) for key, entry in entries]

    async def close(self) -> None:
        """Forget everything and hang up."""
        self.eye.delete(*self.eye.keys(f"{self.prefix}*"))
        self.eye.close()
        for client in (self.client, *self.doorbells):
            await client.aclose()


Event = tuple[str, dict[str, str]]


def event(key: bytes, entry: list[bytes]) -> Event:
    return key.decode(), pairs(entry)


def pairs(flat: Any) -> dict[str, str]:
    words = [word.decode() for word in flat]
    return dict(zip(words[::2], words[1::2], strict=True))


class Seen:
    """What lies in Redis, by the names of the keys without their prefix."""

    def __init__(self, rows: list[Any], events: list[Any]) -> None:
        self.events = [event(key, entry) for key, entry in events]
        self._contents = {name.decode(): content for name, _, content in rows}
        self.lasting = {name.decode() for name, ttl_ms, _ in rows if ttl_ms == -1}

    def names(self, kind: str) -> list[str]:
        """What comes after `kind:` in the keys of this kind."""
        return [name.partition(":")[2] for name in self._contents if name.startswith(f"{kind}:")]

    def hash(self, name: str) -> dict[str, str]:
        return pairs(self._contents.get(name, ()))

    def scores(self, name: str) -> dict[str, int]:
        return {member: int(float(score)) for member, score in self.hash(name).items()}

    def list(self, name: str) -> list[str]:
        return [word.decode() for word in self._contents.get(name, ())]

    def length(self, stream: str) -> int:
        return int(self._contents.get(stream, 0))


# The comparison


def check_places(model: Model, seen: Seen) -> None:
    """Each job is in exactly one place, and it is the right one; the queues are in order."""
    places: defaultdict[str, list[Place]] = defaultdict(list)
    for tenant in seen.names("ready"):
        for job_id in seen.list(f"ready:{tenant}"):
            places[job_id].append(Place.READY)
    for place, ids in {
        Place.ALONE: seen.list("alone"),
        Place.DELAYED: seen.scores("delayed"),
        Place.LEASES: seen.scores("leases"),
    }.items():
        for job_id in ids:
            places[job_id].append(place)
    for job_id, job in model.jobs.items():
        if JobState(seen.hash(f"job:{job_id}")["state"]) not in {JobState.QUEUED, JobState.PROCESSING}:
            places[job_id].append(Place.ENDED)
        assert places.pop(job_id) == [model.place(job)], job
    assert not places, "jobs that nobody ordered"
    assert seen.list("alone") == model.alone
    for tenant in TENANTS:
        assert seen.list(f"ready:{tenant}") == model.ready[tenant]


def check_leases(model: Model, seen: Seen) -> None:
    """Who is worked on has a lease and counts as running, within the cap; marks and delays are as they should be."""
    assert seen.scores("leases") == model.leases
    assert seen.hash("suspects") == {job: f"{token} {since}" for job, (token, since) in model.marks.items()}
    for tenant in TENANTS:
        running = seen.list(f"running:{tenant}")
        assert set(running) == model.running(tenant)
        assert len(running) <= model.cap
    for job_id, due in seen.scores("delayed").items():
        earliest, latest = model.delayed[job_id]
        assert earliest <= due <= latest
        model.delayed[job_id] = (due, due)


def check_record(job: ModelJob, record: dict[str, str]) -> None:
    """The record says what the model says."""
    figures = job.figures
    expected = {
        "state": job.state,
        "tenant": job.tenant,
        "attempt": str(job.attempt),
        "crashes": str(job.crashes),
        "failures": str(job.failures),
        "progress": str(job.progress),
        "done": str(figures.done),
        "failed": str(figures.failed),
        "bytes": str(figures.bytes_fetched),
        "current": figures.current_file or "",
        "base": job.base,
        "ecode": job.code,
        "akey": job.archive_key,
        "rev": str(job.events + job.tellings),
        "created": str(job.created),
    }
    absent = {"failures": "0"}
    found = {name: record.get(name, absent.get(name, "")) for name in expected}
    wrong = {name: (found[name], expected[name]) for name in expected if found[name] != expected[name]}
    assert not wrong, f"{job.job_id}: found and expected {wrong}"
    if job.state is JobState.PROCESSING:
        assert record["token"] == job.token
    assert ("gone" in record) == job.gone


def check_tallies(model: Model, seen: Seen) -> None:
    """Every end of a job is counted once, by the minute and by the hour; who has a job is said with its token."""
    ended = Counter(job.state for job in model.jobs.values() if not job.active)
    codes = Counter(job.code for job in model.jobs.values() if job.state is JobState.FAILED)
    wanted = Counter({f"jobs:{state}": count for state, count in ended.items()})
    wanted.update({f"job:{code}": count for code, count in codes.items()})
    for kind in ("m", "h"):
        found: Counter[str] = Counter()
        for name in seen.names("tally"):
            if name.startswith(kind):
                found.update({field: int(amount) for field, amount in seen.hash(f"tally:{name}").items()})
        assert found == wanted
    assert set(seen.scores("recent")) == {job.job_id for job in model.jobs.values() if not job.gone}
    for job_id, job in model.jobs.items():
        if job.state is JobState.PROCESSING:
            assert seen.hash(f"job:{job_id}")["by"].partition(" ")[2] == job.token


def check_leftovers(model: Model, seen: Seen) -> None:
    """Debris is what was announced and nobody needs; checkpoints are kept for those who may read them."""
    uploads = {f"{job} {token}": f"{upload} {key}" for (job, token), (upload, key) in model.announced.items()}
    assert seen.hash("uploads") == uploads
    due = seen.scores("debris")
    assert due.keys() == {f"{job} {token}" for job, token in model.debris}
    for attempt, (earliest, latest) in model.debris.items():
        assert not model.needed(attempt)
        assert attempt not in model.published
        when = due[" ".join(attempt)]
        assert earliest <= when <= latest
        model.debris[attempt] = (when, when)
    assert seen.scores("expiries") == model.expiries
    kept = {f"{job}:{token}": pieces for (job, token), pieces in model.pieces.items()}
    found = {name: seen.hash(f"ckpt:{name}") for name in seen.names("ckpt")}
    assert found == {name: {str(number): piece for number, piece in pieces.items()} for name, pieces in kept.items()}


def check_callbacks(model: Model, seen: Seen) -> None:
    """Each callback that is to be tried stands with its receiver, and each receiver where its earliest is due."""
    waiting = model.hooks.waiting()
    assert {receiver: seen.scores(f"hooks:{receiver}") for receiver in seen.names("hooks")} == waiting
    assert seen.scores("hooks") == {receiver: min(jobs.values()) for receiver, jobs in waiting.items()}
    for job_id in model.jobs:
        record, hook = seen.hash(f"job:{job_id}"), model.hooks.of(job_id)
        assert {name: record[name] for name in record if name.startswith("hook")}.items() >= hook.items()
        assert ("hook" in record) == ("hook" in hook)
        assert len(seen.list(f"hooklog:{job_id}")) == min(20, int(hook.get("hooktries", 0)))


def check_lasting(model: Model, seen: Seen) -> None:
    """What has no time to live is the service's as a whole, or belongs to a job that has not ended."""
    for name in seen.lasting - LASTING - {"now"}:
        kind, _, rest = name.partition(":")
        if kind in OF_A_JOB:
            assert model.jobs[rest.partition(":")[0]].active, f"{name} stays for ever"
        else:
            assert kind in OF_ACTIVE_JOBS, f"{name} stays for ever"


# The machine

PICK = st.integers(0, 255)
PROCESS = st.integers(0, len(SLOTS) - 1)
AGAIN = st.booleans()
JUMPS_MS = (1, 250, GRACE_MS, 1500, 3000, 12_000, LEASE_MS, 45_000, 75_000, -1, -400, -1000)
FILES = 4
CALLBACKS = ("http://one.test/hook", "", "http://two.test/hook")
FIGURES = st.builds(
    lambda done, failed, bytes_fetched, bytes_total, progress, current_file: Figures(
        done, min(failed, FILES - done), bytes_fetched, bytes_total, progress, current_file
    ),
    done=st.integers(0, FILES),
    failed=st.integers(0, FILES),
    bytes_fetched=st.integers(0, 99),
    bytes_total=st.none() | st.just(99),
    progress=st.integers(0, 100),
    current_file=st.none() | st.just("a"),
)
FILE = FileResult(0, 0, "http://source.test/a", "a", FileStatus.DONE, size=1)


def pick(items: list[T], number: int) -> T:
    """One of the items; a smaller number is a later one, which makes for simpler stories."""
    return items[-1 - number % len(items)]


@contextmanager
def allowed(mine: bool) -> Iterator[None]:
    """What the owner of a job may do, and nobody else."""
    if mine:
        yield
    else:
        with pytest.raises(LeaseLostError):
            yield


class ScriptsMachine(RuleBasedStateMachine):
    """Calls the memory and the model alike, and compares all there is after each step."""

    def __init__(self, url: str, mutation: Mutation | None = None) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.memory = self.run(self._open(url, mutation))
        self.model = Model(SETTINGS, START_MS)
        self.memory.set_time(START_MS)
        self.orders: list[Order] = []
        self.claims: list[Claim] = []
        self.deliveries: list[DueCallback] = []
        self.unheard: dict[int, Attempt] = {}
        self.ended: dict[str, dict[str, str]] = {}
        self.told: dict[str, dict[str, str]] = {}
        self.last_id = "0-0"

    @staticmethod
    async def _open(url: str, mutation: Mutation | None) -> Memory:
        return Memory(url, mutation)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run to the end on the machine's own loop."""
        return self.runner.run(coroutine)

    def call(self, call: Callable[[], Awaitable[T]], lose: int = 0) -> T:
        """Make a call; with `lose` its first answer is lost, so it is made twice."""
        return self.run(self._call(call, lose))

    async def _call(self, call: Callable[[], Awaitable[T]], lose: int) -> T:
        if lose:
            self.memory.scripts.lose = lose
            with pytest.raises(UnavailableError):
                await call()
        return await call()

    # Orders

    @initialize(tenants=st.lists(st.sampled_from(TENANTS), min_size=1, max_size=4))
    def begin_with_some(self, tenants: list[str]) -> None:
        for tenant in tenants:
            self.order(tenant=tenant, key=None, body=0, again=False)

    @rule(
        tenant=st.sampled_from(TENANTS),
        key=st.sampled_from((None, None, None, "key", "other")),
        body=st.integers(0, 1),
        again=AGAIN,
    )
    def order(self, tenant: str, key: str | None, body: int, again: bool) -> None:
        """A new order, perhaps under a key that was used before."""
        sources = tuple(Source(i, i, f"http://source.test/{body}") for i in range(FILES))
        request = JobRequest(sources, "a.zip", callback_url=CALLBACKS[len(self.orders) % len(CALLBACKS)])
        number = len(self.orders)
        order = Order(f"j{number}", tenant, request, FILES, f"r{number}", "", key, str(body).encode())
        self.orders.append(order)
        self.take_in(order, again=again)

    @precondition(lambda self: self.orders)
    @rule(number=PICK)
    def repeat_order(self, number: int) -> None:
        """The same order comes again."""
        self.take_in(pick(self.orders, number), again=False)

    def take_in(self, order: Order, *, again: bool) -> None:
        def call() -> Coroutine[Any, Any, Enqueued]:
            return self.memory.store.enqueue(order)

        try:
            job, replayed = self.model.enqueue(order)
        except RequestError as refusal:
            with pytest.raises(RequestError) as refused:
                self.call(call)
            assert refused.value.code == refusal.code
            return
        if job.gone:  # said to be out of order for as long as its tombstone stands
            with pytest.raises(UnavailableError):
                self.call(call)
            return
        enqueued = self.call(call, lose=int(again))
        assert (enqueued.job_id, enqueued.replayed) == (job.job_id, replayed)
        assert (enqueued.total_files, enqueued.total_file_ids) == (job.total, FILES)
        record = self.call(lambda: self.memory.store.record(order.tenant, job.job_id))
        assert record is not None
        assert enqueued.created_ms == record.created_ms
        assert (record.state, record.queue_position) == (job.state, self.model.position(job))

    # Claims

    @rule(process=PROCESS, running=st.sampled_from((0, 0, 1, 2)), lost=st.sampled_from((False, False, True)))
    def claim(self, process: int, running: int, lost: bool) -> None:
        """A process asks for a job, or asks again since it has not heard the answer."""
        unheard = self.unheard.pop(process, None)
        if unheard and self.model.owns(*unheard):
            claim = self.ask(process, running)
            assert claim is not None
            assert (claim.job_id, claim.token) == unheard
            self.hold(claim)
            return
        offer = self.model.offer(str(process), running, SLOTS[process])
        if lost:
            job_id, token = self.ask_in_vain(process, running)
        else:
            claim = self.ask(process, running)
            job_id, token = (claim.job_id, claim.token) if claim else ("", "")
        assert job_id in (offer.jobs or {""})
        if not job_id:
            return
        assert (job_id, token) not in {(claim.job_id, claim.token) for claim in self.claims}
        self.model.take(job_id, token)
        if lost:
            self.unheard[process] = (job_id, token)
        else:
            assert claim is not None
            self.hold(claim)

    def ask(self, process: int, running: int) -> Claim | None:
        return self.call(lambda: self.memory.queues[process].claim(running, SLOTS[process]))

    def ask_in_vain(self, process: int, running: int) -> Attempt:
        """Claim, and read the answer that the process does not hear."""
        self.memory.scripts.lose = 1
        with pytest.raises(UnavailableError):
            self.ask(process, running)
        verdict, *answer = self.memory.scripts.lost_answer
        return (answer[0].decode(), answer[2].decode()) if verdict == b"job" else ("", "")

    def hold(self, claim: Claim) -> None:
        """The process has its claim, and all it says is right."""
        job = self.model.jobs[claim.job_id]
        order = next(order for order in self.orders if order.job_id == claim.job_id)
        assert claim == Claim(
            job_id=job.job_id,
            tenant=job.tenant,
            token=job.token,
            attempt=job.attempt,
            request=order.request,
            request_id=order.request_id,
            traceparent=order.traceparent,
            created_ms=job.created,
            base=job.base,
            alone=job.suspect,
        )
        self.claims.append(claim)

    @precondition(lambda self: self.model.drainer)
    @rule()
    def drainer_is_forgotten(self) -> None:
        """Who waits to be idle is remembered for a while only; Redis ages that by itself."""
        self.model.drainer = ""
        assert self.memory.eye.pttl(f"{self.memory.prefix}drainer") > 0
        self.memory.eye.delete(f"{self.memory.prefix}drainer")

    # An attempt's own calls

    def held(self) -> list[Claim]:
        return [claim for claim in self.claims if self.model.owns(claim.job_id, claim.token)]

    def some_claim(self, number: int) -> Claim:
        """Any claim there ever was, a new one, or (mostly) one that is still good.

        Claims when there is none, so that rules need not wait for each other's luck.
        """
        if number % 4 == 1 or not self.held():
            self.get_to_work(number // 4)
        claims = self.claims if number % 4 == 0 else self.held()
        assume(claims or self.claims)  # a job may be out of reach: limits, or all answers lost
        return pick(claims or self.claims, number // 4)

    def get_to_work(self, number: int) -> None:
        """An idle process takes a job, for which there may have to be an order first, and mostly announces at once."""
        known = len(self.claims)
        self.claim(process=number % len(SLOTS), running=0, lost=False)
        if not self.held():
            self.order(tenant=TENANTS[number % len(TENANTS)], key=None, body=0, again=False)
            self.claim(process=number % len(SLOTS), running=0, lost=False)
        if number % 3 and len(self.claims) > known:
            self.announce(self.claims[-1], "upload", again=False)

    @rule(process=PROCESS, numbers=st.lists(PICK, max_size=3), unknown=st.booleans())
    def renew(self, process: int, numbers: list[int], unknown: bool) -> None:
        """A process renews the leases of some claims, good ones and stale ones."""
        tokens = {claim.job_id: claim.token for claim in (self.some_claim(number) for number in numbers)}
        if unknown:
            tokens["nobody"] = "1-unknown"
        self.renew_all(process, tokens)

    def renew_all(self, process: int, tokens: dict[str, str]) -> None:
        self.model.note_slots(str(process), SLOTS[process])
        # A process renews only after it has claimed, and so has said how many slots it has.
        lost = self.call(lambda: self._renew(process, tokens))
        assert lost == self.model.renew(tokens)

    async def _renew(self, process: int, tokens: dict[str, str]) -> frozenset[str]:
        self.memory.queues[process]._slots = SLOTS[process]  # noqa: SLF001
        return await self.memory.queues[process].renew(tokens)

    @rule(number=PICK, step=st.sampled_from((1, 1, 2, 0, -1)), figures=FIGURES, file=st.booleans(), again=AGAIN)
    def report(self, number: int, step: int, figures: Figures, file: bool, again: bool) -> None:
        """An attempt tells its figures; a number that is not higher than the last is an old report."""
        claim = self.some_claim(number)
        sequence = max(1, self.model.jobs[claim.job_id].sequence + step)
        files, event = ([FILE], b"[{}]") if file else ([], b"")
        told = {str(FILE.index): file_to_json(FILE).decode()} if file else {}
        mine = self.model.report((claim.job_id, claim.token), sequence, figures, told)
        queue = self.memory.queues[0]
        with allowed(mine):
            self.call(lambda: queue.report(claim, sequence, figures, files, event), lose=int(again))

    @rule(number=PICK, upload_id=st.sampled_from(("", "upload")), again=AGAIN)
    def storing(self, number: int, upload_id: str, again: bool) -> None:
        """An attempt announces what it will store."""
        self.announce(self.some_claim(number), upload_id, again=again)

    def announce(self, claim: Claim, upload_id: str, *, again: bool) -> None:
        mine = self.model.storing((claim.job_id, claim.token), upload_id, key_of(claim))
        with allowed(mine):
            self.call(lambda: self.memory.queues[0].storing(claim, upload_id, key_of(claim)), lose=int(again))

    @rule(number=PICK, piece=st.integers(0, 11), supersedes=st.booleans(), again=AGAIN)
    def checkpoint(self, number: int, piece: int, supersedes: bool, again: bool) -> None:
        """An attempt keeps a piece for its heir."""
        self.keep(self.some_claim(number), piece, supersedes=supersedes, again=again)

    def keep(self, claim: Claim, piece: int, *, supersedes: bool, again: bool) -> None:
        text = f"{claim.token} {piece} {len(self.claims)}"
        mine = self.model.checkpoint((claim.job_id, claim.token), piece, text, supersedes=supersedes)
        queue = self.memory.queues[0]
        with allowed(mine):
            self.call(lambda: queue.checkpoint(claim, piece, text.encode(), supersedes=supersedes), lose=int(again))

    @rule(number=PICK)
    def inherited(self, number: int) -> None:
        """An attempt reads what it may go on from."""
        claim = self.some_claim(number)
        pieces = self.call(lambda: self.memory.queues[0].inherited(claim))
        assert [piece.decode() for piece in pieces] == self.model.inherited(claim.job_id, claim.base)

    # Ends

    @rule(number=PICK, figures=FIGURES, again=AGAIN)
    def complete(self, number: int, figures: Figures, again: bool) -> None:
        """An attempt has made the archive."""
        claim = self.some_claim(number)
        archive = Archive(key_of(claim), "a.zip", 1, 1, "etag")
        for _ in range(1 + again):
            mine = self.model.complete((claim.job_id, claim.token), archive, figures)
        outcome = Completed(archive, 1, 0)
        assert bool(self.call(lambda: self.memory.queues[0].settle(claim, outcome, figures), lose=int(again))) == mine

    @rule(number=PICK, figures=FIGURES, transient=st.sampled_from((True, True, False)), again=AGAIN)
    def fail(self, number: int, figures: Figures, transient: bool, again: bool) -> None:
        """An attempt has failed."""
        claim = self.some_claim(number)
        for _ in range(1 + again):
            mine = self.model.fail((claim.job_id, claim.token), "code", figures, transient=transient)
        outcome = Failed("code", "why", transient=transient)
        assert bool(self.call(lambda: self.memory.queues[0].settle(claim, outcome, figures), lose=int(again))) == mine

    @rule(number=PICK, again=AGAIN)
    def release(self, number: int, again: bool) -> None:
        """A worker that stops gives a job back."""
        claim = self.some_claim(number)
        self.model.release((claim.job_id, claim.token))
        self.call(lambda: self.memory.queues[0].release(claim), lose=int(again))

    @rule(number=PICK, end=st.sampled_from(("release", "fail", "die")), announces=st.booleans())
    def hand_over(self, number: int, end: str, announces: bool) -> None:
        """An attempt that has got somewhere ends too early, and an heir may take the job."""
        claim = self.some_claim(number)
        if announces and self.model.owns(claim.job_id, claim.token):
            self.announce(claim, "upload", again=False)
        self.keep(claim, 0, supersedes=True, again=False)
        number_of_it = 4 * (len(self.claims) - 1 - self.claims.index(claim))
        if end == "release":
            self.release(number=number_of_it, again=False)
        elif end == "fail":
            self.fail(number=number_of_it, figures=Figures(), transient=True, again=False)
            self.time_passes(RETRY_DELAY_MS[1])
        else:
            self.workers_die(survivors=[], times=1)
        self.memory_is_as_the_model_says()
        self.tidy_up(claim, sweep=False)
        self.get_to_work(number)

    @precondition(lambda self: self.model.jobs)
    @rule(number=PICK, stranger=st.sampled_from((False, False, False, True)), again=AGAIN)
    def cancel(self, number: int, stranger: bool, again: bool) -> None:
        """Its tenant, or a stranger, ends a job."""
        job = pick(list(self.model.jobs.values()), number)
        tenant = "stranger" if stranger else job.tenant
        expected = self.model.cancel(tenant, job.job_id)
        lose = int(again and expected is not None)
        record = self.call(lambda: self.memory.store.cancel(tenant, job.job_id), lose=lose)
        assert (record and record.state) == (expected and expected.state)

    @precondition(lambda self: self.model.jobs)
    @rule(number=PICK, lose=st.integers(0, 2))
    def delete(self, number: int, lose: int) -> None:
        """Its tenant forgets a job; it takes two calls, the answer of either may be lost."""
        job = pick(list(self.model.jobs.values()), number)
        known = not job.gone
        self.model.delete(job.tenant, job.job_id)
        self.call(lambda: self.memory.store.delete(job.tenant, job.job_id), lose=lose if known else 0)

    # Callbacks

    @rule(process=PROCESS, busy=st.sampled_from((None, None, *CALLBACKS)), again=AGAIN)
    def take_callback(self, process: int, busy: str | None, again: bool) -> None:
        """A process takes a callback that is due, for a receiver that it has not enough of."""
        receivers = {receiver_of(tenant, busy or "") for tenant in TENANTS} if busy else set()
        heads = self.model.hooks.heads(self.model.now, receivers)
        found = self.call(lambda: self.memory.hooks[process].take(receivers), lose=int(again))
        if not heads:
            wait_ms = self.model.hooks.wait_ms(self.model.now)
            assert found == (None if wait_ms is None else wait_ms / 1000)
            return
        assert isinstance(found, DueCallback)
        job_id = found.record.job_id
        assert job_id in heads
        order = next(order for order in self.orders if order.job_id == job_id)
        assert (found.url, found.receiver) == (order.request.callback_url, heads[job_id])
        assert found.number == self.model.hooks.take(job_id, found.token, self.model.now + HOOK_LEASE_MS)
        self.deliveries.append(found)

    @precondition(lambda self: self.model.hooks.waiting())
    @rule(
        number=PICK,
        state=st.sampled_from(("pending", "pending", *CallbackState)),
        pause_s=st.integers(0, 20),
        again=AGAIN,
    )
    def tell_callback(self, number: int, state: str, pause_s: int, again: bool) -> None:
        """What came of a try is written down, unless another process has the callback by now."""
        if not self.deliveries or number % 2:
            self.take_callback(process=number % len(SLOTS), busy=None, again=False)
        assume(self.deliveries)
        due = pick(self.deliveries, number // 2)
        mine = self.model.hooks.told(due.record.job_id, due.token, state, self.model.now + 1000 * pause_s)
        self.model.jobs[due.record.job_id].tellings += mine
        hooks = self.memory.hooks[0]
        told = self.call(lambda: hooks.told(due, Try(500, None, 1), CallbackState(state), pause_s), lose=int(again))
        assert told == (mine and not again)

    @precondition(lambda self: self.model.jobs)
    @rule(number=PICK, again=AGAIN)
    def redeliver(self, number: int, again: bool) -> None:
        """Somebody wants a callback again."""
        job = pick(list(self.model.jobs.values()), number)
        callbacks = self.memory.store.callbacks
        refused = self.model.hooks.refused(job.job_id, active=job.active)
        if refused:
            with pytest.raises(RequestError) as error:
                self.call(lambda: callbacks.again(job.job_id))
            assert error.value.code == refused
            return
        job.tellings += self.model.hooks.again(job.job_id, self.model.now)
        self.call(lambda: callbacks.again(job.job_id), lose=int(again))

    # Time

    @rule(ms=st.sampled_from(JUMPS_MS))
    def time_passes(self, ms: int) -> None:
        """Forward, or back a little as servers' clocks do."""
        self.model.now += ms
        self.memory.set_time(self.model.now)

    @rule()
    def reap(self) -> None:
        """A look for lapsed leases."""
        expected = self.model.reap()
        assert self.call(self.memory.queues[0].reap) == expected

    @rule(survivors=st.lists(PICK, max_size=2), times=st.sampled_from((1, 1, 2, 3)))
    def workers_die(self, survivors: list[int], times: int) -> None:
        """Time enough for all leases to lapse and be taken back; some are renewed in the last moment.

        With `times` whoever works on the jobs next dies as well.
        """
        for _ in range(times):
            if not self.model.leases:
                self.get_to_work(0)
            self.leases_lapse(survivors)

    @rule(processes=st.lists(PROCESS, min_size=1, max_size=3))
    def the_busy_ask(self, processes: list[int]) -> None:
        """Processes with work ask for more while a job waits that has taken two workers down."""
        if not any(job.suspect and job.active for job in self.model.jobs.values()):
            self.workers_die(survivors=[], times=2)
        for process in processes:
            self.claim(process=process, running=1, lost=False)

    def leases_lapse(self, survivors: list[int]) -> None:
        self.time_passes(LEASE_MS)
        self.reap()
        self.memory_is_as_the_model_says()
        self.reap()  # the second look comes too early
        if survivors and self.claims:
            claims = [pick(self.held() or self.claims, number) for number in survivors]
            self.renew_all(0, {claim.job_id: claim.token for claim in claims})
        self.time_passes(GRACE_MS)
        self.reap()
        self.memory_is_as_the_model_says()
        self.time_passes(2 * CRASH_DELAY_MS)

    # The broom

    @rule(sweep=st.integers(0, 3))
    def debris(self, sweep: int) -> None:
        """The janitor looks for leftovers and sweeps some."""
        found = self.call(self.memory.queues[0].debris)
        assert {(part.job_id, part.token): (part.upload_id, part.key) for part in found} == self.model.due_debris()
        for part in found[:sweep]:
            self.sweep(part)

    def sweep(self, part: Debris) -> None:
        self.model.swept((part.job_id, part.token))
        self.call(lambda: self.memory.queues[0].swept(part))

    @precondition(lambda self: self.claims)
    @rule(number=PICK, sweep=st.booleans())
    def tidy(self, number: int, sweep: bool) -> None:
        """A worker sweeps what its own attempt left, if it may."""
        self.tidy_up(pick(self.claims, number), sweep=sweep)

    def tidy_up(self, claim: Claim, *, sweep: bool) -> None:
        found = self.call(lambda: self.memory.queues[0].forsaken(claim.job_id, claim.token))
        expected = self.model.forsaken((claim.job_id, claim.token))
        assert (found and (found.upload_id, found.key)) == expected
        if found and sweep:
            self.sweep(found)

    @precondition(lambda self: self.model.expiries)
    @rule(delete=st.booleans())
    def archives_expire(self, delete: bool) -> None:
        """The janitor looks for archives whose time is over and deletes one."""
        keys = self.call(self.memory.queues[0].expired_archives)
        assert set(keys) == self.model.expired_archives()
        for key in keys[: int(delete)]:
            self.call(lambda key=key: self.memory.queues[0].archive_gone(key))  # type: ignore[misc]
            del self.model.expiries[key]

    # After every step

    @invariant()
    def memory_is_as_the_model_says(self) -> None:
        """All there is in Redis, looked at directly."""
        seen = self.memory.look(self.last_id)
        check_places(self.model, seen)
        check_leases(self.model, seen)
        check_leftovers(self.model, seen)
        check_tallies(self.model, seen)
        check_lasting(self.model, seen)
        check_callbacks(self.model, seen)
        self.check_events(seen)
        for job_id, job in self.model.jobs.items():
            record = seen.hash(f"job:{job_id}")
            check_record(job, record)
            self.check_job(job, record, seen)

    def check_events(self, seen: Seen) -> None:
        """Each new event has a higher id; a job that has ended has no more."""
        for event_id, entry in seen.events:
            self.last_id = event_id
            job_id = entry.pop("job")
            assert job_id not in self.ended, "an event after the terminal one"
            if entry.pop("k") == "state":
                self.told[job_id] = entry

    def check_job(self, job: ModelJob, record: dict[str, str], seen: Seen) -> None:
        """Record and last event say the same; what has ended stays as it is."""
        job_id = job.job_id
        assert self.told[job_id] == {name: record[name] for name in SNAPSHOT if record.get(name)}
        assert seen.length(f"ev:{job_id}") == job.events
        files = {name: text for name, text in seen.hash(f"files:{job_id}").items() if not name.startswith("s")}
        assert files == job.files
        record = {name: text for name, text in record.items() if name not in {"gone", "rev"} and name[:4] != "hook"}
        if not job.active:
            assert self.ended.setdefault(job_id, record) == record

    # The end

    def teardown(self) -> None:
        """Bring everything to its end and look once more, unless the story has failed already."""
        try:
            if sys.exc_info()[0] is None:
                self.end_all()
                self.check_streams()
        finally:
            self.run(self.memory.close())
            self.runner.close()

    def end_all(self) -> None:
        """Every job ends one way or another; then nothing is left that somebody would have to remember."""
        for number, claim in enumerate(self.held()):
            index = len(self.claims) - 1 - self.claims.index(claim)
            if number % 2:
                self.complete(number=4 * index, figures=Figures(), again=False)
            else:
                self.fail(number=4 * index, figures=Figures(), transient=False, again=False)
        for job in self.model.jobs.values():
            self.model.cancel(job.tenant, job.job_id)
            self.call(lambda job=job: self.memory.store.cancel(job.tenant, job.job_id))  # type: ignore[misc]
        self.memory_is_as_the_model_says()
        # The clock may have gone back since a due time was set.
        self.time_passes(max([LEASE_MS, *(latest - self.model.now for _, latest in self.model.debris.values())]))
        self.debris(sweep=1000)
        self.memory_is_as_the_model_says()
        seen = self.memory.look()
        assert not self.held()
        assert seen.lasting <= LASTING | {"now"}
        assert not seen.hash("uploads")
        assert not seen.names("ckpt")
        assert self.model.ever_announced == self.model.published | self.model.swept_away

    def check_streams(self) -> None:
        """Each job's own stream ends with its one terminal event; ids strictly rise."""
        for job_id in self.model.jobs:
            events = self.memory.events(job_id)
            order = [tuple(map(int, event_id.split("-"))) for event_id, _ in events]
            assert order == sorted(set(order))
            ends = [entry["state"] for _, entry in events if entry.get("state") not in {"queued", "processing", None}]
            assert len(ends) == 1
            assert events[-1][1]["state"] == self.model.jobs[job_id].state


def key_of(claim: Claim) -> str:
    return f"{claim.job_id}/{claim.token}"


# The tests

EVERYDAY = profile(
    max_examples=50,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
DEEP = profile(EVERYDAY, max_examples=200, stateful_step_count=80)
HUNT = profile(DEEP, database=None, derandomize=True, phases=[Phase.generate], print_blob=False)

MUTATIONS = {
    "enqueue takes any body for the key's": Mutation("enqueue", "if seen[2] ~= fingerprint then", "if false then"),
    "claim gives another job to a process that did not hear": Mutation("claim", "mine[1] == nonce and", "false and"),
    "claim looks past the cap": Mutation(
        "claim", "if running(tenant) < math.min(limit_of(tenant), share) then", "if true then"
    ),
    "claim knows no share": Mutation("claim", "#tenants > 1 and", "false and"),
    "claim serves the same tenant again": Mutation("claim", "'XX', redis.call('INCR', P .. 'turn')", "'XX', 0"),
    "claim gives suspects to the busy": Mutation("claim", "if not busy then", "if true then"),
    "claim forgets who drains": Mutation("claim", "not drainer or drainer == process", "true"),
    "suspects are like all others": Mutation("lib", "local SUSPECT = 2", "local SUSPECT = 9"),
    "renew leaves the mark of the reaper": Mutation("renew", "redis.call('HDEL', P .. 'suspects', ARGV[i])", ""),
    "report does not look at the token": Mutation("report", "if not owned(job, ARGV[3]) then return 0 end", ""),
    "report counts a repeat": Mutation("report", "if tonumber(ARGV[4]) <=", "if 0 > 1 and 0 <="),
    "report lets progress fall": Mutation(
        "report", "math.min(most(f[5], ARGV[9]), 99)", "math.min(tonumber(ARGV[9]), 99)"
    ),
    "upload does not look at the token": Mutation("upload", "if not owned(ARGV[2], ARGV[3]) then return 0 end", ""),
    "checkpoint forgets the base before": Mutation("checkpoint", "forsake(job, base, NOW)", ""),
    "checkpoint always supersedes": Mutation("checkpoint", "ARGV[6] == '1' and ", ""),
    "settle leaves the archive to the broom": Mutation("settle", "redis.call('HDEL', P .. 'uploads',", "tostring("),
    "settle publishes for anyone": Mutation("settle", "if held[1] ~= token or held[2]", "if held[2]"),
    "settle forgets the base": Mutation("settle", "forsake_base(job, NOW)", ""),
    "failures share the budget of attempts": Mutation(
        "settle", "redis.call('HINCRBY', jk, 'failures', 1)", "tonumber(redis.call('HGET', jk, 'attempt'))"
    ),
    "leave sweeps the base": Mutation("lib", "token and redis.call('HGET', job_key(job), 'base') ~= token", "token"),
    "an attempt that is over stays among the running": Mutation(
        "lib", "redis.call('SREM', P .. 'running:' .. tenant, job)", ""
    ),
    "a job that waits again keeps its token": Mutation("lib", "'queued', 'current', '', 'token', '')", "'queued')"),
    "release charges the attempt": Mutation("release", "redis.call('HINCRBY', job_key(job), 'attempt', -1)", ""),
    "release lets figures fall": Mutation("release", "redis.call('HSET', job_key(job), 'kept', 1)", ""),
    "a report lets figures fall": Mutation(
        "report", "= most(f[2], ARGV[5]), most(f[4], ARGV[7])", "= ARGV[5], tonumber(ARGV[7])"
    ),
    "forsaken gives away the archive": Mutation("forsaken", "(held[1] == token and held[3] ~= 'failed') or ", ""),
    "release goes to the end of the queue": Mutation("release", "'LPUSH'", "'RPUSH'"),
    "cancel leaves the delayed": Mutation("cancel", "redis.call('ZREM', P .. 'delayed', job)", ""),
    "cancel does not wait for the worker": Mutation("cancel", "local due = NOW + tonumber(ARGV[5])", "local due = NOW"),
    "cancel tells nobody": Mutation("cancel", "emit(job)\nretire", "retire"),
    "cancel ends what has ended": Mutation("cancel", "if f[1] ~= 'queued' and f[1] ~= 'processing'", "if not f[1]"),
    "reap believes the first look": Mutation("reap", "NOW - tonumber(since) >= grace", "true"),
    "reap never gives up": Mutation("reap", "crashes >= tonumber(ARGV[3])", "crashes >= 9"),
    "a record stays for ever": Mutation("lib", "redis.call('PEXPIRE', P .. 'ev:' .. job, record_ms)", ""),
    "forsaken gives away the base": Mutation("forsaken", "or held[2] == token", ""),
    "debris is swept before its time": Mutation("debris", "'-inf', NOW,", "'-inf', '+inf',"),
    "a callback has no lease": Mutation("hooktake", "hook_due(job, NOW + lease)", ""),
    "a callback is taken for the busy": Mutation("hooktake", "not busy[receiver] and ", ""),
    "a callback is taken again by who did not hear": Mutation("hooktake", "if mine[1] == nonce and", "if false and"),
    "a callback is told by anyone": Mutation(
        "hooktold", "if redis.call('HGET', jk, 'hooktoken') ~= ARGV[3]", "if false"
    ),
    "a callback is told twice": Mutation("hooktold", "redis.call('HDEL', jk, 'hooktoken')", ""),
    "a callback is sent again while it is on its way": Mutation("hookagain", "f[3] or tonumber(due) <= NOW", "false"),
    "a callback asked for again has no tries left": Mutation("hookagain", "redis.call('HSET', jk, 'hookround', 0)", ""),
    "an end calls nobody": Mutation("lib", "hook_plan(job, NOW)\n  tally(", "tally("),
    "delete leaves the callback": Mutation("delete", "hook_plan(job, false)", ""),
    "a receiver is forgotten": Mutation("lib", "redis.call('ZADD', P .. 'hooks', first[2], receiver)", ""),
    "delete keeps the archive": Mutation("delete", "redis.call('ZADD', P .. 'expiries', NOW, f[2])", "tostring(0)"),
}


@pytest.mark.timeout(400)  # a failure takes long to be told in few steps
def test_scripts_do_what_the_model_says(valkey: Redis) -> None:
    """Whatever is called in whatever order, the memory is what the model says it should be."""
    explore(valkey.url, EVERYDAY)


@pytest.mark.deep
@pytest.mark.timeout(600)
def test_scripts_do_what_the_model_says_in_long_stories(valkey: Redis) -> None:
    """The same, more often and for longer."""
    explore(valkey.url, DEEP)


@pytest.mark.deep
@pytest.mark.parametrize("fault", MUTATIONS)
def test_a_fault_in_a_script_is_found(valkey: Redis, fault: str) -> None:
    """The machine is worth something: it finds each of these faults."""
    mutation = MUTATIONS[fault]
    for name in NAMES:
        steered(name, mutation)  # the place is there, exactly once
    with pytest.raises((AssertionError, pytest.fail.Exception, LeaseLostError)):
        explore(valkey.url, HUNT, mutation)


def explore(url: str, how: profile, mutation: Mutation | None = None) -> None:
    def machine() -> ScriptsMachine:
        return ScriptsMachine(url, mutation)

    run_state_machine_as_test(machine, settings=how)  # type: ignore[arg-type]
