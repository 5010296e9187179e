"""A process that has loaded the rewritten service once and forks a child for each run; loading takes a second.

It has no event loop and no thread, so that forking is safe. Commands come as lines of JSON on standard input, what
happens goes as lines of JSON to standard output:

    -> {"id", "settings", "board", "log", "target", "nth", "armed"}        start a child
    <- {"sites": [[module, qualname, ordinal, kind], ...]}                 once, at the start
    <- {"id", "port"} ... {"id", "ended": exit code, or the signal that ended it as -number}
    -> {"id", "signal"}                                                    send a child a signal, if it still lives
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import selectors
import signal
import sys
from dataclasses import astuple
from pathlib import Path
from typing import Any

from botocore.loaders import JSONFileLoader
from botocore.session import get_session

from tests.failpoints.hook import Board, Failpoints, Finder
from tests.failpoints.points import Constants, modules

# Waits that would only make every run longer.
CONSTANTS: dict[str, Constants] = {
    "downloader.state.queue": {"CRASH_DELAY_MS": 50, "RETRY_DELAY_MS": 100},
    "downloader.state.client": {"BLOCK_S": 0.1},
}

ENDED_BADLY = 70


class Zygote:
    """Takes commands, forks, and tells what becomes of the children."""

    def __init__(self, failpoints: Failpoints) -> None:
        self._failpoints = failpoints
        self._numbers: dict[int, int] = {}  # by process id; from here alone they are waited for
        self._woken, waker = os.pipe()
        os.set_blocking(waker, False)
        os.set_blocking(self._woken, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGTERM):  # who started us is told too, and ends us when all is put away
            signal.signal(number, signal.SIG_IGN)

    def serve(self) -> None:
        """Go on until standard input ends; then end the children that are left."""
        with selectors.DefaultSelector() as selector:
            selector.register(sys.stdin.buffer.fileno(), selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            rest = b""
            while True:
                ready = {key.fd for key, _ in selector.select()}
                if self._woken in ready:
                    os.read(self._woken, 4096)
                    self._reap()
                if sys.stdin.buffer.fileno() in ready:
                    data = os.read(sys.stdin.buffer.fileno(), 65536)
                    if not data:
                        break
                    *lines, rest = (rest + data).split(b"\n")
                    for line in lines:
                        self._obey(json.loads(line))
        for pid in self._numbers:
            os.kill(pid, signal.SIGKILL)

    def _obey(self, command: dict[str, Any]) -> None:
        if "signal" not in command:
            self._start(command)
            return
        for pid, number in self._numbers.items():
            if number == command["id"]:
                os.kill(pid, command["signal"])

    def _start(self, command: dict[str, Any]) -> None:
        pid = os.fork()
        if pid:
            self._numbers[pid] = command["id"]
            return
        code = ENDED_BADLY
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            code = self._be_a_service(command)
        finally:
            sys.stderr.flush()
            os._exit(code)  # what the zygote would do at its end is not for its children

    def _be_a_service(self, command: dict[str, Any]) -> int:
        from tests.failpoints.child import serve  # not before the hook is in place: it imports the service

        log = os.open(command["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, sys.stderr.fileno())
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, sys.stdin.fileno())
        board = Board(Path(command["board"]))
        self._failpoints.load(board, command["target"], command["nth"])
        return serve(command["settings"], lambda port: tell(id=command["id"], port=port), board, armed=command["armed"])

    def _reap(self) -> None:
        while self._numbers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            tell(id=self._numbers.pop(pid), ended=os.waitstatus_to_exitcode(status))


def warm_up() -> None:
    """Read once what botocore would read anew in every child: a megabyte of JSON for each session."""
    read, known = JSONFileLoader.load_file, dict[str, Any]()

    def load_file(loader: JSONFileLoader, path: str) -> Any:
        if path not in known:
            known[path] = read(loader, path)
        return known[path]

    JSONFileLoader.load_file = load_file
    client = get_session().create_client(
        "s3", region_name="us-east-1", aws_access_key_id="-", aws_secret_access_key="-"
    )
    client.close()


def tell(**words: object) -> None:
    """Write a line; short enough to arrive whole, whoever else writes."""
    os.write(sys.stdout.fileno(), json.dumps(words).encode() + b"\n")


def main() -> None:
    """Load the service rewritten, say what points there are, and fork on command."""
    failpoints = Failpoints()
    finder = Finder(failpoints, CONSTANTS)
    finder.install()
    for name, _ in modules():
        importlib.import_module(name)
    for name in ("tests.failpoints.child", "uvloop"):
        importlib.import_module(name)
    # In pieces, because standard output is a pipe and this is long.
    sys.stdout.write(json.dumps({"sites": [astuple(site) for site in finder.sites]}) + "\n")
    sys.stdout.flush()
    warm_up()
    gc.collect()
    gc.freeze()
    Zygote(failpoints).serve()


if __name__ == "__main__":
    main()
