"""One rule per field of the initiate body; each takes a value and gives it back checked, or raises ValueError."""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from downloader.jobs import Checksum, FileId
from downloader.s3url import S3Url, is_s3

URL_CHARS = 8192
NAME_CHARS = 1024
FILE_ID_CHARS = 256
FILE_ID_MAX = 2**63
HEADERS_MAX = 20
HEADER_VALUE_CHARS = 8192
ARCHIVE_NAME_CHARS = 200
DEFAULT_ARCHIVE_NAME = "download.zip"

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
HEADER_WORD = "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}"  # RFC 9110, section 5.6.2
_TOKEN = re.compile(HEADER_WORD)
_MEDIA_TYPE = re.compile(f"{HEADER_WORD}/{HEADER_WORD}")
# Nearly every URL, told by one look; whatever is less plain is taken apart.
_PLAIN_URL = re.compile(r"https?://[A-Za-z0-9][A-Za-z0-9.-]*(:(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}))?(?=[/?#]|\Z)")
# Ours to set, or a matter of one connection (RFC 9110, section 7.6.1).
_REFUSED_HEADERS = frozenset(
    [
        "host",
        "content-length",
        "transfer-encoding",
        "range",
        "if-range",
        "accept-encoding",
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "http2-settings",
    ]
)
# What separates folders, or would make a shown name run backwards.
_UNFIT_IN_NAME = re.compile(r"[/\\\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def file_id(value: Any) -> FileId:
    """A file's id: a whole number up to 2^63 either way, or text of 1 to 256 characters."""
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > FILE_ID_MAX:
            raise ValueError("must be at most 2^63; send a longer id as text")
        return value
    if not isinstance(value, str):
        raise ValueError("must be a whole number or text")  # noqa: TRY004  (pydantic takes ValueError only)
    if not 1 <= len(value) <= FILE_ID_CHARS:
        raise ValueError(f"must have 1 to {FILE_ID_CHARS} characters")
    return value


def source_url(value: str) -> str:
    """Where a file lies: http or https with a host, or s3; kept letter for letter, since it may be signed."""
    if len(value) > URL_CHARS:
        raise ValueError(f"must have at most {URL_CHARS} characters")
    if not value.isprintable() and _CONTROL.search(value):  # the first look takes a fifth of the second
        raise ValueError("must not contain control characters; percent-encode them")
    if _PLAIN_URL.match(value):
        return value
    scheme = value.partition(":")[0].lower()
    if scheme == "s3":
        S3Url.parse(value)
        return value
    if scheme not in ("http", "https"):
        raise ValueError("must be an absolute URL that starts with http://, https:// or s3://")
    try:
        parts = urlsplit(value)
        named = parts.hostname and parts.port != 0
    except ValueError as error:
        raise ValueError(f"is not a URL: {_lower_first(str(error))}") from error
    if not named:
        raise ValueError("must name a host, as in https://example.com/file.pdf")
    return value


def callback_url(value: str) -> str:
    """Where a callback goes: as a source's URL, but only http and https can be posted to."""
    if value[:3].lower() == "s3:":
        raise ValueError("cannot lie in a bucket; give a URL that starts with http:// or https://")
    return source_url(value)


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def expanded(template: str, value: FileId) -> str:
    """The URL that `sources.url_template` makes of a file id.

    The id is one plain piece of an http URL; in a bucket it may name folders, but none above the template's.
    """
    if value in (".", ".."):
        raise ValueError("must not be '.' or '..'")
    piece = str(value) if is_s3(template) else quote(str(value), safe="")  # an object's key is never encoded
    return source_url(template.replace("{file_id}", piece))


def file_name(value: str) -> str:
    """The name wanted for a file in the archive; made safe later, here only bounded."""
    if len(value) > NAME_CHARS:
        raise ValueError(f"must have at most {NAME_CHARS} characters")
    return value


def media_type(value: str) -> str:
    """The media type a file must have, as `type/subtype`; parameters are dropped."""
    essence = value.partition(";")[0].strip().lower()
    if not _MEDIA_TYPE.fullmatch(essence):
        raise ValueError("must be a media type such as application/pdf")
    return essence


def checksum(value: Any) -> Checksum | None:
    """The digest a file must have, as `sha256:<hex>`, `md5:<hex>` or `crc32:<hex>`; null for none."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("must be text such as sha256:<hex>")  # noqa: TRY004  (pydantic takes ValueError only)
    return Checksum.parse(value)


def source_headers(value: dict[str, str]) -> dict[str, str]:
    """Headers to send to a file's origin: at most 20, none that the service sets itself."""
    if len(value) > HEADERS_MAX:
        raise ValueError(f"may have at most {HEADERS_MAX} entries")
    seen: set[str] = set()
    for name, content in value.items():
        _check_header(name, content)
        if name.lower() in seen:
            raise ValueError(f"names {name!r} twice")
        seen.add(name.lower())
    return value


def _check_header(name: str, content: str) -> None:
    if not _TOKEN.fullmatch(name):
        raise ValueError("has a name that no header can have; use letters, digits and dashes")
    if name.lower() in _REFUSED_HEADERS:
        raise ValueError(f"must not set {name}; the service does")
    if len(content) > HEADER_VALUE_CHARS:
        raise ValueError(f"{name} must have at most {HEADER_VALUE_CHARS} characters")
    if _CONTROL.search(content.replace("\t", " ")):
        raise ValueError(f"{name} must not contain line breaks or other control characters")


def compress(value: Any) -> Literal["auto"] | bool:
    """Whether to compress: what pays (auto), everything or nothing."""
    if value == "auto":
        return "auto"
    if isinstance(value, bool):
        return value
    raise ValueError('must be "auto", true or false')


def archive_format(value: str) -> str:
    """The kind of archive."""
    if value != "zip":
        raise ValueError('is not offered by this version; leave it out or send "zip"')
    return value


def archive_name(value: str) -> str:
    """The name the archive is saved as: no folders or control characters, `.zip` at its end, 200 characters at most."""
    safe = _UNFIT_IN_NAME.sub("_", unicodedata.normalize("NFC", value))
    if not safe.isprintable():
        safe = "".join("_" if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") else char for char in safe)
    stem = safe.strip()
    if stem.lower().endswith(".zip"):
        stem = stem[:-4]
    stem = stem[: ARCHIVE_NAME_CHARS - 4].strip(" .")
    return f"{stem}.zip" if stem else DEFAULT_ARCHIVE_NAME
