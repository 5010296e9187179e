"""The one place that opens everything. It reads as a list; closing is its mirror."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from downloader import __version__
from downloader.config import Settings, job_minimum_bytes
from downloader.embedded import embedded
from downloader.errors import UnavailableError
from downloader.state.budgets import Budgets
from downloader.state.census import census
from downloader.state.client import connect, opened
from downloader.state.feed import Feed
from downloader.state.hooks import Hooks
from downloader.state.keys import Keys
from downloader.state.listing import Listing
from downloader.state.overview import Watch
from downloader.state.queue import Queue
from downloader.state.replicas import Pulse, Replica
from downloader.state.scripts import Scripts
from downloader.state.store import Store
from downloader.state.watch import watch_redis
from downloader.telemetry import Telemetry, telemetry
from downloader.telemetry.scrape import Scrape
from downloader.telemetry.tally import Tally
from downloader.web.app import build, drain
from downloader.web.metrics import build_metrics
from downloader.web.parts import ReadMetrics, ServiceState, WebParts
from downloader.web.render import BASE
from downloader.web.serve import serve
from downloader.work.budget import ByteBudget
from downloader.work.cache import ADMISSION_BYTES, Cache
from downloader.work.fetch import Fetcher
from downloader.work.heap import give_back_at_rest, keep_freed_blocks
from downloader.work.janitor import Janitor
from downloader.work.links import LinkSigner
from downloader.work.pipeline import Pipeline
from downloader.work.postman import Postman
from downloader.work.storage import Storage
from downloader.work.threads import Threads, threads
from downloader.work.watch import StorageWatch
from downloader.work.webhook import Deliverer, lease_s
from downloader.work.worker import Worker

# Longer than any store takes that is there; one that is not is waited for beside the open door.
FIRST_LOOK_S = 2.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Service:
    """The running service: where it is reached, and its parts that others may look at."""

    url: str
    port: int
    settings: Settings


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Service]:
    """Run the whole service for as long as the block runs; leaving it is the graceful stop.

    Raises StartError with one clear line when something is in the way that waiting cannot mend. A Redis or S3 that
    is merely away is waited for while the service answers 503.
    """
    try:
        async with _opened(settings) as service:
            yield service
    except BaseExceptionGroup as errors:
        # The groups of our background tasks wrap whatever passes through them; a lone cause is told as it is.
        cause = _lone_cause(errors)
        if cause is None:
            raise
        raise cause from cause.__cause__


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Service]:
    async with AsyncExitStack() as stack:
        keep_freed_blocks()
        settings = await stack.enter_async_context(embedded(settings))
        pools = stack.enter_context(threads())
        asyncio.get_running_loop().set_default_executor(pools.lookup)
        watching = await stack.enter_async_context(telemetry(settings.telemetry, __version__))
        observer = watching.observer

        client = await stack.enter_async_context(opened(connect(settings.redis.url)))
        doorbell = await stack.enter_async_context(opened(connect(settings.redis.url, blocking=True)))
        reader = await stack.enter_async_context(opened(connect(settings.redis.url, blocking=True)))
        scripts = Scripts(client, settings.redis.prefix)
        store = Store(client, scripts, settings.redis, settings.jobs, settings.limits, settings.worker)
        queue = Queue(client, doorbell, scripts, settings.jobs, settings.limits, settings.worker)
        budgets = Budgets(scripts)
        feed = Feed(reader, settings.redis.prefix)

        storage = await stack.enter_async_context(Storage.open(settings.storage, observer))
        signer = await stack.enter_async_context(LinkSigner.open(settings.storage, settings.jobs.link_ttl_s))
        watch = StorageWatch(storage, observer)

        fetcher = await stack.enter_async_context(
            Fetcher.open(settings.sources, pools, bytes_per_s=settings.limits.bytes_per_s)
        )
        cache = _cache(settings, pools)
        pipeline = Pipeline(
            fetcher,
            storage,
            cache,
            settings.jobs,
            settings.worker,
            settings.part_bytes,
            settings.storage.prefix,
            settings.limits,
            observer,
        )
        janitor = Janitor(queue, storage, settings.storage.prefix, settings.worker.sweep_s)
        worker = Worker(
            queue,
            pipeline.run,
            janitor.tidy,
            settings.worker,
            memory=cache.memory,
            job_minimum_bytes=job_minimum_bytes(settings.part_bytes),
            store_available=watch.available,
            observer=observer,
        )
        hooks = Hooks(scripts, lease_s(settings.webhook))
        postman = await stack.enter_async_context(Postman.open(settings.sources, settings.webhook.timeout_s))
        deliverer = Deliverer(
            hooks, postman, settings.webhook, _status_url(settings.server.public_url), observer.meter.callback_sent
        )

        def ended(job_id: str) -> None:
            worker.stop_job(job_id)
            deliverer.stir()

        feed.ended = ended
        state = ServiceState()
        pulse = Pulse(
            scripts, queue.process, _replica(worker, cache.memory, watching.tally, state), watching.tally.take
        )

        await _first_look(watch)
        await stack.enter_async_context(
            _beside(
                watch_redis(client, settings.redis.durable_ack, observer),
                watch.run(),
                feed.run(),
                janitor.run(),
                deliverer.run(),
                budgets.run(),
                pulse.run(),
                give_back_at_rest(lambda: not worker.running, pools.disk),
            )
        )

        checks = {"redis": store.ping, "storage": watch.look, "workers": worker.check}
        metrics = await stack.enter_async_context(_metrics(settings, watching, worker, cache, scripts))
        parts = WebParts(
            settings,
            store,
            Listing(client, scripts),
            Watch(scripts),
            Keys(client, scripts),
            budgets,
            feed,
            signer.sign,
            checks,
            state,
            observer=observer,
            metrics=metrics,
        )
        port = await stack.enter_async_context(serve(build(parts), settings.server.host, settings.server.port))
        await stack.enter_async_context(worker.working(settings.server.drain_s))
        stack.callback(drain, parts)

        _settle_down()
        parts.state.ready = True
        yield Service(settings.server.public_url or f"http://{settings.server.host}:{port}", port, settings)


def _status_url(public_url: str) -> Callable[[str], str]:
    return lambda job_id: f"{public_url.rstrip('/')}{BASE}/status/{job_id}"


def _replica(worker: Worker, memory: ByteBudget, tally: Tally, state: ServiceState) -> Callable[[], Replica]:
    """What this process tells of itself, whenever it is asked."""
    host, pid, since_ms = socket.gethostname(), os.getpid(), int(time.time() * 1000)
    return lambda: Replica(
        host=host,
        pid=pid,
        version=__version__,
        since_ms=since_ms,
        slots=worker.slots,
        running=worker.running,
        streams=tally.streams,
        memory_used=memory.used_bytes,
        memory_total=memory.total_bytes,
        draining=state.draining,
    )


@asynccontextmanager
async def _metrics(
    settings: Settings, watching: Telemetry, worker: Worker, cache: Cache, scripts: Scripts
) -> AsyncIterator[ReadMetrics | None]:
    """Serve the metrics on their own port if they have one; yields what /metrics beside the API answers, or None."""
    if watching.metrics is None:
        yield None
        return
    watching.metrics.sample(worker, cache.memory, cache.disk)
    async with Scrape.open(watching.metrics.registry, lambda: census(scripts)) as scrape:
        host, port = settings.telemetry.metrics_host, settings.telemetry.metrics_port
        if not port:
            yield scrape.text
            return
        async with serve(build_metrics(scrape.text), host, port, "telemetry.metrics_"):
            yield None


def _cache(settings: Settings, pools: Threads) -> Cache:
    memory = ByteBudget(settings.memory.budget_bytes)
    spare = settings.memory.budget_bytes - job_minimum_bytes(settings.part_bytes)
    cache = Cache(
        memory,
        ByteBudget(settings.cache.disk_bytes),
        settings.cache.dir,
        pools,
        share_bytes=max(ADMISSION_BYTES, spare // (2 * settings.worker.files_in_flight)),
    )
    cache.check_folder()
    return cache


def _lone_cause(errors: BaseExceptionGroup[BaseException]) -> BaseException | None:
    if len(errors.exceptions) != 1:
        return None
    (only,) = errors.exceptions
    return _lone_cause(only) if isinstance(only, BaseExceptionGroup) else only


@asynccontextmanager
async def _beside(*parts: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `parts` beside the block; one that dies ends the service, and at the end all are cancelled."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part) for part in parts]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def _first_look(watch: StorageWatch) -> None:
    try:
        async with asyncio.timeout(FIRST_LOOK_S):
            await watch.look()
    except (UnavailableError, TimeoutError) as error:
        log.warning(
            "storage.away",
            reason=str(error) or "no answer yet",
            remedy="the service waits for it; check storage.endpoint_url",
        )


def _settle_down() -> None:
    """Take what was made at start out of the garbage collector's sight and let it look less often.

    Its full passes stop the loop; what the service makes while it runs is freed by reference counts.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    # The loop must not wait the default 5 ms for each thread that digests or compresses when it wants to go on.
    sys.setswitchinterval(0.0005)
