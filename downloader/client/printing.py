"""A line onto standard output or standard error, at once: a device may be full, a reader may have left."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from downloader.client.text import why
from downloader.errors import SaveError


def result(text: str) -> None:
    """Print what was asked for on standard output.

    Raises BrokenPipeError when its reader has left, which had what it wanted, and SaveError when it takes no more.
    """
    try:
        _put(sys.stdout, text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise SaveError(f"standard output: {why(error)}") from error


def remark(to: TextIO, text: str) -> None:
    """Print what goes beside the results; the work does not end because nobody can hear of it."""
    with suppress(OSError):
        _put(to, text)


def _put(to: TextIO | None, text: str) -> None:
    if to is None:  # it was closed when the program began
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    try:
        to.write(f"{text}\n")
        to.flush()
    except OSError:
        _give_up(to)
        raise


def _give_up(to: TextIO) -> None:
    """Lead a stream nowhere: what it still holds must go somewhere at the end of the process."""
    with suppress(OSError), Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), to.fileno())


class Terminal:
    """A terminal that may be closed while something is shown there: the work goes on."""

    def __init__(self, to: TextIO) -> None:
        self._to = to

    def write(self, text: str) -> int:
        """Write, if there still is somebody."""
        try:
            return self._to.write(text)
        except OSError:
            _give_up(self._to)
            return len(text)

    def flush(self) -> None:
        """Show what was written."""
        try:
            self._to.flush()
        except OSError:
            _give_up(self._to)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._to, name)
