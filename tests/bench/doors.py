"""Figures of the doors: calls in a hurry, many open streams, jobs that grow, and how late the event loop runs."""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from downloader.lifetime import raise_open_files
from tests.bench.caller import Caller
from tests.bench.plan import Plan, spread, spread_of
from tests.bench.probe import probe
from tests.bench.running import KIB, MIB, Bench, bench
from tests.waiting import wait_until

FOR_S, PER_S = 30, 300
STREAMS, LISTENERS, EVENTS = 5000, 1000, 80
OPENED_AT_ONCE = 100
HEARTBEAT_S = 16
CALLS = 100
EVENT_ID = re.compile(rb"^id: (\S+)$", re.MULTILINE)


async def hurry(plan: Plan) -> dict[str, float]:
    """100-file bodies, 300 a second for 30 s, whether answers come or not, with two jobs running."""
    async with bench(*plan.settings, "limits.running_jobs=2", "worker.concurrency=2") as run:
        running = [await run.api.submit(run.urls(4000, 200 * KIB, delay_s=0.1)) for _ in range(2)]
        caller = _initiating(run, 100)
        times: list[float] = []

        async def post() -> None:
            begun = time.perf_counter()
            await caller.post(202)
            times.append((time.perf_counter() - begun) * 1000)

        began, cpu_s = time.perf_counter(), run.service.cpu_s()
        async with asyncio.TaskGroup() as group:
            for number in range(plan.of(FOR_S * PER_S, 100)):
                await asyncio.sleep(max(0.0, began + number / PER_S - time.perf_counter()))
                group.create_task(post())
        cores = (run.service.cpu_s() - cpu_s) / (time.perf_counter() - began)
        caller.close()
        states = {(await run.api.status(job_id))["status"] for job_id in running}
        print(
            f"initiate, 100 files, {PER_S}/s for {FOR_S} s beside two jobs ({', '.join(states)}): {spread(times)}, ",
            end="",
        )
        print(f"the service takes {cores:.2f} of a processor")
        return spread_of(times) | {"cores": cores}


async def ceiling(plan: Plan) -> dict[str, float]:
    """5-file bodies as fast as 32 connections get answers from one process."""
    async with bench(*plan.settings, "worker.concurrency=0") as run:
        caller = _initiating(run, 5)
        seconds = plan.of(10)
        done, until, cpu_s = 0, time.perf_counter() + seconds, run.service.cpu_s()

        async def call() -> None:
            nonlocal done
            while time.perf_counter() < until:
                await caller.post(202)
                done += 1

        await asyncio.gather(*(call() for _ in range(32)))
        each_ms = (run.service.cpu_s() - cpu_s) / done * 1000
        caller.close()
        print(f"initiate, 5 files, one process, 32 connections: {done / seconds:.0f}/s, {each_ms:.2f} ms CPU each")
        return {"per_s": done / seconds, "cpu_ms": each_ms}


def _initiating(run: Bench, files: int) -> Caller:
    body = json.dumps({"files": [{"url": address} for address in run.urls(files, 10)]}).encode()
    return Caller(run.api.base, "/v1/download/initiate", body)


class _Listener(asyncio.Protocol):
    """Hears a stream: a thousand of them must not take the time that is measured."""

    def __init__(self, heard: Callable[[str, float], None]) -> None:
        self._heard = heard
        self.answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        """The head, then frames: of each that begins here its id."""
        now_ms = time.time() * 1000
        if not self.answered.done():
            self.answered.set_result(data)
        for event_id in EVENT_ID.findall(data):
            self._heard(event_id.decode(), now_ms)


async def _listen(run: Bench, job_id: str, heard: Callable[[str, float], None]) -> asyncio.Transport:
    """Open a stream and hear its events: `heard` gets the id of each and its time."""
    url = urlsplit(run.api.base)
    loop = asyncio.get_running_loop()
    transport, listener = await loop.create_connection(lambda: _Listener(heard), str(url.hostname), url.port or 80)
    head = f"GET /v1/download/subscribe/{job_id} HTTP/1.1\r\nHost: {url.netloc}\r\nAccept: text/event-stream\r\n\r\n"
    transport.write(head.encode())
    answer = await listener.answered
    assert b" 200 " in answer, answer
    return transport


async def _opened(run: Bench, job_id: str, count: int, heard: Callable[[str, float], None]) -> list[asyncio.Transport]:
    """So many streams, some at a time."""
    opened: list[asyncio.Transport] = []
    while len(opened) < count:
        some = min(OPENED_AT_ONCE, count - len(opened))
        opened += await asyncio.gather(*(_listen(run, job_id, heard) for _ in range(some)))
    return opened


async def streams(plan: Plan) -> dict[str, float]:
    """5,000 open streams: memory of each; then one job with 1,000 listeners: from Redis's time to the last listener."""
    raise_open_files()
    async with bench(*plan.settings, "worker.concurrency=1", "limits.running_jobs=1") as run:
        blocking = await run.api.submit(run.urls(1, 10, delay_s=600))
        waiting = await run.api.submit(run.urls(1, 10))
        (await _listen(run, waiting, lambda *_: None)).close()
        before = run.resident_bytes()
        opened = await _opened(run, waiting, plan.of(STREAMS), lambda *_: None)
        await asyncio.sleep(plan.of(HEARTBEAT_S, 0))
        each = (run.resident_bytes() - before) / len(opened) / KIB
        numbers = {"streams": float(len(opened)), "each_kib": each}
        print(f"{len(opened)} open streams: {each:.1f} KiB each; {await _health(run)}")
        for stream in opened:
            stream.close()
        for job_id in (waiting, blocking):
            await run.api.call("POST", f"/v1/download/{job_id}/cancel")
        await _quiet(run)
        busy = await run.api.submit(run.urls(2000, 200 * KIB, delay_s=0.2))
        return numbers | await _heard_by_all(run, busy, plan)


async def _quiet(run: Bench) -> None:
    """Wait until the service has done with what was before."""
    used_s, before_s = 1.0, run.service.cpu_s()
    while used_s > 0.05:
        await asyncio.sleep(0.5)
        now_s = run.service.cpu_s()
        used_s, before_s = now_s - before_s, now_s


async def _heard_by_all(run: Bench, job_id: str, plan: Plan) -> dict[str, float]:
    """Events of a running job to all of its listeners; and how late the service answers others meanwhile."""
    heard: dict[str, list[float]] = {}
    opened = await _opened(
        run, job_id, plan.of(LISTENERS), lambda event_id, now_ms: heard.setdefault(event_id, []).append(now_ms)
    )
    async with probe(run.api.base) as beside:
        await asyncio.sleep(1)
        heard.clear()  # what was heard while streams were opened and the probe started
        await wait_until(lambda: len(heard) >= plan.of(EVENTS, 5), within_s=60)
    for stream in opened:
        stream.close()
    took = {
        event_id: [now_ms - int(event_id.partition("-")[0]) for now_ms in times]
        for event_id, times in heard.items()
        if len(times) == len(opened)  # not of the first and the last ones, of which only some were heard
    }
    every, last = [ms for times in took.values() for ms in times], [max(times) for times in took.values()]
    print(f"event of a running job to {len(opened)} listeners: {spread(every)}; to the last of them: {spread(last)}")
    print(f"/livez meanwhile: {spread(beside)}")
    return spread_of(every, "event_") | spread_of(last, "last_") | spread_of(beside, "beside_")


async def _health(run: Bench) -> str:
    begun = time.perf_counter()
    answer = await run.api.call("GET", "/livez")
    return f"/livez {answer.status} in {(time.perf_counter() - begun) * 1000:.1f} ms"


async def growth(plan: Plan) -> dict[str, float]:
    """Jobs of 100, 1,000 and 10,000 files of 4 KiB: time per file; then the answers about the largest."""
    async with bench(*plan.settings) as run:
        counts = few, *_, many = plan.of(100, 10), plan.of(1000, 20), plan.of(10_000, 40)
        per_file: dict[int, list[float]] = {count: [] for count in (1, *counts)}
        assert (await run.job(run.urls(few, 4 * KIB))).status["status"] == "completed"  # the first one has to connect
        for _ in range(plan.runs):
            for count, took in per_file.items():
                begun = time.perf_counter()
                job_id = await run.api.submit(run.urls(count, 4 * KIB))
                await _timed(run, f"/v1/download/subscribe/{job_id}")  # to its end; what is said there nobody reads
                took.append((time.perf_counter() - begun) / count * 1000)
                assert (await run.api.status(job_id))["status"] == "completed"
        one, *medians = (statistics.median(took) for took in per_file.values())
        beyond = [ms - one / count for ms, count in zip(medians, counts, strict=True)]
        said = ", ".join(f"{count}: {ms:.3f}" for count, ms in zip(counts, medians, strict=True))
        numbers = {
            "one_file_ms": one,
            "few_ms_per_file": medians[0],
            "many_ms_per_file": medians[-1],
            "largest_by_smallest": medians[-1] / medians[0],
            "spread": max(medians) / min(medians),
            "spread_beyond_one_file": max(beyond) / min(beyond),
        }
        print(f"ms per file by size of the job: {said}; the largest by the smallest {medians[-1] / medians[0]:.2f} x")
        print(f"a job of one file {one:.1f} ms; beyond that the most by the least {max(beyond) / min(beyond):.2f} x")
        return numbers | await _told(run, many)


async def _told(run: Bench, count: int) -> dict[str, float]:
    """What is told of a large job: how long it takes, and how late the service answers others meanwhile."""
    job_id = await run.api.submit(run.urls(count, 4 * KIB))
    first = (await run.api.events(job_id))[0].id
    async with probe(run.api.base) as idle:
        await asyncio.sleep(2)
    print(f"/livez, idle: {spread(idle)}")
    numbers = spread_of(idle, "idle_")
    calls: dict[str, tuple[str, dict[str, str]]] = {
        "status": (f"status/{job_id}", {}),
        "files": (f"{job_id}/files?limit=1000&after={count // 2}", {}),
        "snapshot": (f"subscribe/{job_id}", {}),
        "history": (f"subscribe/{job_id}", {"Last-Event-ID": first}),
    }
    for name, (path, headers) in calls.items():
        async with probe(run.api.base) as beside:
            times = [await _timed(run, f"/v1/download/{path}", headers) for _ in range(CALLS)]
        print(f"{name} of a job of {count} files: {spread(times)}; /livez meanwhile: {spread(beside)}")
        numbers |= spread_of(times, f"{name}_") | spread_of(beside, f"{name}_beside_")
    return numbers


async def _timed(run: Bench, path: str, headers: Mapping[str, str] | None = None) -> float:
    """How long an answer takes, to its last byte."""
    begun = time.perf_counter()
    async with run.api.session.get(run.api.base + path, headers=headers) as answer:
        assert answer.status == 200
        await answer.read()
    return (time.perf_counter() - begun) * 1000


async def lag(plan: Plan) -> dict[str, float]:
    """How late /livez answers beside jobs of photos, one big file and logs, against an idle service."""
    async with bench(*plan.settings) as run:
        idle = await _probed(run, None)
        print(f"/livez, idle: {spread(idle)}")
        numbers = {"idle_p99_ms": _p99(idle)}
        kinds: dict[str, tuple[list[str], dict[str, Any]]] = {
            "W2 photos": (run.urls(plan.of(400, 4), 5 * MIB), {}),
            "W3 big files": (run.urls(2, plan.of(1024 * MIB)), {}),
            "W5 logs": (run.urls(plan.of(150, 4), 10 * MIB, text=1), {"options": {"compress": True}}),
        }
        for name, (urls, more) in kinds.items():
            times = await _probed(run, await run.api.submit(urls, **more))
            print(f"/livez beside {name}: {spread(times)}, p99 {_p99(times) - _p99(idle):+.1f} ms")
            numbers[f"{name[:2]}_above_idle_p99_ms"] = _p99(times) - _p99(idle)
        return numbers


def _p99(times: Sequence[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


async def _probed(run: Bench, job_id: str | None) -> list[float]:
    """Ask every 5 ms until the job has ended; 400 times when there is none."""
    times: list[float] = []
    ended = asyncio.create_task(run.api.finished(job_id)) if job_id else None
    while not ended.done() if ended else len(times) < 400:
        times.append(await _timed(run, "/livez"))
        await asyncio.sleep(0.005)
    if ended:
        assert (await ended)["status"] == "completed"
    return times


FIGURES = (hurry, ceiling, streams, growth, lag)
