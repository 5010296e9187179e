"""Where a service is, with which key it is called, and which of its jobs a text means."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from urllib.parse import SplitResult, parse_qs, urlsplit

from downloader import keys
from downloader.errors import AskedWrongError

API = "/v1/download"
JOB_ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_ID = re.compile(JOB_ID)
_BLANK = re.compile(r"[\x00-\x20\x7f]")
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{1,200}")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Server:
    """A service: its base URL without a slash at the end, and the key to call it with, "" for none.

    `is_own` tells a service that lives in this process from one that will be there tomorrow.
    """

    base: str
    key: str = field(default="", repr=False)
    is_own: bool = False

    @classmethod
    def of(cls, url: str, key: str) -> Server:
        """The service at `url`; AskedWrongError when it is no URL, or the key is none. The key is never repeated."""
        base = url.strip().rstrip("/").removesuffix(API)
        parts = split_url(base)
        if parts is None or parts.query or parts.fragment or parts.username or parts.password:
            raise AskedWrongError(
                "--server takes the base URL of a service, such as https://downloads.example.com, without user, query "
                f"and blanks, not {_bare(url)!a}"
            )
        key = key.strip()
        if key and keys.parse(key) is None:
            raise AskedWrongError("the key is none: give it whole, as it was printed (dl_..., 59 characters)")
        return cls(base, key)

    @property
    def origin(self) -> tuple[str, str]:
        """Scheme and host with port, to tell services apart."""
        parts = urlsplit(self.base)
        return parts.scheme, parts.netloc.lower()

    @property
    def tells_key_to_all(self) -> bool:
        """Whether the key crosses a network that others can read."""
        parts = urlsplit(self.base)
        return bool(self.key) and parts.scheme == "http" and (parts.hostname or "") not in _LOOPBACK


@dataclass(frozen=True, slots=True)
class JobRef:
    """A job by its id, with the read token of the URL it was given by, if any."""

    job_id: str
    token: str = field(default="", repr=False)


def job_of(text: str, server: Server, *, server_is_given: bool) -> tuple[JobRef, Server]:
    """The job that `text` names by its id or by any of its URLs or paths, and the service it is on.

    A whole URL names its service, for who was given none. The key does not go there: whoever sends such a URL must not
    get it. AskedWrongError when there is need of it, or another service was given.
    """
    text = text.strip()
    if _ID.fullmatch(text.lower()):
        return JobRef(text.lower()), server
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    found = _ID.search(parts.path.lower())
    if found is None:
        raise AskedWrongError(f"{_bare(text)!a} is no job: give its id, or a URL of it; see: downloader jobs")
    tokens = parse_qs(parts.query).get("token", [""])
    ref = JobRef(found[0], tokens[0] if _TOKEN.fullmatch(tokens[0]) else "")
    if not parts.scheme:
        return ref, server
    base = text.partition("?")[0].partition(API)[0]
    other = Server.of(base, "")
    if other.origin == server.origin:
        return ref, server if server_is_given else replace(server, base=other.base)
    if server_is_given:
        raise AskedWrongError(
            f"the job's URL is of {other.base}, and --server or DOWNLOADER_URL says {server.base}; give one of them"
        )
    if server.key and not ref.token:
        raise AskedWrongError(
            f"the key is not sent to where a job's URL leads; add --server {other.base} if it is yours"
        )
    return ref, other


def split_url(url: str) -> SplitResult | None:
    """The parts of an http or https URL; None when it is none."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 and not _BLANK.search(url)
    except ValueError:
        return None
    return parts if fits else None


def _bare(url: str) -> str:
    """`url` without what may be secret in it."""
    return re.sub(r"(?<=://)[^/?#]*@", "", url).partition("?")[0].partition("#")[0][:80]
