"""The keeper: holds the embedded servers and ends them when the service ends, however it ends.

Run as a program of its own, by path and with the standard library alone. Its standard input is a pipe from the
service: first a line of JSON (`Plan` as a table), then silence until the service closes it or dies, which is the
sign to stop. A server that ends by itself is started again, after a growing pause. Each start and end is told by a
line of JSON on standard output.

Second nets on Linux, by PR_SET_PDEATHSIG: the keeper hears of its parent's death, the servers are killed with the
keeper. And the servers inherit the lock on their data, so that a new start waits until the last of them is gone.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

STOP_S = 10.0
PAUSE_S = (0.5, 30.0)
STEADY_S = 60.0
PR_SET_PDEATHSIG = 1


class Kept:
    """One server: its process, and when it is to be started again."""

    def __init__(self, plan: dict[str, Any], lock: int) -> None:
        self.plan = plan
        self.lock = lock
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.pause_s = PAUSE_S[0]
        self.start_at: float | None = 0.0

    def start(self) -> None:
        """Start it with its output in its log; a program that cannot be run counts as one that ended."""
        self.start_at = None
        self.started_at = time.monotonic()
        with Path(self.plan["log"]).open("ab") as output:
            try:
                self.process = subprocess.Popen(  # noqa: S603 - the command comes from the service that started us
                    self.plan["command"],
                    cwd=self.plan["folder"],
                    env=self.plan["environment"],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=(self.lock,),
                    preexec_fn=self._before_it_is_a_server,  # noqa: PLW1509 - the keeper has one thread
                )
            except OSError as error:
                output.write(f"{self.plan['command'][0]}: {error.strerror}\n".encode())
                self._ended(126)
                return
        tell(name=self.plan["name"], pid=self.process.pid)

    def _before_it_is_a_server(self) -> None:
        os.nice(self.plan["niceness"])
        die_with_us()

    def look(self) -> None:
        """Start it when its time has come; notice when it has ended."""
        if self.process is not None and self.process.poll() is not None:
            status = self.process.returncode
            self.process = None
            self._ended(status)
        if self.start_at is not None and time.monotonic() >= self.start_at:
            self.start()

    def _ended(self, status: int) -> None:
        steady = time.monotonic() - self.started_at > STEADY_S
        self.pause_s = PAUSE_S[0] if steady else min(self.pause_s * 2, PAUSE_S[1])
        self.start_at = time.monotonic() + self.pause_s
        tell(name=self.plan["name"], status=status)

    def signal(self, number: int) -> None:
        """Send it a signal if it lives."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def wait(self, deadline: float) -> None:
        """Wait until it has ended, killing it at the deadline; remove what it leaves outside its folder."""
        if self.process is not None:
            try:
                self.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for path in self.plan["litter"]:
            Path(path).unlink(missing_ok=True)


def main() -> None:
    """Read the plan, hold the servers until the pipe closes or SIGTERM comes, then end them all."""
    wake = _wake_on_signals()
    _tell_of_parents_death()
    plan = json.loads(sys.stdin.buffer.readline() or b'{"servers": [], "lock": 0}')
    kept = [Kept(server, plan["lock"]) for server in plan["servers"]]
    while not _stopping(wake, _pause(kept)):
        for server in kept:
            server.look()
    for server in kept:
        server.signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    for server in kept:
        server.wait(deadline)


def tell(**report: object) -> None:
    """Write a report for the service; it may be gone already."""
    try:
        sys.stdout.write(json.dumps(report) + "\n")
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def die_with_us() -> None:
    """In a child before it becomes a server: be killed when the keeper is, also if that was a moment ago."""
    _death_signal(signal.SIGKILL)
    if os.getppid() != _KEEPER:
        os._exit(1)


def _tell_of_parents_death() -> None:
    _death_signal(signal.SIGTERM)


def _death_signal(number: int) -> None:
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)


_KEEPER = os.getpid()
# Loaded before any fork; None where there is no prctl.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _wake_on_signals() -> int:
    """A descriptor that gets a byte, the signal's number, for SIGTERM and SIGCHLD. Ctrl-C is not for us."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return reader


def _pause(kept: list[Kept]) -> float | None:
    """Seconds until the next server is to be started, None when all run."""
    times = [server.start_at for server in kept if server.start_at is not None]
    return max(0.0, min(times) - time.monotonic()) if times else None


def _stopping(wake: int, timeout_s: float | None) -> bool:
    ready, _, _ = select.select([sys.stdin.fileno(), wake], [], [], timeout_s)
    if sys.stdin.fileno() in ready and not os.read(sys.stdin.fileno(), 512):
        return True
    return wake in ready and signal.SIGTERM in os.read(wake, 512)


if __name__ == "__main__":
    main()
