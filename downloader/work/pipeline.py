"""One job, top to bottom: fetch all files, pack each as its turn comes, finish the archive, verify it.

`Pipeline.run` is the list of steps. `_Run` holds what belongs to one attempt; its fetching side and its packing side
meet at the shelf.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog

from downloader.config import JobsSettings, WorkerSettings
from downloader.errors import DownloaderError, JobError, SourceError
from downloader.jobs import Claim, Completed, FileError, FileResult, FileStatus, Source, public_url
from downloader.names import NameBook, late_name, wanted_name
from downloader.work.archive import ArchiveWriter, EntryHead, Method
from downloader.work.cache import ADMISSION_BYTES, Cache, Entry
from downloader.work.fetch import Fetcher, Offer
from downloader.work.inspection import Inspection
from downloader.work.intake import Intake, JobBytes
from downloader.work.packing import Arriving, Packer
from downloader.work.progress import Progress
from downloader.work.reports import (
    CHECKSUMS_NAME,
    MANIFEST_NAME,
    MISSING_NAME,
    checksums,
    manifest,
    missing_report,
)
from downloader.work.shelf import JobShelf
from downloader.work.storage import Storage

ABORT_LIMIT_S = 10.0
# The time of entries in a reproducible archive whose source names none: the first that ZIP knows.
EPOCH = datetime(1980, 1, 1, tzinfo=UTC)

UploadOpened = Callable[[str, str], Awaitable[None]]

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

    async def run(self, claim: Claim, progress: Progress, upload_opened: UploadOpened) -> Completed:
        """Do the job and give its archive; JobError when it cannot be done.

        `upload_opened(upload id, key)` is awaited before the first part goes out. Whatever happens, an archive that
        is not returned leaves no upload and no object behind as long as the store answers.
        """
        if not claim.request.sources:
            raise JobError("request_gone", "The request of this job is no longer there.")
        try:
            async with asyncio.timeout(self.jobs.deadline_s), self._archive(claim, upload_opened) as writer:
                run = _Run(self, claim, progress, writer)
                await run.collect()
                await run.append_reports()
                archive = replace(await writer.finish(), name=claim.request.archive_name)
        except TimeoutError as error:
            raise JobError("deadline_exceeded", f"The job took longer than {self.jobs.deadline_s:g} s.") from error
        figures = progress.figures()
        return Completed(archive, figures.done, figures.failed)

    @asynccontextmanager
    async def _archive(self, claim: Claim, upload_opened: UploadOpened) -> AsyncIterator[ArchiveWriter]:
        """The archive of this attempt under a key of its own; aborted unless the block ends well."""
        key = attempt_key(self.key_prefix, claim.job_id, claim.token)
        writer = ArchiveWriter(
            self.storage,
            key,
            part_bytes=self.part_bytes,
            parts_in_flight=self.worker.parts_in_flight,
            budget=self.cache.memory,
            upload_opened=lambda upload_id: upload_opened(upload_id, key),
        )
        try:
            yield writer
        except BaseException:
            await _within(ABORT_LIMIT_S, writer.abort(), key)
            raise


def attempt_key(prefix: str, job_id: str, token: str) -> str:
    """The object key of one attempt's archive; unguessable, since the token holds a nonce."""
    return f"{prefix}{job_id}/{token}.zip"


async def _within(limit_s: float, cleaning: Awaitable[None], key: str) -> None:
    """Clean up, but not for ever: what is left is swept later."""
    try:
        async with asyncio.timeout(limit_s):
            await cleaning
    except (TimeoutError, DownloaderError) as error:
        log.warning("archive.abort_failed", key=key, reason=str(error) or "timeout")


class _Run:
    """One attempt: files come in on one side, entries go out on the other."""

    def __init__(self, pipeline: Pipeline, claim: Claim, progress: Progress, writer: ArchiveWriter) -> None:
        self._pipeline = pipeline
        self._cache = pipeline.cache
        self._claim = claim
        self._request = claim.request
        self._progress = progress
        self._writer = writer
        self._packer = Packer(writer, pipeline.cache.threads, claim.request.options, pipeline.worker.deflate)
        self._shelf = JobShelf(len(self._request.sources), ordered=self._request.options.reproducible)
        self._names = NameBook()
        self._planned = [self._plan(source) for source in self._request.sources]
        self._bytes = JobBytes(pipeline.jobs.max_job_bytes)
        self._arriving: dict[int, Arriving] = {}
        self._results: dict[int, FileResult] = {}
        self._fetching = 0

    def _plan(self, source: Source) -> str | None:
        """Names that the request gives are reserved in its order, whatever arrives first."""
        wanted = wanted_name(source)
        return self._names.reserve(wanted) if wanted else None

    async def collect(self) -> None:
        """Fetch and pack all files; JobError when none could be had, or at the first that is missing if so wished."""
        waiting = iter(self._request.sources)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._pipeline.worker.files_in_flight, len(self._request.sources))):
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
        intake = Intake(
            source,
            entry,
            threads=self._cache.threads,
            progress=self._progress,
            job_bytes=self._bytes,
            max_file_bytes=self._pipeline.jobs.max_file_bytes,
            named=lambda offer: self._arrives(source, entry, offer, inspected),
        )
        try:
            await self._pipeline.fetcher.fetch(source, intake)
            inspected.set_result(await intake.finish())
        except SourceError as error:
            self._missing(source, entry, error)
        except BaseException:
            entry.close()
            raise
        else:
            entry.finish()
            self._shelf.finished(entry)
        finally:
            inspected.cancel()
            await intake.close()

    def _arrives(self, source: Source, entry: Entry, offer: Offer, inspected: asyncio.Future[Inspection]) -> str | None:
        """The source has answered: what the packing side needs to know, and the name as far as it is settled."""
        name = self._planned[source.index]
        if name is None and not self._request.options.reproducible:
            name = self._planned[source.index] = self._names.reserve(late_name(source, offer.filename))
        file = self._arriving.get(source.index)
        if file is None:
            file = self._arriving[source.index] = Arriving(entry, name or late_name(source, offer.filename), inspected)
        file.content_type, file.mtime, file.length = offer.content_type, self._time(offer), offer.length
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
                inspection = await self._packer.pack(file)
            except SourceError as error:
                self._give_up(entry.index, error)
            else:
                self._packed(entry.index, file.name, inspection)
            finally:
                entry.close()

    def _packed(self, index: int, name: str, inspection: Inspection) -> None:
        source = self._request.sources[index]
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
        )
        del self._arriving[index]
        self._results[index] = result
        self._progress.done(result)

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
