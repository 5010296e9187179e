"""The file name of a Content-Disposition header (RFC 6266), taken from what servers really send.

`filename*` wins when it can be decoded, else `filename` counts; a broken one is passed over, never an error. Only the
last component is kept, whichever slash was used. A plain `filename` that is percent-encoded throughout is decoded if
its escapes are valid UTF-8; the encoded words and continuations of mail headers are read too. Making the name safe is
the business of `downloader.names`.
"""

from __future__ import annotations

import re
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from urllib.parse import unquote_to_bytes

# Every parameter is read, so that a value in quotes is never searched for names.
_PARAMETER = re.compile(r';\s*([^=;"\s]*)\s*(?:=\s*("(?:[^"\\]|\\.)*"|[^;]*))?', re.DOTALL)
_PIECE = re.compile(r"filename\*(\d{1,3})\*?")
_ENCODED_WORD = re.compile(r"=\?[A-Za-z0-9_-]+\?[BbQq]\?[^?]*\?=")
_EXTENDED = re.compile(r"([A-Za-z0-9!#$%&+^_`{}~-]+)'[^']*'(.*)", re.DOTALL)
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_CHARSETS = {"utf-8": "utf-8", "utf8": "utf-8", "iso-8859-1": "latin-1", "us-ascii": "ascii"}


def filename(header: str | None) -> str | None:
    """The last component of the name that `header` offers, or None."""
    if not header:
        return None
    plain = extended = None
    pieces: dict[int, str] = {}
    for match in _PARAMETER.finditer(";" + header):
        name, value = match[1].lower(), _unquoted((match[2] or "").strip())
        if name == "filename*":
            extended = extended or _last_component(_extended(value))
        elif name == "filename":
            plain = plain or _last_component(_plain(value))
        elif (piece := _PIECE.fullmatch(name)) is not None:
            pieces.setdefault(int(piece[1]), value)
    return extended or _last_component(_joined(pieces)) or plain


def _joined(pieces: dict[int, str]) -> str | None:
    """The value of `filename*0`, `filename*1`, ... (RFC 2231, 3), which end at the first number that is missing."""
    number = next(number for number in range(len(pieces) + 1) if number not in pieces)
    whole = "".join(pieces[place] for place in range(number))
    return (_extended(whole) or _plain(whole)) if whole else None


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
    if _ENCODED_WORD.search(text) is not None:
        return _words_decoded(text)
    if _ESCAPE.search(text) is None or "%" in _ESCAPE.sub("", text):
        return text
    try:
        return unquote_to_bytes(text).decode("utf-8")
    except (UnicodeDecodeError, UnicodeEncodeError):
        return text


def _words_decoded(text: str) -> str:
    """Undo the encoded words of mail (RFC 2047), which do not belong here but are sent and which browsers read."""
    try:
        return str(make_header(decode_header(text)))
    except (LookupError, ValueError, HeaderParseError):
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
