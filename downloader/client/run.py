"""The order of events of each command, and what its exit code says.

| code | what it says                                                                     |
|------|----------------------------------------------------------------------------------|
| 0    | all is done; every file is in the archive                                        |
| 1    | the job failed or was cancelled, or the service said no                          |
| 2    | what was asked for cannot be begun: options, list, output, settings              |
| 3    | the archive is made, and files are missing in it                                 |
| 4    | the service or the store does not answer, or the time is up; nothing is lost     |
| 5    | the archive cannot be written here                                               |
| 130  | interrupted: Ctrl-C, SIGTERM, or the terminal was closed                         |
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shlex
import traceback
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from downloader.client.calls import Calls
from downloader.client.follow import follow
from downloader.client.lists import Wanted
from downloader.client.save import GONE, STALE, save
from downloader.client.server import JobRef
from downloader.client.stream import Following
from downloader.client.target import Note, PartFile, Sink, Stdout, target_of
from downloader.client.text import printable
from downloader.client.verify import DamagedError, verify
from downloader.client.views import View
from downloader.errors import (
    AskedWrongError,
    AwayError,
    ClientError,
    DownloaderError,
    RefusedError,
    SaveError,
    StartError,
)

OK, FAILED, ASKED_WRONG, PARTLY, AWAY, NOT_SAVED = range(6)
EXITS: dict[type[DownloaderError], int] = {
    AskedWrongError: ASKED_WRONG,
    StartError: ASKED_WRONG,
    RefusedError: FAILED,
    AwayError: AWAY,
    SaveError: NOT_SAVED,
}
CANCEL_S = 5.0
STDOUT_FD = 1


@dataclass(frozen=True, slots=True)
class Manner:
    """How a command is done: `output` is -o as it was given, `known` are the services that need no --server."""

    output: str | None = None
    force: bool = False
    saves: bool = True
    detach: bool = False
    verify: bool = False
    cancel_on_interrupt: bool = False
    known: tuple[str, ...] = ()

    @property
    def to_stdout(self) -> bool:
        """Whether the archive goes into a pipe."""
        return self.saves and self.output == "-"


class Errand:
    """One job from its post to its archive; `ref` is known once it has been taken in.

    `part` is what the archive is saved into, where its name is known before the job has ended.
    """

    def __init__(self, calls: Calls, view: View, manner: Manner, part: PartFile | None) -> None:
        self._calls, self._view, self._manner, self._part = calls, view, manner, part
        self.ref: JobRef | None = None

    async def fetch(self, wanted: Wanted, idempotency_key: str) -> int:
        """Post a job, or go on with the one that an interrupted command left, and bring its archive."""
        digest = hashlib.sha256(json.dumps(wanted.body, sort_keys=True).encode()).hexdigest()
        self.ref = await self._left_behind(digest)
        again = self.ref is not None
        if self.ref is None:
            accepted = await self._calls.initiate(wanted.body, idempotency_key or str(uuid.uuid4()))
            self.ref = JobRef(accepted["jobId"])
            if self._manner.detach:
                self._view.posted(self.ref.job_id, accepted["totalFiles"])
                return OK
            self._remember(self.ref, digest)
            self._view.started(self.ref.job_id, accepted["totalFiles"], again=False)
        return await self._to_the_end(self.ref, again=again)

    async def retry(self, ref: JobRef, idempotency_key: str) -> int:
        """Post a new job for what failed, and bring its archive if one is wanted."""
        accepted = await self._calls.retry(ref, idempotency_key or str(uuid.uuid4()))
        self.ref = JobRef(accepted["jobId"])
        if self._manner.detach:
            self._view.posted(self.ref.job_id, accepted["totalFiles"])
            return OK
        self._remember(self.ref)
        self._view.started(self.ref.job_id, accepted["totalFiles"], again=False)
        return await self._to_the_end(self.ref, again=False)

    async def watch(self, ref: JobRef) -> int:
        """Follow a job that is there, and bring its archive if one is wanted."""
        await self._calls.status(ref, files=False)  # a job that is not there leaves the part of another alone
        self.ref = ref
        self._remember(ref)
        return await self._to_the_end(ref, again=True)

    def _remember(self, ref: JobRef, digest: str = "") -> None:
        if self._part is not None:
            self._part.remember(Note(self._calls.server.base, ref.job_id, digest))

    def _forget(self) -> None:
        """Let the next command begin anew."""
        if self._part is not None:
            self._part.remember(None)

    async def _left_behind(self, digest: str) -> JobRef | None:
        """The job of this very request that an interrupted command left, if it is still worth going on with."""
        note = self._part.note if self._part is not None else None
        if note is None:
            return None
        if (note.server, note.digest) == (self._calls.server.base, digest):
            try:
                job = await self._calls.status(JobRef(note.job_id), files=False)
            except RefusedError as error:
                if error.code != "job_not_found":
                    raise
                job = {"status": "gone"}
            if job["status"] in {"queued", "processing"} or job.get("downloadUrl"):
                return JobRef(note.job_id)
        self._forget()
        return None

    async def _to_the_end(self, ref: JobRef, *, again: bool) -> int:
        heard = Following()
        if again:
            heard.hear_status(await self._calls.status(ref))
            self._view.started(ref.job_id, heard.job["totalFiles"], again=True)
            self._view.update(heard)
        if not heard.ended:
            await self._follow(ref, heard)
        job = await self._calls.status(ref)
        heard.hear_status(job)
        self._view.update(heard)
        missing = await self._missing(ref, heard)
        self._view.ended(job, missing)
        if job["status"] != "completed":
            self._forget()
            return FAILED
        if self._manner.saves:
            await self._bring(ref, job, heard)
        elif job.get("downloadUrl"):
            self._view.link(job["downloadUrl"])
        return PARTLY if job["filesFailed"] else OK

    async def _follow(self, ref: JobRef, before: Following) -> None:
        async for heard in follow(self._calls, ref, self._view.notice):
            self._view.update(heard)
            before.hear_files(heard.changed)
            heard.changed = []

    async def _missing(self, ref: JobRef, heard: Following) -> list[dict[str, Any]]:
        """The files that failed; those whose end no event told of are read page by page."""
        if not heard.has_all_ends:
            async for page in self._calls.files(ref):
                heard.hear_files(page)
                self._view.update(heard)
        failed = [file for file in heard.files.values() if file["status"] == "failed"]
        return sorted(failed, key=lambda file: int(file["index"]))

    async def _bring(self, ref: JobRef, job: dict[str, Any], heard: Following) -> None:
        if self._manner.to_stdout:
            await self._save(ref, job, Stdout(STDOUT_FD))
            return
        with self._at(job) as part:
            if self._part is None:
                self._part = part
                self._remember(ref)
            try:
                compared = await self._fill(ref, job, part, heard)
            except (RefusedError, SaveError) as error:
                if error.code in STALE:
                    self._forget()
                raise
            await part.finish()
        self._view.saved(str(part.target.path), part.received, compared)

    def _at(self, job: dict[str, Any]) -> AbstractContextManager[PartFile]:
        """The part to save into: the one that is open already, or one by the archive's own name."""
        if self._part is not None:
            return nullcontext(self._part)
        name = (job.get("archive") or {}).get("name")
        target = target_of(self._manner.output, name, force=self._manner.force)
        if target is None:
            raise RefusedError("archive_expired", GONE)
        return PartFile.open(target, lasts=not self._calls.server.is_own)

    async def _save(self, ref: JobRef, job: dict[str, Any], sink: Sink) -> None:
        await save(self._calls, ref, job, sink, self._view.saving)

    async def _fill(self, ref: JobRef, job: dict[str, Any], part: PartFile, heard: Following) -> int | None:
        """Bring the archive into the part; gives how many of its files were compared.

        What an earlier command left is always compared, and fetched anew if it was damaged, as by a loss of power.
        """
        files, was_left = list(heard.files.values()), part.received > 0
        await self._save(ref, job, part)
        if was_left:
            with suppress(DamagedError):
                return await asyncio.to_thread(verify, part.target.part, files)
            self._view.notice("what an earlier command left of the archive is damaged; fetching it anew")
            part.restart()
            await self._save(ref, job, part)
        return await asyncio.to_thread(verify, part.target.part, files) if self._manner.verify else None

    async def interrupted(self, command: str) -> None:
        """Say how to go on after Ctrl-C, or cancel the job where that was wished."""
        if self.ref is None:
            self._view.notice("interrupted; no job was begun")
        elif not (self._manner.cancel_on_interrupt or self._calls.server.is_own):
            self._view.notice(f"interrupted; the job goes on. {self.how_to_go_on(command)}")
        else:
            try:
                async with asyncio.timeout(CANCEL_S):
                    await self._calls.cancel(self.ref)
                self._forget()
                self._view.notice(f"interrupted; job {self.ref.job_id} is cancelled")
            except (ClientError, TimeoutError):
                self._view.notice(f"interrupted; job {self.ref.job_id} could not be cancelled")

    def how_to_go_on(self, command: str) -> str:
        """The command that follows the job again."""
        if self.ref is None or self._calls.server.is_own:
            return ""
        if self.ref.token:
            return "To see it through, give the same command again"
        output = f" -o {shlex.quote(self._manner.output)}" if self._manner.saves and self._manner.output else ""
        if self._manner.saves and not output and command != "watch":
            output = " -o ."
        base = self._calls.server.base
        server = "" if base in self._manner.known else f" --server {shlex.quote(base)}"
        return f"To see it through: downloader watch {self.ref.job_id}{output}{server}"


async def guarded(view: View, work: Awaitable[int], wanted: Wanted | None = None, hint: Callable[[], str] = str) -> int:
    """Do the work; whatever it raises is told by the view, and becomes the exit code."""
    try:
        return await work
    except BrokenPipeError:  # whoever read our output has what was wanted
        return NOT_SAVED
    except (ClientError, StartError) as error:
        code = next(code for kind, code in EXITS.items() if isinstance(error, kind))
        lines = [f"error: {printable(error.message)}"]
        if isinstance(error, RefusedError) and error.faults:
            places = [(wanted.place_of(fault) if wanted else fault.pointer, fault.detail) for fault in error.faults]
            lines = [f"error: {place or 'the request'}: {printable(detail)}" for place, detail in places]
        if isinstance(error, AwayError | SaveError) and hint():
            lines.append(hint())
        return _failed(view, error, code, lines)
    except ExceptionGroup:  # the service of this process has died, and tells of it
        raise
    except Exception as error:  # noqa: BLE001 - the rim of the command: a person has no use for a traceback
        internal = DownloaderError("internal", f"a fault of this program, please report it: {_where(error)}")
        return _failed(view, internal, FAILED, [f"error: {internal.message}"])


def _failed(view: View, error: DownloaderError, code: int, lines: list[str]) -> int:
    with suppress(OSError, SaveError):  # where the error is that nothing can be printed
        view.failed(error, code, lines)
    return code


def _where(error: Exception) -> str:
    """What happened in which line of our own, without what it happened to."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {frame.name}, {PurePath(frame.filename).name} line {frame.lineno}"


async def within(timeout_s: float | None, work: Awaitable[int]) -> int:
    """Do the work in this time, None for any; AwayError when it is up."""
    try:
        async with asyncio.timeout(timeout_s):
            return await work
    except TimeoutError:
        raise AwayError(f"not done within {timeout_s:g} s (--timeout)", "timeout") from None
