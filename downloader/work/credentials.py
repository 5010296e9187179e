"""What is sent along with one file's requests: the caller's headers, userinfo, the chain's cookies, the operator's.

All of it belongs to the origin (scheme, host, port) that it was given for. The first step to another origin, an
https to http downgrade included, drops it for the rest of the chain; only what says nothing about the caller stays.
Cookies that the sources set live for one redirect chain and are shared with nobody.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from email.message import Message
from http.client import HTTPResponse
from http.cookiejar import CookieJar
from types import SimpleNamespace
from typing import cast
from urllib.request import Request

from multidict import CIMultiDict, CIMultiDictProxy, MultiMapping

from downloader.errors import SourceError
from downloader.work.urls import Target

COMMON = CIMultiDictProxy(
    CIMultiDict([("Accept", "*/*"), ("Accept-Encoding", "identity"), ("User-Agent", "downloader/1.0")])
)
_KEPT_ACROSS_ORIGINS = frozenset({"accept", "accept-language", "user-agent"})
# The connection's own business: what a pasted request brings along is left out.
_OURS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# These would make another request of it.
_REFUSED = frozenset(
    {"host", "range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"}
)
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def checked_headers(headers: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """The caller's headers without those that are ours; SourceError `bad_header` names one that cannot be sent."""
    for name, value in headers:
        if not _NAME.fullmatch(name) or name.lower() in _REFUSED:
            raise SourceError("bad_header", f"the header {name[:50]!a} cannot be sent to a source")
        if _unfit(value):
            raise SourceError("bad_header", f"the value of the header {name[:50]!a} holds a forbidden character")
    return tuple((name, value) for name, value in headers if name.lower() not in _OURS)


def _unfit(value: str) -> bool:
    return _BAD_VALUE.search(value) is not None or any("\ud800" <= character <= "\udfff" for character in value)


def _impersonal(headers: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in headers if name.lower() in _KEPT_ACROSS_ORIGINS)


class Credentials:
    """The headers for each hop of one chain that began at `target`."""

    def __init__(self, headers: tuple[tuple[str, str], ...], target: Target) -> None:
        self._headers = checked_headers(headers) if headers else ()
        self._origin = target.origin
        self._authorization = target.authorization
        self._cookies: CookieJar | None = None

    def moved_to(self, target: Target) -> None:
        """Follow the chain to `target`, dropping at another origin what belonged to the last one."""
        if target.origin == self._origin:
            self._authorization = target.authorization or self._authorization
            return
        self._origin = target.origin
        self._authorization = target.authorization
        self._headers = _impersonal(self._headers)

    def received(self, headers: MultiMapping[str], target: Target) -> None:
        """Take the cookies that a redirect sets."""
        # One with a control character is not to be heard (RFC 6265bis, 5.6), and other bytes than text cannot be sent.
        lines = [line for line in headers.getall("Set-Cookie", []) if not _unfit(line)]
        if not lines:
            return
        if self._cookies is None:
            self._cookies = CookieJar()
        self._cookies.extract_cookies(_answer(lines), _asked(target))

    def headers_for(
        self,
        target: Target,
        conditions: tuple[tuple[str, str], ...],
        operators: tuple[tuple[str, str], ...] = (),
        *,
        alone: bool = False,
    ) -> MultiMapping[str]:
        """Everything to send to `target`; `conditions` are Range and If-Range.

        The `operators` headers win over the caller's of the same name. With `alone` nothing else of the caller's goes
        beside them but what says nothing about him.
        """
        if not (self._headers or self._authorization or self._cookies or conditions or operators):
            return COMMON
        headers = COMMON.copy()
        for more in (_impersonal(self._headers) if alone else self._headers, operators):
            for name, _ in more:
                headers.popall(name, None)
            headers.extend(more)
        if self._authorization is not None and not alone and "Authorization" not in headers:
            headers["Authorization"] = self._authorization
        cookies = self._cookie_line(target)
        if cookies:
            headers["Cookie"] = "; ".join((*headers.popall("Cookie", ()), cookies))
        headers.extend(conditions)
        return headers

    def _cookie_line(self, target: Target) -> str:
        if self._cookies is None:
            return ""
        request = _asked(target)
        self._cookies.add_cookie_header(request)
        return request.get_header("Cookie", "")


def _answer(lines: Sequence[str]) -> HTTPResponse:
    """As much of an answer as the standard library's jar looks at; aiohttp's own jar quotes what it sends back."""
    message = Message()
    for line in lines:
        message["Set-Cookie"] = line
    return cast("HTTPResponse", SimpleNamespace(info=lambda: message))


def _asked(target: Target) -> Request:
    """As much of a request as the jar looks at; it is never sent."""
    return Request(str(target.wire_url()))  # noqa: S310
