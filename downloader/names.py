r"""Names inside the archive: one rule that is safe on Windows, macOS and Linux, whoever made the name up.

| what                                  | becomes                                                                     |
|---------------------------------------|-----------------------------------------------------------------------------|
| `/` and `\`                            | both separate folders; folders of an explicit name are kept                 |
| empty, `.` and `..` parts, a drive `C:` | are left out, so nothing is absolute or leads outside                      |
| controls, bidi controls, surrogates   | `_`; so are noncharacters, U+FFFD and fullwidth slashes                     |
| `< > : " | ? *`                       | `_`                                                                         |
| blanks around, dots and blanks at the end of a part | are left out                                                  |
| CON, PRN, AUX, NUL, COM0-9, LPT0-9... | get a `_` in front, in any case and with any extension                      |
| Unicode                               | NFC                                                                         |
| a part over 150 characters or 255 bytes of UTF-8 | is cut between characters as people see them, its extension kept |
| a path over 200 characters (of UTF-16) | is cut in its file name first, then in its folders                         |
| nothing left                          | `download`                                                                  |

Two names are the same if a file system without case and with any Unicode form would take them for the same. The
second one gets ` (2)` before its extension. A file and a folder never share a name.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote_to_bytes

from downloader.jobs import Source
from downloader.s3url import is_s3

FALLBACK_NAME = "download"
COMPONENT_CHARACTERS = 150
COMPONENT_BYTES = 255
PATH_CHARACTERS = 200
_FOLDERS_CHARACTERS = 99
_DEPTH_MAX = 10
_WANTED_MAX = 20_000
# Room for " (999999999)": names that are equal up to it share one counter.
_NUMBER_CHARACTERS = 12

_SEPARATORS = re.compile(r"[/\\]")
_BEYOND = "".join(chr(plane << 16 | end) for plane in range(1, 17) for end in (0xFFFE, 0xFFFF))  # noncharacters
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufffc-\uffff\ufdd0-\ufdef\uff0f\uff3c"
    f'{_BEYOND}\ud800-\udfff<>:"|?*]'
)
_DRIVE = re.compile(r"[A-Za-z]:")
_EXTENSION = re.compile(r"(?<=.)((?:\.tar)?\.[^.\s]{1,15})$", re.IGNORECASE | re.DOTALL)
_RESERVED = frozenset(
    ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"]
    + [port + digit for port in ("COM", "LPT") for digit in "0123456789\u00b9\u00b2\u00b3"]
)
# Most names are fine as they are: one part of letters, digits and harmless marks, dots and blanks only inside it.
_PLAIN = re.compile(r"[A-Za-z0-9_(+-](?:[A-Za-z0-9_()+, .-]{0,98}[A-Za-z0-9_)+-])?")
_LOOKS_LIKE_A_FILE = re.compile(r".*[^.\s]\.[A-Za-z0-9_~+-]{1,16}", re.DOTALL)
# A page that hands out files says nothing about their names; the Content-Disposition does.
_SCRIPTS = (".php", ".asp", ".aspx", ".ashx", ".jsp", ".cgi", ".do", ".action", ".cfm", ".dll", ".pl")


def wanted_name(source: Source) -> str | None:
    """The name that the request decides: the explicit one, or the URL's last segment if it looks like a file.

    None leaves it to the Content-Disposition: see `late_name`.
    """
    if source.name is not None and source.name.strip():
        return source.name
    segment = url_name(source.url)
    if _LOOKS_LIKE_A_FILE.fullmatch(segment) and not segment.lower().endswith(_SCRIPTS):
        return segment
    return None


def late_name(source: Source, filename: str | None) -> str:
    """The name of a file that only its answer names: `filename`, else the URL's last segment, else `download`."""
    return filename or url_name(source.url) or FALLBACK_NAME


def url_name(url: str) -> str:
    """The last path segment of `url`, decoded once; what it hides behind encoded slashes is not kept.

    The key of an `s3://` URL is what it is: nothing in it is encoded.
    """
    if is_s3(url):
        return url.rpartition("/")[2].strip()
    path = re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*", "", url.strip()).partition("#")[0].partition("?")[0]
    decoded = unquote_to_bytes(path.rpartition("/")[2].encode("utf-8", "replace")).decode("utf-8", "replace")
    last = _SEPARATORS.split(decoded)[-1].strip()
    return "" if last in (".", "..") else last


def safe_name(wanted: str) -> str:
    """`wanted` by the table above: a relative path with `/`, never empty."""
    if _PLAIN.fullmatch(wanted) is not None:
        return _unreserved(wanted)
    text = unicodedata.normalize("NFC", wanted[-_WANTED_MAX:])
    parts = [part for raw in _SEPARATORS.split(text) if (part := _safe_part(raw))]
    return _fitted(parts or [FALLBACK_NAME])


def _safe_part(raw: str) -> str:
    """One part made safe, at its full length; empty when nothing of it counts."""
    text = raw.strip()
    if _DRIVE.fullmatch(text):
        return ""
    return _unreserved(_trimmed(_UNSAFE.sub("_", text)))


def _trimmed(part: str) -> str:
    """Windows drops dots and blanks at the end, so two names could become one."""
    end = len(part)
    while end and (part[end - 1] == "." or part[end - 1].isspace()):
        end -= 1
    return part[:end].lstrip()


def _unreserved(part: str) -> str:
    return "_" + part if part.partition(".")[0].rstrip().upper() in _RESERVED else part


def _fitted(parts: list[str]) -> str:
    """Join the parts within the limits; a folder's cut does not depend on the files in it."""
    *folders, name = parts
    path = "/".join(folders)
    if _length(path) > _FOLDERS_CHARACTERS or any(len(folder.encode()) > COMPONENT_BYTES for folder in folders):
        folders = folders[:_DEPTH_MAX]
        each = (_FOLDERS_CHARACTERS - len(folders) + 1) // len(folders)
        path = "/".join(shortened(folder, each, keep_extension=False) for folder in folders)
    room = PATH_CHARACTERS - _length(path) - 1 if path else PATH_CHARACTERS
    name = shortened(name, min(room, COMPONENT_CHARACTERS))
    return f"{path}/{name}" if path else name


def _length(text: str) -> int:
    """Characters as Windows counts them, in UTF-16: one beyond the basic plane, such as an emoji, is two."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2


def shortened(part: str, characters: int, *, keep_extension: bool = True) -> str:
    """`part` cut to `characters` and to 255 bytes, its extension kept; always at least one character."""
    if _length(part) <= characters and (part.isascii() or len(part.encode()) <= COMPONENT_BYTES):
        return part
    stem, extension = split_extension(part) if keep_extension else (part, "")
    if _length(extension) >= characters:
        stem, extension = part, ""
    cut = _cut(stem, characters - _length(extension), COMPONENT_BYTES - len(extension.encode()))
    return (_trimmed(cut) or "_") + extension


def split_extension(name: str) -> tuple[str, str]:
    """`name` as stem and extension (at most 16 characters; `.tar.gz` is one); a leading dot begins no extension."""
    match = _EXTENSION.search(name)
    return (name[: match.start()], match[1]) if match else (name, "")


def _cut(text: str, characters: int, size_bytes: int) -> str:
    end = min(len(text), characters)
    while end > 1 and _length(text[:end]) > characters:
        end -= max(1, (_length(text[:end]) - characters) // 2)
    while end > 1 and len(text[:end].encode()) > size_bytes:
        end -= max(1, (len(text[:end].encode()) - size_bytes) // 4)
    border = end
    while border > 1 and _is_inside_character(text, border):
        border -= 1
    return text[: border if border > 1 else end]


def _is_inside_character(text: str, border: int) -> bool:
    """Whether a cut at `border` would part what people see as one character: marks, joined emoji, flags."""
    if border >= len(text):
        return False
    after, before = text[border], text[border - 1]
    if unicodedata.category(after).startswith("M") or "\u200d" in (after, before):
        return True
    if "\U0001f3fb" <= after <= "\U0001f3ff":
        return True
    return _is_regional(after) and _regional_run(text, border) % 2 == 1


def _is_regional(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _regional_run(text: str, border: int) -> int:
    start = border
    while start and _is_regional(text[start - 1]):
        start -= 1
    return border - start


def same_key(name: str) -> str:
    """Equal for names that some file system takes for the same: without case, in any Unicode form."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


class NameBook:
    """Hands out the names of one archive, each once; the time for a name does not grow with how often it is wanted."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._folders: dict[str, str] = {}
        self._numbers: dict[str, int] = {}

    def reserve(self, wanted: str) -> str:
        """A safe name like `wanted` that nothing else in the archive has."""
        folders, _, name = safe_name(wanted).rpartition("/")
        prefix = self._folder(folders) if folders else ""
        path = self._free(prefix, name)
        self._taken.add(same_key(path))
        return path

    def _folder(self, path: str) -> str:
        """The prefix for a folder, as it was spelled first; a folder that meets a file gets a number."""
        known = self._folders.get(same_key(path))
        if known is not None:
            return known
        parent, _, name = path.rpartition("/")
        prefix = self._folder(parent) if parent else ""
        made = self._free(prefix, name)
        self._taken.add(same_key(made))
        self._folders[same_key(path)] = self._folders[same_key(made)] = made + "/"
        return made + "/"

    def _free(self, prefix: str, name: str) -> str:
        """`prefix` + `name`, numbered until nothing has it; the counter goes on where it stopped."""
        room = min(COMPONENT_CHARACTERS, PATH_CHARACTERS - _length(prefix))
        candidate = prefix + shortened(name, room)
        if same_key(candidate) not in self._taken:
            return candidate
        stem, extension = split_extension(name)
        family = same_key(prefix + shortened(stem, room - _length(extension) - _NUMBER_CHARACTERS) + extension)
        number = self._numbers.get(family, 1)
        while same_key(candidate) in self._taken:
            number += 1
            candidate = prefix + _numbered(stem, extension, number, room)
        self._numbers[family] = number
        return candidate


def _numbered(stem: str, extension: str, number: int, room: int) -> str:
    suffix = f" ({number}){extension}"
    size_bytes = COMPONENT_BYTES - len(suffix.encode())
    if _length(stem) + _length(suffix) > room or len(stem.encode()) > size_bytes:
        stem = _trimmed(_cut(stem, room - _length(suffix), size_bytes)) or "_"
    return stem + suffix
