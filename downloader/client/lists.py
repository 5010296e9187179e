"""The list of files: from arguments, from a file or from standard input, as lines, CSV or JSON.

| a list is   | when                                                                                  |
|-------------|---------------------------------------------------------------------------------------|
| JSON        | it begins with `{` (the body that `initiate` takes) or `[` (URLs or files of it)        |
| CSV         | its name ends in .csv, or its first line is a header with a column `url`                |
| lines       | else: a URL on each, or `name<TAB>URL`; blank lines and those with `#` in front are none |
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from downloader.client.text import printable
from downloader.errors import AskedWrongError, Fault

STDIN = "-"
LIST_BYTES_MAX = 16 * 1024 * 1024
FILES_MAX = 100_000
URL_CHARS = 8192
_URL = re.compile(r"(?i)https?://[^/?#\s]|s3://[^/?#\s]")
_CSV_COLUMNS = {"url", "name", "id", "size", "checksum"}
_POINTER = re.compile(r"/(?:files|source_urls|sourceUrls)/(\d+)(/.*)?")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a job is asked for: the body of the call, and where each of its files was given."""

    body: dict[str, Any]
    places: Sequence[str] = field(default=(), repr=False)

    def place_of(self, fault: Fault) -> str:
        """Where the person finds what a fault of the service points at: `list.txt, line 3`, else the pointer."""
        found = _POINTER.fullmatch(fault.pointer)
        if found is None or int(found[1]) >= len(self.places):
            return fault.pointer
        field_name = (found[2] or "").strip("/")
        return f"{self.places[int(found[1])]}{f' ({field_name})' if field_name not in {'', 'url'} else ''}"

    def refined(self, name: str | None, options: Mapping[str, Any]) -> Wanted:
        """The same with what flags say of it; None says nothing."""
        given = {key: value for key, value in options.items() if value is not None}
        own = self.body.get("options") or {}
        if given and not isinstance(own, dict):
            raise AskedWrongError("options must be an object in the request")
        body = self.body | ({"options": own | given} if given else {})
        if name is not None:
            body = {key: value for key, value in body.items() if key != "archive_name"} | {"archiveName": name}
        return replace(self, body=body)

    @property
    def archive_name(self) -> str:
        """The name that the archive is asked to have, "" for the service's own."""
        return str(self.body.get("archiveName") or self.body.get("archive_name") or "")


def read_wanted(sources: Sequence[str], read_stdin: Callable[[int], bytes]) -> Wanted:
    """What the arguments ask for; `read_stdin` gives at most so many bytes.

    Raises AskedWrongError with the file, the line and the remedy.
    """
    if list(sources).count(STDIN) > 1:
        raise AskedWrongError("- (standard input) can be read once only; give it once")
    files: list[dict[str, Any]] = []
    places: list[str] = []
    for number, source in enumerate(sources, 1):
        if source != STDIN and not source.startswith("@"):
            files.append({"url": _url(source, f"argument {number}")})
            places.append(f"argument {number}")
            continue
        where, text = _text_of(source, read_stdin)
        if text.lstrip().startswith("{"):
            if len(sources) > 1:
                raise AskedWrongError(f"{where} is a whole request; give it alone, or make it a list: [...]")
            return _request(_json(text, where), where)
        for place, file in _entries(text, where):
            files.append(file)
            places.append(place)
        if len(files) > FILES_MAX:
            raise AskedWrongError(f"{where}: more than {FILES_MAX} files; split the list into several jobs")
    if not files:
        raise AskedWrongError("the list is empty; give URLs, one per line")
    return Wanted({"files": files}, tuple(places))


def _text_of(source: str, read_stdin: Callable[[int], bytes]) -> tuple[str, str]:
    """The list's name for messages, and its text."""
    where = "standard input" if source == STDIN else printable(source[1:]) or "@"
    try:
        if source == STDIN:
            raw = read_stdin(LIST_BYTES_MAX + 1)
        else:
            with Path(source[1:]).open("rb") as file:
                raw = file.read(LIST_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no name of a file"
        raise AskedWrongError(f"{where}: cannot be read ({reason}); write @ and the path of a list") from error
    if len(raw) > LIST_BYTES_MAX:
        raise AskedWrongError(f"{where}: more than {LIST_BYTES_MAX} bytes; split the list into several jobs")
    try:
        return where, raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise AskedWrongError(f"{where}, line {line}: is not UTF-8 text; save the list as UTF-8") from error


def _entries(text: str, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The files of a list with their places."""
    if text.lstrip().startswith("["):
        return _of_json(_json(text, where), where)
    first = text.lstrip().partition("\n")[0]
    if where.lower().endswith(".csv") or "url" in (cell.strip(' "\r').lower() for cell in first.split(",")):
        return _of_csv(text, where)
    return _of_lines(text, where)


def _of_lines(text: str, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        name, tab, url = line.rpartition("\t")
        place = f"{where}, line {number}"
        yield place, {"url": _url(url.strip(), place), **({"name": name.strip()} if tab else {})}


def _of_csv(text: str, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [cell.strip().lower() for cell in next(rows, [])]
        if len(set(header)) != len(header):
            raise AskedWrongError(f"{where}, line 1: names a column twice; leave one of them out")
        if "url" not in header or not _CSV_COLUMNS.issuperset(header):
            columns = ", ".join(sorted(_CSV_COLUMNS))
            raise AskedWrongError(f"{where}, line 1: must be a header with a column url; there may be {columns}")
        for row in rows:
            if any(cell.strip() for cell in row):
                place = f"{where}, line {rows.line_num}"
                yield place, _of_row(header, row, place)
    except csv.Error as error:
        raise AskedWrongError(f"{where}, line {rows.line_num}: is not CSV ({error}); close each quote") from error


def _of_row(header: Sequence[str], row: Sequence[str], place: str) -> dict[str, Any]:
    if len(row) > len(header):
        raise AskedWrongError(f"{place}: has {len(row)} columns, the header {len(header)}; put quotes around commas")
    file: dict[str, Any] = {name: cell.strip() for name, cell in zip(header, row, strict=False) if cell.strip()}
    file["url"] = _url(file.get("url", ""), place)
    if "size" in file:
        if not re.fullmatch(r"[0-9]{1,15}", file["size"]):
            raise AskedWrongError(f"{place}: size must be a whole number of bytes")
        file["size"] = int(file["size"])
    return file


def _of_json(value: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, entry in enumerate(value, 1):
        place = f"{where}, entry {number}"
        if isinstance(entry, str):
            yield place, {"url": _url(entry, place)}
        elif isinstance(entry, dict):
            yield place, entry
        else:
            raise AskedWrongError(f'{place}: must be a URL, or an object such as {{"url": "https://..."}}')


def _request(value: Any, where: str) -> Wanted:
    """A whole request; only its list is looked at here, the service judges the rest."""
    files = value.get("files")
    if isinstance(files, list):
        return Wanted(value, tuple(f"{where}, file {number}" for number in range(1, len(files) + 1)))
    return Wanted(value)


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{where}, line {error.lineno}"
        raise AskedWrongError(f"{place}: is not JSON ({error.msg}, column {error.colno})") from error
    except (RecursionError, ValueError) as error:
        raise AskedWrongError(f"{where}: is not JSON that can be read; write a list of URLs") from error


def _url(text: str, place: str) -> str:
    """The URL as it stands; what it needs beyond its scheme the service says."""
    if _URL.match(text) and len(text) <= URL_CHARS:
        return text
    if len(text) > URL_CHARS:
        raise AskedWrongError(f"{place}: the URL has more than {URL_CHARS} characters")
    shown = printable(text, 60)
    raise AskedWrongError(
        f"{place}: {shown!r} is no URL; write https://..., http://... or s3://bucket/key, a name before it with a tab"
    )
