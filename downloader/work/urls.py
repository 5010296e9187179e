"""Source URLs, read strictly and sent byte for byte.

A signed URL is ruined by any re-quoting, so the path and query stay as given and only what is illegal there gets
percent-encoded. The host is read here once, and the request is built from what was read: no second parser can see
another host than the one that was judged. A host that only `inet_aton` would take for an address (decimal, octal,
hex, short forms) is refused.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import unquote_to_bytes

import idna
from yarl import URL

from downloader.errors import SourceError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")
# Scheme and authority of nearly every URL: nothing in it is secret, so what was read may be kept.
_PLAIN_ORIGIN = re.compile(r"https?://[^/?#@]*")
_AUTHORITY = re.compile(r"[^/?#]*")
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
_ILLEGAL = re.compile(r"[^!#$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]")
_BLANKS = "".join(map(chr, range(33))) + "\x7f"
_DEFAULT_PORTS = {"http": 80, "https": 443}
# Ports that browsers refuse because other protocols live there (https://fetch.spec.whatwg.org/#port-blocking), and
# Redis, which takes a request line for a command.
_BAD_PORTS = frozenset(
    int(port)
    for port in (
        "1 7 9 11 13 15 17 19 20 21 22 23 25 37 42 43 53 69 77 79 87 95 101 102 103 104 109 110 111 113 115 117 "
        "119 123 135 137 139 143 161 179 389 427 465 512 513 514 515 526 530 531 532 540 548 554 556 563 587 601 "
        "636 989 990 993 995 1719 1720 1723 2049 3659 4045 4190 5060 5061 6000 6379 6566 6665 6666 6667 6668 6669 "
        "6679 6697 10080"
    ).split()
)


def bad_url(why: str) -> SourceError:
    """The error for a URL that cannot be fetched as it stands."""
    return SourceError("bad_url", f"the URL cannot be used: {why}")


@dataclass(frozen=True, slots=True)
class Target:
    """One URL ready to be asked for: where, and the exact request target; `authorization` is from its userinfo."""

    scheme: str
    host: str
    port: int
    target: str
    address: ipaddress.IPv4Address | ipaddress.IPv6Address | None
    authorization: str | None = field(default=None, repr=False)

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port: what credentials belong to."""
        return (self.scheme, self.host, self.port)

    @property
    def path(self) -> str:
        """The path as sent, without the query."""
        return self.target.partition("?")[0]

    def wire_url(self) -> URL:
        """The URL for aiohttp; the whole request target stands in its path so that not even a lone '?' gets lost."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return URL.build(scheme=self.scheme, authority=host + port, path=self.target, encoded=True)


def parse(url: str) -> Target:
    """Read an absolute http or https URL; SourceError `bad_scheme` or `bad_url` says what is wrong."""
    text = url.strip(_BLANKS)
    plain = _PLAIN_ORIGIN.match(text)
    if plain is not None and not text.startswith("@", plain.end()):
        begin, end = _known_begin(plain[0]), plain.end()
    else:
        begin, end = _begin(text)
    target = _legal(text[end:].partition("#")[0])
    if not target.startswith("/"):
        target = "/" + target
    scheme, host, port, address, authorization = begin
    return Target(scheme, host, port, target, address, authorization)


# Scheme, host, port, the host as an address, and the userinfo's Authorization.
_Begin = tuple[str, str, int, ipaddress.IPv4Address | ipaddress.IPv6Address | None, str | None]


def _begin(text: str) -> tuple[_Begin, int]:
    """What stands before the path, and where it ends."""
    scheme, rest = _split_scheme(text)
    if not rest.startswith("//"):
        raise bad_url(f"no host after '{scheme}:'")
    authority = _authority(rest)
    userinfo, _, hostport = authority.rpartition("@")
    host, port, address = _host_and_port(hostport, scheme)
    end = len(text) - len(rest) + 2 + len(authority)
    return (scheme, host, port, address, _basic(userinfo) if userinfo else None), end


@lru_cache(maxsize=1024)
def _known_begin(text: str) -> _Begin:
    return _begin(text)[0]


def _split_scheme(text: str) -> tuple[str, str]:
    match = _SCHEME.match(text)
    if match is None:
        raise SourceError("bad_scheme", "the URL must begin with http:// or https://")
    scheme = match[1].lower()
    if scheme not in _DEFAULT_PORTS:
        raise SourceError("bad_scheme", "only http:// and https:// URLs are fetched")
    return scheme, text[match.end() :]


def _authority(rest: str) -> str:
    match = _AUTHORITY.match(rest, 2)
    authority = match[0] if match else ""
    # Browsers take a backslash for a slash, others do not: two readers, two hosts.
    if "\\" in authority or any(character <= " " for character in authority):
        raise bad_url("the host holds a character that is not allowed")
    return authority


def _legal(text: str) -> str:
    """Percent-encode what may not stand in a request target; everything else, '%' too, stays as it is."""
    if _ILLEGAL.search(text) is None:
        return text
    return _ILLEGAL.sub(lambda found: _percent(found[0]), text)


def _percent(character: str) -> str:
    # Bytes that were no UTF-8 come in as surrogates (from a Location header) and go out as they were.
    handler = "surrogateescape" if "\udc80" <= character <= "\udcff" else "replace"
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", handler))


def _basic(userinfo: str) -> str:
    return "Basic " + base64.b64encode(unquote_to_bytes(userinfo.encode("utf-8", "replace"))).decode("ascii")


@lru_cache(maxsize=1024)
def _host_and_port(text: str, scheme: str) -> tuple[str, int, ipaddress.IPv4Address | ipaddress.IPv6Address | None]:
    if text.startswith("["):
        literal, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise bad_url("the IPv6 address is not closed")
        address = _ipv6(literal)
        return address.compressed, _port(rest[1:], scheme), address
    host, _, port = text.partition(":")
    name, literal_address = _host(host)
    return name, _port(port, scheme), literal_address


def _ipv6(literal: str) -> ipaddress.IPv6Address:
    try:
        address = ipaddress.IPv6Address(literal)
    except ValueError:
        raise bad_url("the IPv6 address is not valid") from None
    if address.scope_id is not None:
        raise bad_url("an IPv6 address with a zone is not allowed")
    return address


def _port(text: str, scheme: str) -> int:
    if not text:
        return _DEFAULT_PORTS[scheme]
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= 65535):
        raise bad_url("the port is not a number from 1 to 65535")
    if int(text) in _BAD_PORTS:
        raise bad_url("the port belongs to another protocol")
    return int(text)


def _host(text: str) -> tuple[str, ipaddress.IPv4Address | None]:
    name = ascii_host(text)
    bare = name.removesuffix(".")
    if not bare:
        raise bad_url("the host is missing")
    labels = bare.split(".")
    if len(bare) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise bad_url("the host is not a valid name")
    if _NUMBER.fullmatch(labels[-1]) is None:
        return name, None
    try:
        return name, ipaddress.IPv4Address(name)  # takes nothing but four decimal numbers without leading zeros
    except ValueError:
        raise bad_url("an IPv4 address must be four decimal numbers") from None


def ascii_host(text: str) -> str:
    """The host in lower case and in its `xn--` form; SourceError `bad_url` when it has none."""
    if text.isascii():
        return text.lower()
    mapped = unicodedata.normalize("NFKC", text)
    try:
        return idna.encode(mapped, uts46=True).decode("ascii").lower()
    except UnicodeError:
        pass  # IDNA 2008 refuses symbols that the older rule, and so browsers, still take
    try:
        return mapped.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise bad_url("the host is not a valid name") from None


def resolve(base: Target, location: str) -> Target:
    """Where a Location header leads from `base` (RFC 3986, 5.2), its bytes kept; `redirect_invalid` when nowhere."""
    text = location.strip(_BLANKS)
    match = _SCHEME.match(text)
    if match is not None:
        if match[1].lower() in _DEFAULT_PORTS and not _authority_of(text[match.end() :]):
            raise redirect_invalid()
        return parse(text)
    if text.startswith("//"):
        if not _authority_of(text):
            raise redirect_invalid()
        return parse(f"{base.scheme}:{text}")
    if not text:
        raise redirect_invalid()
    target = _legal(_merge(base, text.partition("#")[0]))
    return Target(base.scheme, base.host, base.port, target, base.address, base.authorization)


def redirect_invalid() -> SourceError:
    """The error for a redirect without a usable Location."""
    return SourceError("redirect_invalid", "the source redirects without a usable location")


def _authority_of(rest: str) -> str:
    return re.split(r"[/?#\\]", rest[2:], maxsplit=1)[0] if rest.startswith("//") else ""


def _merge(base: Target, reference: str) -> str:
    if reference.startswith("/"):
        return reference
    if not reference:
        return base.target
    if reference.startswith("?"):
        return base.path + reference
    path, mark, query = reference.partition("?")
    return _without_dots(base.path.rpartition("/")[0] + "/" + path) + mark + query


def _without_dots(path: str) -> str:
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments:
        if segment == "..":
            if len(kept) > 1:
                kept.pop()
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/".join(kept)


class HostRules:
    """The operator's lists of hosts; a pattern is a name, `*.name` for everything below it, or `*`."""

    def __init__(self, allow: Iterable[str], deny: Iterable[str]) -> None:
        self._allow = tuple(_pattern(text) for text in allow)
        self._deny = tuple(_pattern(text) for text in deny)

    def admits(self, host: str) -> bool:
        """Whether sources may lie on `host`; denying wins, and an empty allow list allows all."""
        if not self._deny and not self._allow:
            return True
        bare = host.removesuffix(".")
        if any(_matches(bare, pattern) for pattern in self._deny):
            return False
        return not self._allow or any(_matches(bare, pattern) for pattern in self._allow)


def _pattern(text: str) -> str:
    bare = text.strip().removesuffix(".").strip("[]")
    try:
        return ipaddress.ip_address(bare).compressed
    except ValueError:
        star, name = ("*.", bare[2:]) if bare.startswith("*.") else ("", bare)
        return star + ascii_host(name)


def _matches(host: str, pattern: str) -> bool:
    return pattern in ("*", host) or (pattern.startswith("*.") and host.endswith(pattern[1:]))
