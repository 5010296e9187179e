"""The hosts that the operator trusts: `[[sources.hosts]]`, and the one of `sources.url_template`.

A request to one of them goes over a client of its own, which dials any address, with the operator's certificates and
proxy, and with the operator's headers. By which word a hop is asked:

- The URL that the caller gave: trusted when its scheme, host and port are listed for the caller's tenant, or when it
  is exactly what `url_template` makes of the file's id.
- A redirect: trusted only if every hop before it was, so that no stranger's server can steer a request with the
  operator's headers into the network; it is judged anew, by its own table.
- Everything else, redirects from buckets included, is guarded, and gets nothing of the operator's.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from urllib.parse import quote

import aiohttp

from downloader.config import HostSettings, SourcesSettings
from downloader.errors import SourceError, StartError
from downloader.jobs import Source
from downloader.s3url import is_s3
from downloader.work.connector import tls_context
from downloader.work.credentials import checked_headers
from downloader.work.urls import HostRules, Target, parse

_PLACE = "{file_id}"

# Opens a client that dials any address, with its trust and its proxy ("" = none).
Opener = Callable[[ssl.SSLContext | None, str], aiohttp.ClientSession]
Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Way:
    """How one hop is asked: over which client, and with which headers of the operator's.

    With `alone` the caller's own headers stay at home: what they would mean beside the operator's (impersonate,
    override the method) is nobody's wish. `origin` is where a URL of the template leads.
    """

    session: aiohttp.ClientSession
    headers: Headers = field(default=(), repr=False)
    alone: bool = False
    origin: tuple[str, str, int] | None = None


class _Host:
    """One table: which targets it is about, and the way to them."""

    def __init__(self, settings: HostSettings, way: Way) -> None:
        self._settings = settings
        self._scheme, pattern, self._port = settings.origin
        self._rules = HostRules([pattern], [])
        self.way = way

    def fits(self, target: Target, tenant: str) -> bool:
        """Whether `target` is this host, and trusted for `tenant`."""
        is_it = (target.scheme, target.port) == (self._scheme, self._port) and self._rules.admits(target.host)
        return is_it and self._settings.admits(tenant)


class TrustedHosts:
    """Finds the way to a trusted host; None for all others."""

    def __init__(self, hosts: Sequence[_Host], template: str, plain: aiohttp.ClientSession) -> None:
        self._hosts = hosts
        self._template = template
        origin = _template_origin(template)
        self._by_template = None if origin is None else Way(plain, origin=origin)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: SourcesSettings, plain: aiohttp.ClientSession, opener: Opener
    ) -> AsyncIterator[TrustedHosts]:
        """Open a client for each set of certificates and proxy; `plain` has none. StartError when one cannot be."""
        async with AsyncExitStack() as stack:
            sessions = {("", "", "", ""): plain}
            hosts = []
            for one in settings.hosts:
                key = (one.ca_file, one.cert_file, one.key_file, one.proxy)
                if key not in sessions:
                    sessions[key] = await stack.enter_async_context(opener(_context(one), one.proxy))
                headers = _headers(one)
                alone = bool(headers or one.cert_file) and not one.caller_headers
                hosts.append(_Host(one, Way(sessions[key], headers, alone)))
            yield cls(hosts, settings.url_template, plain)

    def first(self, source: Source, target: Target, tenant: str) -> Way | None:
        """The way to what the caller asked for."""
        return self._listed(target, tenant) or (self._by_template if self._is_made(source) else None)

    def onward(self, way: Way, target: Target, tenant: str) -> Way | None:
        """The way to where a redirect leads that came by `way`, one of ours."""
        return self._listed(target, tenant) or (way if way.origin == target.origin else None)

    def _listed(self, target: Target, tenant: str) -> Way | None:
        if not self._hosts:
            return None
        return next((host.way for host in self._hosts if host.fits(target, tenant)), None)

    def _is_made(self, source: Source) -> bool:
        """Whether the template makes the source's URL of its id, as the API does where only ids are given."""
        if self._by_template is None or source.file_id in (".", ".."):
            return False
        return source.url == self._template.replace(_PLACE, quote(str(source.file_id), safe=""))


def examine_hosts(settings: SourcesSettings) -> None:
    """Look whether each table can be used, without opening anything; StartError with the first that cannot."""
    _template_origin(settings.url_template)
    for host in settings.hosts:
        _headers(host)
        _context(host)


def _template_origin(template: str) -> tuple[str, str, int] | None:
    """Where the template's URLs lead; None when there is none, or when the id decides about that."""
    authority = template.partition("//")[2].partition("/")[0]
    if not template or is_s3(template) or _PLACE in authority or _PLACE in template.partition("//")[0]:
        return None
    try:
        return parse(template.replace(_PLACE, "0")).origin
    except SourceError as error:
        raise StartError(f"sources.url_template: {error.message}") from None


def _headers(host: HostSettings) -> Headers:
    given = tuple((name, value.get_secret_value()) for name, value in host.headers.items())
    try:
        headers = checked_headers(given)
    except SourceError as error:
        raise StartError(f"{_of(host)}: {error.message}") from None
    if len(headers) < len(given):
        kept = [name for name, _ in headers]
        left_out = next(name for name, _ in given if name not in kept)
        raise StartError(f"{_of(host)}: the header {left_out!a} is the connection's own business; leave it out")
    return headers


def _context(host: HostSettings) -> ssl.SSLContext | None:
    """What the host has to show and gets shown; None for the system's trust alone."""
    if not (host.ca_file or host.cert_file):
        return None
    context = tls_context()
    if host.ca_file:
        with _read(host, f"ca_file {host.ca_file!r}", "it must hold certificates in PEM form"):
            context.load_verify_locations(cafile=host.ca_file)
    if host.cert_file:
        pair = f"cert_file {host.cert_file!r}" + (f" with key_file {host.key_file!r}" if host.key_file else "")
        with _read(host, pair, "it must be a PEM certificate with its own key, which has no passphrase"):
            # Without a password of ours OpenSSL would ask for one at the terminal.
            context.load_cert_chain(host.cert_file, host.key_file or None, password="")
    return context


@contextmanager
def _read(host: HostSettings, what: str, wanted: str) -> Iterator[None]:
    """Turn what goes wrong with a file into a StartError of one line."""
    try:
        yield
    except ssl.SSLError:
        raise StartError(f"{_of(host)}: {what} cannot be used; {wanted}") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StartError(f"{_of(host)}: {what} cannot be read ({reason}); check path and permissions") from error


def _of(host: HostSettings) -> str:
    return f"sources.hosts ({host.name})"
