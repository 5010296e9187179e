"""The life of the process: one event loop, ended gently by the first signal and at once by the second."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Self

import structlog

from downloader.errors import StartError

log = structlog.get_logger(__name__)

EXIT_FAILED = 1
EXIT_NOT_STARTED = 2
EXIT_INTERRUPTED = 130
OPEN_FILES_MOST = 65_536
# Where a terminal is closed, its programs get SIGHUP, unless `nohup` has said otherwise; Windows has none.
HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)
SIGNALS = (signal.SIGINT, signal.SIGTERM, *([HANGUP] if HANGUP else []))


class Stop:
    """What a signal does: it ends the wait in `asked`; before that wait has begun it cancels the task.

    `was_awaited` says that the wait has begun: everything is up.
    """

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self.was_awaited = False
        self._task: asyncio.Task[Any] | None = None
        self._before: list[tuple[signal.Signals, Any]] = []

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            before = signal.getsignal(number)
            if number == HANGUP and before == signal.SIG_IGN:
                continue
            self._before.append((number, before))
            if sys.platform == "win32":
                signal.signal(number, lambda *_: loop.call_soon_threadsafe(self._signalled))
            else:
                loop.add_signal_handler(number, self._signalled)
        return self

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for number, before in self._before:
            if sys.platform != "win32":
                loop.remove_signal_handler(number)
            signal.signal(number, before)

    async def asked(self) -> None:
        """Wait for the first signal."""
        self.was_awaited = True
        await self._asked.wait()

    @property
    def is_asked(self) -> bool:
        """Whether a signal has come."""
        return self._asked.is_set()

    def _signalled(self) -> None:
        if self._asked.is_set():
            os._exit(EXIT_INTERRUPTED)
        self._asked.set()
        if not self.was_awaited and self._task is not None:
            self._task.cancel()


def run(work: Callable[[Stop], Coroutine[Any, Any, int]], *, interrupted: int = 0) -> int:
    """Run `work` on a loop of its own, uvloop's where there is one; its result is the exit code.

    `interrupted` is the code when a signal comes before `work` waits for one; 2, with a line on standard error, when
    the service cannot start; 1 when it died.
    """
    stop = Stop()
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_until_stopped(stop, work, interrupted))
    except Exception as error:
        # The rim of the process: nothing lies above.
        reasons = _start_errors(error)
        for reason in reasons:
            print(f"error: {reason.message}", file=sys.stderr)  # noqa: T201 - to the person who starts the service
        if reasons and not stop.was_awaited:
            return EXIT_NOT_STARTED
        if not reasons:
            log.critical("service.died", exc_info=error)
        return EXIT_FAILED


async def _until_stopped(stop: Stop, work: Callable[[Stop], Coroutine[Any, Any, int]], interrupted: int) -> int:
    asyncio.get_running_loop().set_exception_handler(_unheard)
    with stop:
        try:
            return await work(stop)
        except asyncio.CancelledError:
            if stop.is_asked:
                return interrupted
            raise


def _unheard(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what nobody waited for, in our own form.

    Connections that break are heard of where they are used; that a client's own writer task met them too is no news.
    """
    error = context.get("exception")
    tell = log.debug if isinstance(error, ConnectionError) else log.error
    tell("loop.unheard", reason=context.get("message"), exc_info=error)


def raise_open_files() -> None:
    """Take as many open files as the system lets this process have: each stream and each source needs one.

    Many systems begin with 1,024 for the sake of old programs that count in a fixed array; ours do not.
    """
    if sys.platform == "win32":
        return
    import resource  # not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES_MOST if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES_MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _start_errors(error: BaseException) -> list[StartError]:
    """The StartErrors that `error` consists of; none when there is anything else in it."""
    if isinstance(error, StartError):
        return [error]
    if not isinstance(error, BaseExceptionGroup):
        return []
    parts = [_start_errors(part) for part in error.exceptions]
    return [reason for part in parts for reason in part] if all(parts) else []


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # not on Windows, nor beside CPython
    except ImportError:
        return None
    return uvloop.new_event_loop
