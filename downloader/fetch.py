"""The commands of a client: `fetch`, `watch`, `jobs`, `retry`, `cancel`. What they do is in `client/`."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from downloader.errors import AskedWrongError
from downloader.options import FOR_FILES, Sets, examples, overrides

if TYPE_CHECKING:
    from downloader.client.lists import Wanted
    from downloader.client.run import Errand, Manner
    from downloader.client.server import JobRef, Server
    from downloader.client.target import PartFile
    from downloader.client.views import View
    from downloader.lifetime import Stop

DEFAULT_SERVER = "http://127.0.0.1:8080"
STDIN_FD, STDOUT_FD = 0, 1

ServerUrl = Annotated[
    str | None, typer.Option("--server", envvar="DOWNLOADER_URL", metavar="URL", help="Base URL of the service.")
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        envvar="DOWNLOADER_KEY",
        metavar="KEY",
        help="API key. Others see what stands in a command; use the variable, or --key-file.",
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option("--key-file", envvar="DOWNLOADER_KEY_FILE", metavar="FILE", help="File that holds the API key."),
]
Job = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, or any URL of it.")]
Output = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="PATH", help="File, folder (its own name), or - for standard output."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the output if it is there.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per line on standard output.")]
IsQuiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; only what is missing, and errors.")]
Timeout = Annotated[
    float | None, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="Give up after so long (status 4).")
]
Verify = Annotated[bool, typer.Option("--verify", help="Compare each file in the archive with its SHA-256.")]
Detach = Annotated[bool, typer.Option("--detach", help="Post the job, print its id, and leave.")]
CancelOnInterrupt = Annotated[
    bool, typer.Option("--cancel-on-interrupt", help="Ctrl-C cancels the job; else it goes on without you.")
]
IdempotencyKey = Annotated[
    str,
    typer.Option("--idempotency-key", metavar="TEXT", help="The same text gives the same job, for a day."),
]

_JOB = "0b7c2f4e-9f5d-4c1e-8a53-0d1f7c9be001"
_EXITS = """

Exit status: 0 all files are there, 3 some are missing, 1 failed or refused, 2 wrong use, 4 no answer, 5 not saved,
130 Ctrl-C."""
EXAMPLES = {
    "fetch": examples(
        "downloader fetch https://example.com/a.pdf https://example.com/b.pdf",
        "downloader fetch @list.txt -o out.zip --on-error fail --verify",
        "grep pdf links.txt | downloader fetch - -o pdfs/ --server http://host:8080",
        "downloader fetch @list.txt -o - | bsdtar -xf - -C folder",
        "downloader fetch @list.txt -o out.zip --json | jq .event",
        "downloader fetch @inside.txt --set sources.allow_networks=10.0.0.0/8",
    )
    + _EXITS,
    "watch": examples(
        f"downloader watch {_JOB}",
        f"downloader watch {_JOB} -o out.zip",
        "downloader watch 'https://host/v1/download/status/ID?token=...' -o .",
    )
    + _EXITS,
    "jobs": examples(
        "downloader jobs",
        "downloader jobs --status queued,processing --server http://host:8080",
        "downloader jobs --json | jq -r 'select(.filesFailed > 0).jobId'",
    ),
    "retry": examples(
        f"downloader retry {_JOB} -o missing.zip",
        f"new=$(downloader retry {_JOB} --detach)",
    ),
    "cancel": examples(f"downloader cancel {_JOB}"),
}


@dataclass(frozen=True, slots=True)
class Way:
    """How a command reaches its service and its person; `config` and `sets` are for a service of its own."""

    url: str | None
    key: str | None
    key_file: Path | None
    as_json: bool = False
    quiet: bool = False
    timeout_s: float | None = None
    config: Path | None = None
    sets: tuple[str, ...] = ()

    @property
    def known(self) -> tuple[str, ...]:
        """The services that a command reaches without being told."""
        return DEFAULT_SERVER, os.environ.get("DOWNLOADER_URL", "").strip().rstrip("/")


def fetch(  # noqa: PLR0913 - each option is an argument
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE", help="URLs, @list.txt, or - for a list from standard input.")
    ],
    output: Output = None,
    *,
    force: Force = False,
    name: Annotated[str | None, typer.Option(help="The archive's own name.")] = None,
    on_error: Annotated[
        Literal["skip", "fail"] | None, typer.Option(help="Skip files that cannot be had, or fail the job.")
    ] = None,
    manifest: Annotated[bool, typer.Option("--manifest", help="Add manifest.json and SHA256SUMS.")] = False,
    compress: Annotated[Literal["auto", "yes", "no"] | None, typer.Option(help="Compress what pays, or all.")] = None,
    keep_files: Annotated[bool, typer.Option("--keep-files", help="Keep each file beside the archive too.")] = False,
    reproducible: Annotated[bool, typer.Option("--reproducible", help="Same files, same bytes.")] = False,
    idempotency_key: IdempotencyKey = "",
    detach: Detach = False,
    cancel_on_interrupt: CancelOnInterrupt = False,
    verify: Verify = False,
    as_json: AsJson = False,
    quiet: IsQuiet = False,
    timeout: Timeout = None,
    server: ServerUrl = None,
    key: Key = None,
    key_file: KeyFile = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Settings for this process, without --server.")
    ] = None,
    sets: Sets = None,
) -> None:
    """Fetch files into one archive, by a service or, without --server, in this process.

    A list has one URL per line, or name<TAB>URL; # begins a comment. CSV with a column url, and JSON as the API takes
    it, will do too. An interrupted command goes on where it stopped when it is given again.
    """
    from downloader.client.lists import read_wanted
    from downloader.client.run import Manner

    way = Way(server, key, key_file, as_json, quiet, timeout, config, tuple(sets or ()))
    manner = Manner(output, force, True, detach, verify, cancel_on_interrupt, way.known)  # noqa: FBT003
    options = {
        "onError": on_error,
        "compress": compress and {"auto": "auto", "yes": True, "no": False}[compress],
        "manifest": manifest or None,
        "keepFiles": keep_files or None,
        "reproducible": reproducible or None,
    }
    # Read before the loop begins, where Ctrl-C ends a wait for standard input at once.
    wanted = _tried(lambda: read_wanted(sources, _read_stdin).refined(name, options))

    async def work(desk: Desk) -> int:
        if isinstance(wanted, AskedWrongError):
            raise wanted
        _check(way, manner, idempotency_key)
        if way.url and (config or sets):
            raise AskedWrongError("--set and --config are for a fetch without a service; leave out --server, or these")
        if detach and not way.url:
            raise AskedWrongError("--detach needs a service that stays: give --server, or set DOWNLOADER_URL")
        at = _server(way) if way.url else None
        async with AsyncExitStack() as stack:
            part = _part(stack, manner, wanted.archive_name, lasts=at is not None)
            errand = await stack.enter_async_context(desk.errand(manner, at, part))
            return await errand.fetch(wanted, idempotency_key)

    _run(way, "fetch", work, wanted)


def watch(  # noqa: PLR0913 - each option is an argument
    job: Job,
    output: Output = None,
    *,
    force: Force = False,
    verify: Verify = False,
    cancel_on_interrupt: CancelOnInterrupt = False,
    as_json: AsJson = False,
    quiet: IsQuiet = False,
    timeout: Timeout = None,
    server: ServerUrl = None,
    key: Key = None,
    key_file: KeyFile = None,
) -> None:
    """Follow a job to its end, and save its archive with -o; without, print the link to it."""
    from downloader.client.run import Manner

    way = Way(server, key, key_file, as_json, quiet, timeout)
    manner = Manner(output, force, bool(output), False, verify, cancel_on_interrupt, way.known)  # noqa: FBT003

    async def work(desk: Desk) -> int:
        _check(way, manner)
        ref, at = _job(way, job)
        async with AsyncExitStack() as stack:
            part = _part(stack, manner, None)
            errand = await stack.enter_async_context(desk.errand(manner, at, part))
            return await errand.watch(ref)

    _run(way, "watch", work)


def retry(  # noqa: PLR0913 - each option is an argument
    job: Job,
    output: Output = None,
    *,
    force: Force = False,
    idempotency_key: IdempotencyKey = "",
    detach: Detach = False,
    cancel_on_interrupt: CancelOnInterrupt = False,
    verify: Verify = False,
    as_json: AsJson = False,
    quiet: IsQuiet = False,
    timeout: Timeout = None,
    server: ServerUrl = None,
    key: Key = None,
    key_file: KeyFile = None,
) -> None:
    """Start a new job for the files of JOB that failed (all of a failed job), and see it through as `watch` does."""
    from downloader.client.run import Manner

    way = Way(server, key, key_file, as_json, quiet, timeout)
    manner = Manner(output, force, bool(output), detach, verify, cancel_on_interrupt, way.known)

    async def work(desk: Desk) -> int:
        _check(way, manner, idempotency_key)
        ref, at = _job(way, job)
        async with AsyncExitStack() as stack:
            part = _part(stack, manner, None)
            errand = await stack.enter_async_context(desk.errand(manner, at, part))
            return await errand.retry(ref, idempotency_key)

    _run(way, "retry", work)


def cancel(
    job: Job,
    *,
    as_json: AsJson = False,
    server: ServerUrl = None,
    key: Key = None,
    key_file: KeyFile = None,
) -> None:
    """Cancel a job; one that has ended stays as it is, and the status is 1 if it was not cancelled."""
    way = Way(server, key, key_file, as_json)

    async def work(desk: Desk) -> int:
        from downloader.client import table
        from downloader.client.calls import Calls

        ref, at = _job(way, job)
        async with Calls.open(at, notice=desk.view.notice) as calls:
            return await table.cancel(calls, ref, as_json=as_json)

    _run(way, "cancel", work)


def jobs(
    *,
    status: Annotated[
        str, typer.Option(metavar="STATUS[,...]", help="queued, processing, completed, failed, cancelled.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, newest first.")] = 20,
    as_json: AsJson = False,
    server: ServerUrl = None,
    key: Key = None,
    key_file: KeyFile = None,
) -> None:
    """List your jobs, newest first."""
    way = Way(server, key, key_file, as_json)

    async def work(desk: Desk) -> int:
        from downloader.client import table
        from downloader.client.calls import Calls

        async with Calls.open(_server(way), notice=desk.view.notice) as calls:
            return await table.jobs(calls, status, limit, as_json=as_json)

    _run(way, "jobs", work)


def add_to(app: typer.Typer) -> None:
    """Make these commands part of `app`."""
    for command, short in (
        (fetch, "Fetch files into one archive."),
        (watch, "Follow a job to its end, and save its archive."),
        (jobs, "List your jobs."),
        (retry, "Start a new job for the files that failed."),
        (cancel, "Cancel a job."),
    ):
        app.command(rich_help_panel=FOR_FILES, short_help=short, epilog=EXAMPLES[command.__name__])(command)


@dataclass(frozen=True, slots=True)
class Desk:
    """What a command works with: what it shows, whether it is to stop, and the errand once there is one."""

    command: str
    way: Way
    view: View
    stop: Stop
    begun: list[Errand] = field(default_factory=list)

    def hint(self) -> str:
        """How to go on after an outage."""
        return self.begun[0].how_to_go_on(self.command) if self.begun else ""

    @asynccontextmanager
    async def errand(self, manner: Manner, at: Server | None, part: PartFile | None) -> AsyncIterator[Errand]:
        """Yield an errand at the service `at`, else at one of this process; Ctrl-C is answered while it is there."""
        import asyncio  # the help does without it

        from downloader.client.calls import Calls
        from downloader.client.run import Errand

        async with self._service(at) as server, Calls.open(server, notice=self.view.notice) as calls:
            if server.tells_key_to_all:
                self.view.notice(f"the key goes to {server.base} unencrypted; use https://")
            errand = Errand(calls, self.view, manner, part)
            self.begun.append(errand)
            try:
                yield errand
            except asyncio.CancelledError:
                if self.stop.is_asked:
                    await errand.interrupted(self.command)
                raise

    @asynccontextmanager
    async def _service(self, at: Server | None) -> AsyncIterator[Server]:
        if at is not None:
            yield at
            return
        from downloader.local import local  # only here: it loads the whole house

        self.view.notice("no --server is given: starting the service in this process")
        async with local(self.way.config, overrides(list(self.way.sets))) as server:
            yield server


def _run(
    way: Way, command: str, work: Callable[[Desk], Awaitable[int]], wanted: Wanted | AskedWrongError | None = None
) -> NoReturn:
    """Do the work of a command on a loop of its own, and leave with its status."""
    from downloader import lifetime, logs
    from downloader.client import run, views

    logs.set_up(logs.ErrorsOnly())

    async def task(stop: Stop) -> int:
        with views.view_of(as_json=way.as_json, quiet=way.quiet) as view:
            desk = Desk(command, way, view, stop)
            asked = None if isinstance(wanted, AskedWrongError) else wanted
            return await run.guarded(view, run.within(way.timeout_s, work(desk)), asked, desk.hint)

    code = lifetime.run(task, interrupted=lifetime.EXIT_INTERRUPTED)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # all is done: a second Ctrl-C must not end in a traceback
    raise typer.Exit(code)


def _server(way: Way) -> Server:
    from downloader.client.server import Server

    return Server.of(way.url or DEFAULT_SERVER, _key(way))


def _key(way: Way) -> str:
    """The key: what the command says goes before what the environment says, and there a key before a file."""
    key_is_said = bool(way.key) and way.key != os.environ.get("DOWNLOADER_KEY")
    file_is_said = way.key_file is not None and str(way.key_file) != os.environ.get("DOWNLOADER_KEY_FILE")
    if key_is_said and file_is_said:
        raise AskedWrongError("--key and --key-file are both given; give one of them")
    if way.key_file is None or (way.key and not file_is_said):
        return way.key or ""
    try:
        return way.key_file.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise AskedWrongError(f"--key-file {way.key_file}: cannot be read ({why})") from error


def _job(way: Way, job: str) -> tuple[JobRef, Server]:
    from downloader.client.server import job_of

    return job_of(job, _server(way), server_is_given=bool(way.url))


def _part(stack: AsyncExitStack, manner: Manner, name: str | None, *, lasts: bool = True) -> PartFile | None:
    """The part of the archive's file, as far as its name is known before the job has ended; AskedWrongError."""
    from downloader.client.target import PartFile, target_of

    if not manner.saves or manner.detach or manner.to_stdout:
        return None
    target = target_of(manner.output, name, force=manner.force)
    return stack.enter_context(PartFile.open(target, lasts=lasts)) if target is not None else None


def _check(way: Way, manner: Manner, idempotency_key: str = "") -> None:
    """AskedWrongError for wishes that cannot be had, or not together."""
    if not re.fullmatch(r"[!-~]{0,255}", idempotency_key):
        raise AskedWrongError("--idempotency-key takes at most 255 visible ASCII characters, without spaces")
    if manner.to_stdout and way.as_json:
        raise AskedWrongError("--json and -o - both want standard output; save the archive to a file")
    if manner.to_stdout and os.isatty(STDOUT_FD):
        raise AskedWrongError("-o - would write the archive to the terminal; send it through a pipe")
    if manner.to_stdout and manner.verify:
        raise AskedWrongError("--verify needs a file; take another -o")


def _read_stdin(most: int) -> bytes:
    with open(STDIN_FD, "rb", closefd=False) as stdin:
        return stdin.read(most)


def _tried(make: Callable[[], Wanted]) -> Wanted | AskedWrongError:
    """What cannot be read is told when there is something to tell it with."""
    try:
        return make()
    except AskedWrongError as error:
        return error
