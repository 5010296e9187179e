"""The file name of a Content-Disposition header (RFC 6266), taken from what servers really send.

`filename*` wins when it can be decoded, else `filename` counts; a broken one is passed over, never an error. Only the
last component is kept, whichever slash was used. A plain `filename` that is percent-encoded throughout is decoded if
its escapes are valid UTF-8. Making the name safe is the business of `downloader.names`.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

_PARAMETER = re.compile(r';\s*(filename\*?)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)', re.IGNORECASE)
_EXTENDED = re.compile(r"([A-Za-z0-9!#$%&+^_`{}~-]+)'[^']*'(.*)", re.DOTALL)
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_CHARSETS = {"utf-8": "utf-8", "utf8": "utf-8", "iso-8859-1": "latin-1", "us-ascii": "ascii"}


def filename(header: str | None) -> str | None:
    """The last component of the name that `header` offers, or None."""
    if not header:
        return None
    plain = extended = None
    for match in _PARAMETER.finditer(";" + header):
        value = _unquoted(match[2].strip())
        if match[1].endswith("*"):
            extended = extended or _last_component(_extended(value))
        else:
            plain = plain or _last_component(_plain(value))
    return extended or plain


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] == '"':
        # A backslash quotes only a quote or itself here: many servers send Windows paths without doubling them.
        return re.sub(r'\\(["\\])', r"\1", value[1:-1])
    return value.strip('"')


def _extended(value: str) -> str | None:
    match = _EXTENDED.fullmatch(value)
    charset = _CHARSETS.get(match[1].lower()) if match else None
    if match is None or charset is None:
        return None
    try:
        return unquote_to_bytes(match[2]).decode(charset)
    except (UnicodeDecodeError, UnicodeEncodeError):
        return None


def _plain(value: str) -> str | None:
    text = _bytes_as_text(value)
    if _ESCAPE.search(text) is None or "%" in _ESCAPE.sub("", text):
        return text
    try:
        return unquote_to_bytes(text).decode("utf-8")
    except (UnicodeDecodeError, UnicodeEncodeError):
        return text


def _bytes_as_text(value: str) -> str:
    """Undo the header's surrogate escapes: bytes that are no UTF-8 are taken for Latin-1, as browsers do."""
    if not any("\udc80" <= character <= "\udcff" for character in value):
        return value
    return value.encode("utf-8", "surrogateescape").decode("latin-1")


def _last_component(name: str | None) -> str | None:
    if name is None:
        return None
    last = re.split(r"[/\\]", name.strip())[-1].strip()
    return None if last in ("", ".", "..") else last
