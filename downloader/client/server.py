"""Where a service is, with which key it is called, and which of its jobs a text means."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qs, urlsplit

from downloader import keys
from downloader.errors import AskedWrongError

API = "/v1/download"
JOB_ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_ID = re.compile(JOB_ID)
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
        text = url.strip().rstrip("/")
        base = text.removesuffix(API)
        try:
            parts = urlsplit(base)
            fits = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        except ValueError:
            fits = False
        else:
            fits = fits and not (parts.query or parts.fragment or parts.username or parts.password)
        if not fits:
            raise AskedWrongError(
                f"--server takes the base URL of a service, such as https://downloads.example.com, not {_bare(url)!a}"
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

    A whole URL names its service; where another one was given, the key that belongs to that stays here:
    AskedWrongError.
    """
    text = text.strip()
    if _ID.fullmatch(text.lower()):
        return JobRef(text.lower()), server
    parts = urlsplit(text)
    found = _ID.search(parts.path.lower())
    if found is None:
        raise AskedWrongError(f"{_bare(text)!a} is no job: give its id, or a URL of it; see: downloader jobs")
    tokens = parse_qs(parts.query).get("token", [""])
    ref = JobRef(found[0], tokens[0] if _TOKEN.fullmatch(tokens[0]) else "")
    if not parts.scheme:
        return ref, server
    base = text.partition("?")[0].partition(API)[0]
    other = Server.of(base, "")
    if server_is_given and other.origin != server.origin:
        raise AskedWrongError(
            f"the job's URL is of {other.base}, and --server or DOWNLOADER_URL says {server.base}; give one of them"
        )
    return ref, server if server_is_given else replace(server, base=other.base)


def _bare(url: str) -> str:
    """`url` without what may be secret in it."""
    return re.sub(r"(?<=://)[^/?#]*@", "", url).partition("?")[0].partition("#")[0][:80]
