"""What is read from request headers: ids, keys and preferences, each checked before it is believed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from multidict import MultiMapping

from downloader.errors import RequestError

_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_VISIBLE = re.compile(r"[\x21-\x7e]{1,255}")
_WAIT = re.compile(r'(?i)wait\s*=\s*"?([0-9]+)"?')
WAIT_S_MAX = 60
_KEY_HEADERS = ("Idempotency-Key", "X-Idempotency-Key")


def request_id(headers: Mapping[str, str]) -> str:
    """The caller's X-Request-Id when it is sane (at most 128 plain characters), else a new one."""
    given = headers.get("X-Request-Id", "")
    return given if _REQUEST_ID.fullmatch(given) else os.urandom(16).hex()


def traceparent(headers: Mapping[str, str]) -> str:
    """The caller's W3C trace context when it is well-formed, else nothing."""
    given = headers.get("traceparent", "").strip()
    return given if _TRACEPARENT.fullmatch(given) else ""


def idempotency_key(headers: Mapping[str, str]) -> str | None:
    """The caller's idempotency key, bare or as a quoted string; at most 255 visible ASCII characters.

    Raises RequestError `idempotency_key_invalid`; also when the two spellings of the header disagree.
    """
    given = {_unquoted(line.strip()) for name in _KEY_HEADERS for line in _lines(headers, name)}
    if not given:
        return None
    key = given.pop()
    if given:
        raise RequestError("idempotency_key_invalid", "Idempotency-Key was sent with different values; send one.")
    if not _VISIBLE.fullmatch(key):
        raise RequestError(
            "idempotency_key_invalid", "Idempotency-Key must have 1 to 255 visible ASCII characters, without spaces."
        )
    return key


def wait_s(headers: Mapping[str, str]) -> int | None:
    """How long the caller prefers to wait (RFC 7240, section 4.3), WAIT_S_MAX at most; None when nothing is said."""
    for preference in ",".join(_lines(headers, "Prefer")).split(","):
        match = _WAIT.fullmatch(preference.partition(";")[0].strip())
        if match:
            return min(int(match[1][:9]), WAIT_S_MAX)
    return None


def _lines(headers: Mapping[str, str], name: str) -> list[str]:
    """The values of all lines of a header, which are one list (RFC 9110, section 5.3)."""
    if isinstance(headers, MultiMapping):
        return [str(line) for line in headers.getall(name, [])]
    return [headers[name]] if name in headers else []


def _unquoted(value: str) -> str:
    """A structured-field string (RFC 9651) without its quotes and escapes; anything else as it is."""
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return re.sub(r'\\(["\\])', r"\1", value[1:-1])
    return value


def quality(accept: str, media_type: str) -> float:
    """How much an Accept header wants `media_type`, from 0 to 1; the most specific range counts (RFC 9110, 12.5.1)."""
    wanted = {media_type: 3, f"{media_type.partition('/')[0]}/*": 2, "*/*": 1}
    best = (0, 0.0)
    for item in accept.split(","):
        name, *parameters = (part.strip() for part in item.lower().split(";"))
        if name in wanted:
            best = max(best, (wanted[name], _weight(parameters)))
    return best[1]


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q" and re.fullmatch(r"\s*(0(\.\d{0,3})?|1(\.0{0,3})?)\s*", value):
            return float(value)
    return 1.0


def etag_matches(header: str, etag: str) -> bool:
    """True when If-None-Match names `etag` or anything; compared weakly, since proxies weaken what they compress."""
    given = [item.strip().removeprefix("W/") for item in header.split(",")]
    return "*" in given or etag in given
