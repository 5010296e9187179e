"""One job, top to bottom: fetch all files, pack each as its turn comes, finish the archive, verify it.

`Pipeline.run` is the list of steps. `_Run` holds what belongs to one attempt; its fetching side and its packing side
meet at the shelf.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog

from downloader.config import JobsSettings, LimitsSettings, WorkerSettings
from downloader.errors import DownloaderError, JobError, SourceError
from downloader.jobs import Claim, Completed, FileError, FileResult, FileStatus, Source, public_url
from downloader.names import NameBook, late_name, wanted_name
from downloader.observing import SILENT, Observer
from downloader.work.archive import ArchiveWriter, EntryHead, Method
from downloader.work.cache import ADMISSION_BYTES, Cache, Entry
from downloader.work.checkpoint import Checkpointer, Ledger, SavedEntry, read_checkpoint
from downloader.work.fetch import Fetcher, Offer
from downloader.work.inspection import Inspection
from downloader.work.intake import Intake, JobBytes
from downloader.work.keeping import Keeper
from downloader.work.packing import Arriving, Packed, Packer
from downloader.work.progress import Progress
from downloader.work.reports import (
    CHECKSUMS_NAME,
    MANIFEST_NAME,
    MISSING_NAME,
    checksums,
    manifest,
    missing_report,
)
from downloader.work.resume import Heir, Heritage, usable
from downloader.work.shelf import JobShelf
from downloader.work.storage import Storage

# How long an attempt that ends before its time may take to write down what it had.
FAREWELL_S = 2.0
# The time of entries in a reproducible archive whose source names none: the first that ZIP knows.
EPOCH = datetime(1980, 1, 1, tzinfo=UTC)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The parts that all jobs of the process share."""

    fetcher: Fetcher
    storage: Storage
    cache: Cache
    jobs: JobsSettings
    worker: WorkerSettings
    part_bytes: int
    key_prefix: str
    limits: LimitsSettings
    observer: Observer = SILENT

    def most_bytes(self, tenant: str) -> int:
        """How large a job of the tenant's may be."""
        most = self.limits.of(tenant).job_bytes
        return min(most, self.jobs.max_job_bytes) if most else self.jobs.max_job_bytes

    async def run(self, claim: Claim, progress: Progress, ledger: Ledger) -> Completed:
        """Do the job and give its archive; JobError when it cannot be done.

        Goes on from what an earlier attempt left, if the ledger has it and the store still does. Whatever the ledger
        was told may be in the bucket afterwards, and is the caller's to sweep unless another attempt goes on from it.
        """
        if not claim.request.sources:
            raise JobError("request_gone", "The request of this job is no longer there.")
        key = attempt_key(self.key_prefix, claim.job_id, claim.token)
        try:
            async with asyncio.timeout(self.jobs.deadline_s):
                heritage = await self._heritage(claim, key, ledger)
                async with self._archive(key, ledger, heritage) as (writer, checkpointer):
                    run = _Run(self, claim, progress, writer, checkpointer, heritage.entries if heritage else ())
                    await run.collect()
                    await run.append_reports()
                    archive = replace(await writer.finish(self.observer), name=claim.request.archive_name)
                    if claim.request.options.keep_files:
                        with self.observer.tracer.span("keep files"):
                            await self._keeper(key, ledger).keep(run.kept)
                        archive = replace(archive, kept=True)
        except TimeoutError as error:
            raise JobError("deadline_exceeded", f"The job took longer than {self.jobs.deadline_s:g} s.") from error
        figures = progress.figures()
        return Completed(archive, figures.done, figures.failed)

    def _keeper(self, key: str, ledger: Ledger) -> Keeper:
        return Keeper(self.storage, key, ledger, self.cache.threads, part_bytes=self.part_bytes)

    async def _heritage(self, claim: Claim, key: str, ledger: Ledger) -> Heritage | None:
        """What an earlier attempt left, made ours; None when this one begins from nothing."""
        checkpoint = read_checkpoint(await ledger.inherited())
        if checkpoint is None:
            return None
        request = claim.request
        entries = usable(
            checkpoint,
            part_bytes=self.part_bytes,
            files=len(request.sources),
            ordered=request.options.reproducible,
        )
        heir = Heir(self.storage, key, ledger, copies_in_flight=self.worker.parts_in_flight)
        with self.observer.tracer.span("take over", {"downloader.job.files": len(entries)}):
            heritage = await heir.take_over(checkpoint, entries)
        log.info("job.resumed" if heritage else "job.restarted", job_id=claim.job_id, files=len(entries))
        return heritage

    @asynccontextmanager
    async def _archive(
        self, key: str, ledger: Ledger, heritage: Heritage | None
    ) -> AsyncIterator[tuple[ArchiveWriter, Checkpointer]]:
        """The archive of this attempt, and its checkpoint, which is written to the end if the block fails."""
        checkpointer = Checkpointer(ledger, key, self.part_bytes, lambda: writer.confirmed)
        writer = ArchiveWriter(
            self.storage,
            key,
            part_bytes=self.part_bytes,
            parts_in_flight=self.worker.parts_in_flight,
            budget=self.cache.memory,
            ledger=ledger,
            begun=heritage.begun if heritage else None,
            landed=checkpointer.grown,
        )
        writing = asyncio.create_task(checkpointer.run(), name="checkpoint")
        try:
            if heritage:
                await writer.resume([(entry.head, entry.tail) for entry in heritage.entries], heritage.rest)
                checkpointer.inherit(heritage.entries)
            yield writer, checkpointer
        except BaseException:
            await _ended(writing)
            await _farewell(writer, checkpointer)
            raise
        finally:
            await _ended(writing)


def attempt_key(prefix: str, job_id: str, token: str) -> str:
    """The object key of one attempt's archive; unguessable, since the token holds a nonce."""
    return f"{prefix}{job_id}/{token}.zip"


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _farewell(writer: ArchiveWriter, checkpointer: Checkpointer) -> None:
    """Cut off what is on its way, and write down what the store has for whoever goes on; but not for ever."""
    with suppress(TimeoutError, DownloaderError):
        async with asyncio.timeout(FAREWELL_S):
            await writer.close()
            await checkpointer.write()


class _Run:
    """One attempt: files come in on one side, entries go out on the other."""

    def __init__(
        self,
        pipeline: Pipeline,
        claim: Claim,
        progress: Progress,
        writer: ArchiveWriter,
        checkpointer: Checkpointer,
        kept: Sequence[SavedEntry],
    ) -> None:
        """`kept` are the files that are in the archive already."""
        self._pipeline = pipeline
        self._cache = pipeline.cache
        self._observer = pipeline.observer
        self._claim = claim
        self._request = claim.request
        self._progress = progress
        self._writer = writer
        self._packer = Packer(writer, pipeline.cache.threads, claim.request.options, pipeline.worker.deflate)
        self._shelf = JobShelf(len(self._request.sources), ordered=self._request.options.reproducible)
        self._checkpointer = checkpointer
        self._names = NameBook()
        self._bytes = JobBytes(pipeline.most_bytes(claim.tenant))
        self._arriving: dict[int, Arriving] = {}
        self._results: dict[int, FileResult] = {}
        self._fetching = 0
        self.kept = list(kept) if self._request.options.keep_files else []
        for entry in kept:
            self._keep(entry.result)
        self._planned = [self._plan(source) for source in self._request.sources]

    def _keep(self, result: FileResult) -> None:
        """A file of an earlier attempt counts as one of ours; its name is in the archive, whoever wants it too."""
        if result.name:
            self._names.reserve(result.name)
        self._results[result.index] = result
        self._bytes.add(result.size or 0)
        self._shelf.skip(result.index)
        self._progress.resumed(result)

    def _plan(self, source: Source) -> str | None:
        """Names that the request gives are reserved in its order, whatever arrives first."""
        if (kept := self._results.get(source.index)) is not None:
            return kept.name
        wanted = wanted_name(source)
        return self._names.reserve(wanted) if wanted else None

    async def collect(self) -> None:
        """Fetch and pack all files; JobError when none could be had, or at the first that is missing if so wished."""
        missing = [source for source in self._request.sources if source.index not in self._results]
        waiting = iter(missing)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._pipeline.worker.files_in_flight, len(missing))):
                    group.create_task(self._fetch_all(waiting))
                group.create_task(self._pack_all())
        except BaseExceptionGroup as errors:
            raise _first(errors) from errors
        finally:
            for file in self._arriving.values():
                file.entry.close()
        if not any(file.status is FileStatus.DONE for file in self._results.values()):
            raise _nothing_to_pack(list(self._results.values()))

    # The fetching side

    async def _fetch_all(self, waiting: Iterator[Source]) -> None:
        for source in waiting:
            reserved = await self._admission()
            self._fetching += 1
            try:
                await self._fetch(source, Entry(self._cache, self._shelf, source.index, reserved))
            finally:
                self._fetching -= 1
                self._shelf.ring()

    async def _admission(self) -> int:
        """Wait until one more fetch makes sense, and reserve its first bytes; the only one needs no reservation."""
        while True:
            if not self._shelf.stalled and self._cache.memory.try_reserve(ADMISSION_BYTES):
                return ADMISSION_BYTES
            if not self._fetching:
                return 0
            changed = asyncio.Event()
            with self._cache.memory.watched_by(changed), self._shelf.watched_by(changed):
                await changed.wait()

    async def _fetch(self, source: Source, entry: Entry) -> None:
        inspected: asyncio.Future[Inspection] = asyncio.get_running_loop().create_future()
        intake = self._intake(source, entry, inspected)
        with self._observer.tracer.span("fetch", {"downloader.file.index": source.index}) as span:
            try:
                await self._pipeline.fetcher.fetch(source, intake, self._claim.tenant)
                inspected.set_result(await intake.finish())
            except SourceError as error:
                span.fail(error.code)
                self._missing(source, entry, error)
            except BaseException:
                entry.close()
                raise
            else:
                entry.finish()
                self._shelf.finished(entry)
            finally:
                span.note("downloader.file.bytes", intake.received)
                self._observer.meter.fetched(intake.received)
                inspected.cancel()
                await intake.close()

    def _intake(self, source: Source, entry: Entry, inspected: asyncio.Future[Inspection]) -> Intake:
        return Intake(
            source,
            entry,
            threads=self._cache.threads,
            progress=self._progress,
            job_bytes=self._bytes,
            max_file_bytes=self._pipeline.jobs.max_file_bytes,
            sha256=self._pipeline.worker.sha256 or self._request.options.manifest,
            named=lambda offer: self._arrives(source, entry, offer, inspected),
        )

    def _arrives(self, source: Source, entry: Entry, offer: Offer, inspected: asyncio.Future[Inspection]) -> str | None:
        """The source has answered: what the packing side needs to know, and the name as far as it is settled."""
        name = self._planned[source.index]
        if name is None and not self._request.options.reproducible:
            name = self._planned[source.index] = self._names.reserve(late_name(source, offer.filename))
        file = self._arriving.get(source.index)
        if file is None:
            file = self._arriving[source.index] = Arriving(entry, name or late_name(source, offer.filename), inspected)
        file.content_type, file.mtime, file.length = offer.content_type, self._time(offer), offer.length
        file.length_verified = offer.length_verified
        return name

    def _time(self, offer: Offer) -> datetime:
        if self._request.options.reproducible:
            return offer.last_modified or EPOCH
        return offer.last_modified or datetime.fromtimestamp(self._claim.created_ms / 1000, UTC)

    def _missing(self, source: Source, entry: Entry, error: SourceError) -> None:
        """A file will not come: say so, and drop what came of it; one that is followed is rolled back by the packer."""
        log.info("file.failed", file=source.index, url=public_url(source.url), code=error.code)
        entry.fail(error)
        self._shelf.failed(entry)
        if not entry.followed:
            self._give_up(source.index, error)

    def _give_up(self, index: int, error: SourceError) -> None:
        source = self._request.sources[index]
        name = self._planned[index]
        reason = FileError(error.code, error.message)
        self._arriving.pop(index, None)
        self._progress.failed(index, name, reason)
        self._observer.meter.file_failed(error.code)
        self._results[index] = FileResult(
            index, source.file_id, public_url(source.url), name, FileStatus.FAILED, error=reason
        )
        if self._request.options.on_error == "fail":
            raise JobError("file_failed", f"{name or source.file_id}: {error.message} ({error.code})")

    # The packing side

    async def _pack_all(self) -> None:
        while (entry := await self._shelf.take()) is not None:
            file = self._arriving[entry.index]
            if self._planned[entry.index] is None:  # reproducible: late names are reserved in request order too
                file.name = self._planned[entry.index] = self._names.reserve(file.name)
            try:
                packed = self._packer.put(file) or await self._packer.pack(file)
            except SourceError as error:
                self._give_up(entry.index, error)
            else:
                self._packed(file, packed)
            finally:
                entry.close()

    def _packed(self, file: Arriving, packed: Packed) -> None:
        index, name = file.entry.index, file.name
        source, inspection = self._request.sources[index], packed.inspection
        result = FileResult(
            index,
            source.file_id,
            public_url(source.url),
            name,
            FileStatus.DONE,
            inspection.size,
            inspection.content_type,
            inspection.sha256,
            f"{inspection.crc32:08x}",
            inspection.metadata,
            length_verified=file.length_verified,
        )
        del self._arriving[index]
        self._results[index] = result
        self._progress.done(result)
        self._observer.meter.file_done()
        entry = SavedEntry(packed.head, packed.tail, self._writer.position, result)
        self._checkpointer.committed(entry)
        if self._request.options.keep_files:
            self.kept.append(entry)

    # The service's own entries

    async def append_reports(self) -> None:
        """Add what is missing in words, and the manifest with checksums if wished."""
        files = [self._results[index] for index in range(len(self._request.sources))]
        texts: list[tuple[str, bytes]] = []
        if any(file.status is FileStatus.FAILED for file in files):
            texts.append((MISSING_NAME, missing_report(files)))
        if self._request.options.manifest:
            texts += [(MANIFEST_NAME, manifest(self._claim.job_id, files)), (CHECKSUMS_NAME, checksums(files))]
        for number, (name, text) in enumerate(texts):
            await self._append(len(files) + number, name, text)

    async def _append(self, index: int, name: str, text: bytes) -> None:
        created = datetime.fromtimestamp(self._claim.created_ms / 1000, UTC)
        mtime = EPOCH if self._request.options.reproducible else created
        await self._writer.begin(EntryHead(index, self._names.reserve(name), mtime, Method.STORED, len(text)))
        await self._writer.write([text])
        await self._writer.commit(zlib.crc32(text), len(text))


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended the group: ours if there is one, since the others only followed from it."""
    leaves = list(_leaves(errors))
    return next((error for error in leaves if isinstance(error, DownloaderError)), leaves[0])


def _leaves(errors: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _nothing_to_pack(files: list[FileResult]) -> JobError:
    """All files failed: the job fails, with the common code's sentence when there is one for all."""
    codes = {file.error.code for file in files if file.error}
    detail = f" ({next(iter(codes))})" if len(codes) == 1 else ""
    return JobError("all_files_failed", f"None of the {len(files)} files could be fetched{detail}.")
