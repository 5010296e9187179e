"""The order of events of each command, and what its exit code says.

| code | what it says                                                                     |
|------|----------------------------------------------------------------------------------|
| 0    | all is done; every file is in the archive                                        |
| 1    | the job failed or was cancelled, or the service said no                          |
| 2    | what was asked for cannot be begun: options, list, output, settings              |
| 3    | the archive is made, and files are missing in it                                 |
| 4    | the service or the store does not answer, or the time is up; nothing is lost     |
| 5    | the archive cannot be written here                                               |
| 130  | interrupted by Ctrl-C                                                            |
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shlex
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from downloader.client.calls import Calls
from downloader.client.follow import follow
from downloader.client.lists import Wanted
from downloader.client.save import save
from downloader.client.server import JobRef
from downloader.client.stream import Following
from downloader.client.target import Note, PartFile, Sink, Stdout, target_of
from downloader.client.text import printable
from downloader.client.verify import verify
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
    """One job from its post to its archive; `ref` is known once it has been taken in."""

    def __init__(self, calls: Calls, view: View, manner: Manner, say: Callable[[str], None]) -> None:
        self._calls, self._view, self._manner, self._say = calls, view, manner, say
        self.ref: JobRef | None = None

    async def fetch(self, wanted: Wanted, idempotency_key: str, part: PartFile | None) -> int:
        """Post a job, or go on with the one that an interrupted command left, and bring its archive."""
        digest = hashlib.sha256(json.dumps(wanted.body, sort_keys=True).encode()).hexdigest()
        self.ref = await self._left_behind(part, digest)
        again = self.ref is not None
        if self.ref is None:
            accepted = await self._calls.initiate(wanted.body, idempotency_key or str(uuid.uuid4()))
            self.ref = JobRef(str(accepted["jobId"]))
            if self._manner.detach:
                self._say(self.ref.job_id)
                return OK
            if part is not None and not self._calls.server.is_own:
                part.remember(Note(self._calls.server.base, self.ref.job_id, digest))
            self._view.started(self.ref.job_id, accepted["totalFiles"], again=False)
        return await self._to_the_end(self.ref, part, again=again)

    async def retry(self, ref: JobRef, idempotency_key: str, part: PartFile | None) -> int:
        """Post a new job for what failed, and bring its archive if one is wanted."""
        accepted = await self._calls.retry(ref, idempotency_key or str(uuid.uuid4()))
        self.ref = JobRef(str(accepted["jobId"]))
        if self._manner.detach:
            self._say(self.ref.job_id)
            return OK
        self._remember(part, self.ref)
        self._view.started(self.ref.job_id, accepted["totalFiles"], again=False)
        return await self._to_the_end(self.ref, part, again=False)

    async def watch(self, ref: JobRef, part: PartFile | None) -> int:
        """Follow a job that is there, and bring its archive if one is wanted."""
        await self._calls.status(ref, files=False)  # a job that is not there leaves the part of another alone
        self.ref = ref
        self._remember(part, ref)
        return await self._to_the_end(ref, part, again=True)

    def _remember(self, part: PartFile | None, ref: JobRef) -> None:
        if part is not None:
            part.remember(Note(self._calls.server.base, ref.job_id))

    async def _left_behind(self, part: PartFile | None, digest: str) -> JobRef | None:
        """The job of this very request that an interrupted command left, if it is still worth going on with."""
        note = part.note if part is not None else None
        if part is None or note is None:
            return None
        if (note.server, note.digest) == (self._calls.server.base, digest):
            try:
                job = await self._calls.status(JobRef(note.job_id), files=False)
            except RefusedError:
                job = {"status": "gone"}
            if job["status"] in {"queued", "processing"} or job.get("downloadUrl"):
                return JobRef(note.job_id)
        part.remember(None)
        return None

    async def _to_the_end(self, ref: JobRef, part: PartFile | None, *, again: bool) -> int:
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
            if part is not None:
                part.remember(None)
            return FAILED
        if self._manner.saves:
            await self._bring(ref, job, part, heard)
        elif job.get("downloadUrl"):
            self._say(job["downloadUrl"])
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

    async def _bring(self, ref: JobRef, job: dict[str, Any], part: PartFile | None, heard: Following) -> None:
        if self._manner.to_stdout:
            await self._save(ref, job, Stdout(STDOUT_FD))
            return
        with _at(part, self._manner, job) as own:
            if own is not part:
                self._remember(own, ref)
            await self._save(ref, job, own)
            compared = await self._compare(own, heard)
            await own.finish()
        self._view.saved(str(own.target.path), own.received, compared)

    async def _save(self, ref: JobRef, job: dict[str, Any], sink: Sink) -> None:
        await save(self._calls, ref, job, sink, self._view.saving)

    async def _compare(self, part: PartFile, heard: Following) -> int | None:
        if not self._manner.verify:
            return None
        try:
            return await asyncio.to_thread(verify, part.target.part, list(heard.files.values()))
        except SaveError:
            part.remember(None)
            raise

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
                self._view.notice(f"interrupted; job {self.ref.job_id} is cancelled")
            except (ClientError, TimeoutError):
                self._view.notice(f"interrupted; job {self.ref.job_id} could not be cancelled")

    def how_to_go_on(self, command: str) -> str:
        """The command that follows the job again."""
        if self.ref is None or self._calls.server.is_own:
            return ""
        output = f" -o {shlex.quote(self._manner.output)}" if self._manner.saves and self._manner.output else ""
        if self._manner.saves and not output and command != "watch":
            output = " -o ."
        base = self._calls.server.base
        server = "" if base in self._manner.known else f" --server {shlex.quote(base)}"
        return f"To see it through: downloader watch {self.ref.job_id}{output}{server}"


def _at(part: PartFile | None, manner: Manner, job: dict[str, Any]) -> AbstractContextManager[PartFile]:
    """The part to save into: the one that is open already, or one by the archive's own name."""
    if part is not None:
        return nullcontext(part)
    target = target_of(manner.output, job["archive"]["name"], force=manner.force)
    if target is None:
        raise AskedWrongError("the archive has no name; give one with -o")
    return PartFile.open(target)


async def guarded(view: View, work: Awaitable[int], wanted: Wanted | None = None, hint: Callable[[], str] = str) -> int:
    """Do the work; whatever it raises of our own is told by the view, and becomes the exit code."""
    try:
        return await work
    except BrokenPipeError:  # whoever read our output has what was wanted; the interpreter's last flush needs a place
        os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT_FD)
        return NOT_SAVED
    except (ClientError, StartError) as error:
        code = next(code for kind, code in EXITS.items() if isinstance(error, kind))
        lines = [f"error: {printable(error.message)}"]
        if isinstance(error, RefusedError) and error.faults:
            places = [(wanted.place_of(fault) if wanted else fault.pointer, fault.detail) for fault in error.faults]
            lines = [f"error: {place or 'the request'}: {printable(detail)}" for place, detail in places]
        if isinstance(error, AwayError | SaveError) and hint():
            lines.append(hint())
        view.failed(error, code, lines)
        return code


async def within(timeout_s: float | None, work: Awaitable[int]) -> int:
    """Do the work in this time, None for any; AwayError when it is up."""
    try:
        async with asyncio.timeout(timeout_s):
            return await work
    except TimeoutError:
        raise AwayError(f"not done within {timeout_s:g} s (--timeout)", "timeout") from None
