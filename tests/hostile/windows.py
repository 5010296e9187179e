r"""Is a path legal on Windows? By Microsoft's "Naming Files, Paths, and Namespaces" alone, not by our own rule.

A part has none of `< > : " / \ | ? *` and no character from 0 to 31, does not end with a blank or a period, is no
device's name with or without an extension, and has at most 255 UTF-16 units; a path has at most MAX_PATH = 260 units,
the drive in front and the NUL at the end among them.

Beside it, what no file name should hold on any system: controls, surrogates, noncharacters, and what turns text around.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_MAX_PATH = 260
_MAX_PART = 255
_RESERVED_CHARACTER = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
# "COM1" and, by the same page, the superscript digits; 0 is added by later editions of it. Blanks before the extension
# do not save a name, since Win32 drops them; CONIN$ and CONOUT$ open the console as CON does.
_DEVICE = re.compile(r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9¹²³]) *(?:\..*)?", re.IGNORECASE | re.DOTALL)
_TURNS_AROUND = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def windows_faults(path: str) -> Iterator[str]:
    """What Windows would object to in a relative path with `/`."""
    if _units("C:\\") + _units(path) + 1 > _MAX_PATH:
        yield f"{_units(path)} units, too long for MAX_PATH"
    for part in path.split("/"):
        yield from (f"{fault}: {part!r}" for fault in _part_faults(part))


def _part_faults(part: str) -> Iterator[str]:
    if part in ("", ".", ".."):
        yield "not a name"
    if _RESERVED_CHARACTER.search(part):
        yield "a reserved character"
    if part.endswith((" ", ".")):
        yield "a blank or a period at the end"
    if _DEVICE.fullmatch(part):
        yield "a device"
    if _units(part) > _MAX_PART:
        yield "too long"


def character_faults(path: str) -> Iterator[str]:
    """What should be in no name."""
    for character in path:
        if unicodedata.category(character) in ("Cc", "Cs") or character in _TURNS_AROUND or _is_none(ord(character)):
            yield f"U+{ord(character):04X} in {path!r}"


def _is_none(code: int) -> bool:
    """Whether it is a noncharacter (Unicode, section 23.7)."""
    return code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
