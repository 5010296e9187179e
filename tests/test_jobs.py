"""The one table of states, and that the scripts which move a job keep to it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from downloader.config import Settings
from downloader.errors import LeaseLostError
from downloader.jobs import (
    TERMINAL,
    TRANSITIONS,
    Archive,
    Claim,
    Completed,
    Failed,
    Figures,
    JobRequest,
    JobState,
    Settlement,
    Source,
    public_url,
)
from downloader.state.client import connect
from downloader.state.queue import Queue
from downloader.state.scripts import Scripts
from downloader.state.store import Order, Store
from tests.servers import Redis

REQUEST = JobRequest((Source(0, 0, "http://source.test/a"),), "a.zip")
DONE = Completed(Archive("key", "a.zip", 1, 1, "etag"), 1, 0)


class Memory:
    """Store and queue on one Redis, for one job in a given state."""

    def __init__(self, store: Store, queue: Queue) -> None:
        self.store = store
        self.queue = queue
        self.claim: Claim | None = None

    async def bring_to(self, state: JobState) -> str:
        """A new job in `state`; its claim, if there was one, is kept."""
        job_id = secrets.token_hex(8)
        await self.store.enqueue(Order(job_id, "t", REQUEST, 1, "request"))
        if state is JobState.CANCELLED:
            await self.store.cancel("t", job_id)
        if state in {JobState.QUEUED, JobState.CANCELLED}:
            return job_id
        self.claim = await self.queue.claim(0, 1)
        assert self.claim is not None
        if state is not JobState.PROCESSING:
            outcome = DONE if state is JobState.COMPLETED else Failed("code", "why")
            await self.queue.settle(self.claim, outcome, Figures())
        return job_id

    async def state(self, job_id: str) -> JobState:
        """The job's state now."""
        record = await self.store.record("t", job_id)
        assert record is not None
        return record.state


@pytest.fixture
async def memory(valkey: Redis) -> AsyncIterator[Memory]:
    """A memory of its own."""
    settings = Settings()
    client, doorbell = connect(valkey.url), connect(valkey.url, blocking=True)
    scripts = Scripts(client, f"m{secrets.token_hex(6)}")
    store = Store(client, scripts, settings.redis, settings.jobs, settings.limits, settings.worker)
    yield Memory(store, Queue(client, doorbell, scripts, settings.jobs, settings.limits, settings.worker))
    await client.aclose()
    await doorbell.aclose()


async def claim(memory: Memory, _: str) -> None:
    await memory.queue.claim(0, 1)


async def cancel(memory: Memory, job_id: str) -> None:
    await memory.store.cancel("t", job_id)


def settle(outcome: Completed | Failed) -> Callable[[Memory, str], Awaitable[None]]:
    async def move(memory: Memory, _: str) -> None:
        if memory.claim:
            await memory.queue.settle(memory.claim, outcome, Figures())

    return move


async def release(memory: Memory, _: str) -> None:
    if memory.claim:
        await memory.queue.release(memory.claim)


MOVES: dict[str, Callable[[Memory, str], Awaitable[None]]] = {
    "claim": claim,
    "cancel": cancel,
    "complete": settle(DONE),
    "fail": settle(Failed("code", "why")),
    "fail for now": settle(Failed("code", "why", transient=True)),
    "release": release,
}


@pytest.mark.parametrize("state", JobState)
@pytest.mark.parametrize("move", MOVES)
async def test_every_move_is_in_the_table_or_changes_nothing(memory: Memory, state: JobState, move: str) -> None:
    """Each script, called in each state, makes a move of the table or leaves the job as it is."""
    job_id = await memory.bring_to(state)
    await MOVES[move](memory, job_id)
    after = await memory.state(job_id)
    assert after is state or after in TRANSITIONS[state]
    if state in TERMINAL:
        assert after is state


async def test_a_worker_that_lost_its_job_can_change_nothing(memory: Memory) -> None:
    """After a release and a new claim the old token neither reports nor settles nor renews."""
    job_id = await memory.bring_to(JobState.PROCESSING)
    old = memory.claim
    assert old is not None
    await memory.queue.release(old)
    new = await memory.queue.claim(0, 1)
    assert new is not None
    assert new.token != old.token
    with pytest.raises(LeaseLostError):
        await memory.queue.report(old, 1, Figures(done=1), [], b"")
    with pytest.raises(LeaseLostError):
        await memory.queue.storing(old, "upload", "key")
    assert await memory.queue.settle(old, DONE, Figures()) is Settlement.LOST
    assert await memory.queue.renew({job_id: old.token}) == {job_id}
    assert await memory.state(job_id) is JobState.PROCESSING
    assert await memory.queue.settle(new, DONE, Figures()) is Settlement.DONE
    assert await memory.queue.settle(new, DONE, Figures()) is Settlement.DONE  # its own answer may have been lost
    assert new.attempt == 1  # a release is not charged


async def test_a_silent_workers_job_is_taken_back_in_two_steps(valkey: Redis) -> None:
    """A lapsed lease is marked first and taken at a later look; a renewal in between saves it."""
    settings = Settings.model_validate({"worker": {"lease_s": 0.02, "renew_s": 0.01, "reap_s": 0.02}})
    client, doorbell = connect(valkey.url), connect(valkey.url, blocking=True)
    scripts = Scripts(client, f"m{secrets.token_hex(6)}")
    store = Store(client, scripts, settings.redis, settings.jobs, settings.limits, settings.worker)
    queue = Queue(client, doorbell, scripts, settings.jobs, settings.limits, settings.worker)
    memory = Memory(store, queue)
    job_id = await memory.bring_to(JobState.PROCESSING)
    assert memory.claim is not None
    while not (await client.hlen(f"{scripts.prefix}suspects")):
        assert await queue.reap() == 0
    assert await queue.renew({job_id: memory.claim.token}) == frozenset()
    assert await client.hlen(f"{scripts.prefix}suspects") == 0
    while await queue.reap() == 0:
        pass
    assert await memory.state(job_id) is JobState.QUEUED
    assert await queue.renew({job_id: memory.claim.token}) == {job_id}
    await client.aclose()
    await doorbell.aclose()


def test_public_url_hides_userinfo_and_query() -> None:
    """Only scheme, host and path of a URL are ever shown."""
    assert public_url("https://user:pw@host.test:8443/a%20b/c?sig=secret#x") == "https://host.test:8443/a%20b/c"
    assert public_url("http://[bad") == "(unreadable URL)"
