"""Texts and figures as a terminal may show them."""

from __future__ import annotations

import errno
import unicodedata

from rich.filesize import decimal

TEXT_CHARS = 400
_REMEDIES = {
    errno.ENOSPC: "no space is left on the device; make room, and the same command goes on",
    errno.EDQUOT: "the disk quota is used up; make room, and the same command goes on",
    errno.EFBIG: "the file system, or a limit of the shell, takes no file of this size",
    errno.EROFS: "the file system is read-only",
    errno.ELOOP: "is a link",
    errno.EBADF: "is closed",
}
# Controls, what turns a text around or hides in it, surrogates, and what ends a line.
_UNFIT = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: object, most: int = TEXT_CHARS) -> str:
    """`text` on one line without anything that moves the cursor or reorders what stands there; cut to `most`.

    What comes from a service or a list is another's text: a name must not be able to clear the screen.
    """
    found = str(text)
    shown = "".join("\ufffd" if unicodedata.category(char) in _UNFIT else char for char in found[:most])
    return shown if len(found) <= most else shown[: most - 1] + "…"


def amount(size_bytes: int) -> str:
    """A number of bytes for people."""
    return decimal(size_bytes)


def count(number: int, what: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """A time for people: `12 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def why(error: OSError) -> str:
    """Why the system did not do it, with the remedy where there is one."""
    return _REMEDIES.get(error.errno or 0, (error.strerror or "cannot be written").lower())
