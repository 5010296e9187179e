"""Would some file system take two paths for the same? By its own rules: every Unicode form, then without case."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

_FORMS: tuple[Literal["NFC", "NFD", "NFKC", "NFKD"], ...] = ("NFC", "NFD", "NFKC", "NFKD")
_CASELESS: dict[str, Callable[[str], str]] = {"case folded": str.casefold, "lower case": str.lower}


def collisions(paths: Sequence[str]) -> list[str]:
    """Every pair of paths that are one, every file that is a folder too, and every folder with two spellings."""
    return [
        f"{form}, {case}: {what}"
        for form in _FORMS
        for case, caseless in _CASELESS.items()
        for what in _under(paths, lambda path, form=form, caseless=caseless: _key(path, form, caseless))  # type: ignore[misc]
    ]


def _key(path: str, form: Literal["NFC", "NFD", "NFKC", "NFKD"], caseless: Callable[[str], str]) -> str:
    return unicodedata.normalize(form, caseless(unicodedata.normalize(form, path)))


def _under(paths: Sequence[str], key: Callable[[str], str]) -> Iterator[str]:
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for path in paths:
        if (other := files.get(key(path))) is not None:
            yield f"{other!r} and {path!r} are one"
        files[key(path)] = path
        for folder in _folders(path):
            if (spelled := folders.setdefault(key(folder), folder)) != folder:
                yield f"the folder {spelled!r} is {folder!r} too"
    yield from (f"{files[both]!r} is a folder too" for both in files.keys() & folders.keys())


def _folders(path: str) -> Iterator[str]:
    parts = path.split("/")
    return ("/".join(parts[:end]) for end in range(1, len(parts)))
