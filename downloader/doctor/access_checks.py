"""Who may call, and where sources may lie: what the settings open wider than it looks. Nothing is dialled."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from downloader.config import ServerSettings, Settings
from downloader.doctor.findings import Finding, fail, ok, warn
from downloader.errors import SourceError, StartError
from downloader.work import urls
from downloader.work.guard import Guard, is_public
from downloader.work.trusted import examine_hosts
from downloader.work.webhook import pauses_s

METADATA = ("169.254.169.254", "168.63.129.16", "100.100.100.200", "fd00:ec2::254")
PRIVATE = ("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.0.1", "::1", "fd00::1", "::ffff:10.0.0.1")
DISGUISED = ("http://2130706433/", "http://0x7f.0.0.1/", "http://127.1/", "http://[::ffff:127.0.0.1%25lo]/")
# Networks larger than this hold more than the few machines that somebody had in mind.
WIDE_V4, WIDE_V6 = 20, 56


def is_local(host: str) -> bool:
    """Whether a host is this very machine."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def examine_guard(settings: Settings) -> Iterator[Finding]:
    """What the guard would let a source reach."""
    guard = Guard(settings.sources.allow_networks)
    reached = [text for text in METADATA if guard.allows(ipaddress.ip_address(text))]
    if reached:
        remedy = "these give out credentials of the machine: narrow sources.allow_networks"
        yield fail("guard", f"sources may lie at metadata addresses: {', '.join(reached)}", remedy)
    private = [text for text in PRIVATE if guard.allows(ipaddress.ip_address(text))]
    disguised = [url for url in DISGUISED if _is_readable(url)]
    if disguised:
        yield fail("guard", f"disguised addresses are taken: {', '.join(disguised)}", "please report this as a bug")
    if not reached and not disguised:
        allowed = f", but for {', '.join(private)} by sources.allow_networks" if private else ""
        yield ok("guard", f"metadata and private addresses are refused{allowed}")
    yield from _wide_networks(settings.sources.allow_networks)


def _is_readable(url: str) -> bool:
    try:
        urls.parse(url)
    except SourceError:
        return False
    return True


def _wide_networks(allowed: list[str]) -> Iterator[Finding]:
    for text in allowed:
        network = ipaddress.ip_network(text, strict=False)
        if is_public(network.network_address) and network.prefixlen:
            continue
        if network.is_loopback:
            remedy = "sources may reach every service on this machine, Redis and the store too; for tests only"
            yield warn("sources.allow_networks", f"{text} is this machine itself", remedy)
        elif network.prefixlen < (WIDE_V4 if network.version == 4 else WIDE_V6):
            remedy = "name the few networks or addresses that sources really have"
            yield warn("sources.allow_networks", f"{text} is a wide network that is not public", remedy)


def examine_sources(settings: Settings) -> Iterator[Finding]:
    """Whether the hosts that are trusted can be called as the settings say."""
    try:
        examine_hosts(settings.sources)
    except StartError as error:
        yield fail("sources.hosts", error.message, "the service does not start before this is right")
    else:
        if settings.sources.hosts:
            yield ok("sources.hosts", f"headers and certificates of {len(settings.sources.hosts)} can be used")


def examine_access(settings: Settings) -> Iterator[Finding]:
    """Who may call, as the settings alone tell it."""
    server, access = settings.server, settings.access
    if access.open is True:
        where = "from this machine" if is_local(server.host) else "that can reach it"
        yield warn("access", f"everybody {where} may use the service (access.open = true)", "let callers have keys")
    elif access.open == "loopback" and "*" in server.cors_origins:
        found = "any web page in a browser on this machine may use the service (server.cors_origins has '*')"
        yield warn("access", found, "name the origins that may")
    else:
        yield ok("access", "calls from this machine need no key" if access.open else "every call needs a key")
    yield from _proxies(server)
    if server.public_url and urlsplit(server.public_url).scheme != "https" and not is_local(_host(server.public_url)):
        yield warn("server.public_url", "is not https: keys, tokens and links travel in the clear", "put TLS before it")


def examine_extras(settings: Settings) -> Iterator[Finding]:
    """Callbacks and traces, as far as the settings alone tell of them."""
    webhook, telemetry = settings.webhook, settings.telemetry
    has_secret = bool(webhook.secret.get_secret_value() or webhook.tenants)
    if has_secret and not settings.server.public_url:
        found = "the status's address in callbacks has no host"
        yield warn("webhook", found, "set server.public_url, or let receivers know where the service is")
    lasts_s = sum(pauses_s(webhook))
    if has_secret and lasts_s > settings.jobs.retry_ttl_s:
        found = f"a callback is tried for {lasts_s:.0f} s, its URL is kept for {settings.jobs.retry_ttl_s} s"
        yield warn("webhook", found, "raise jobs.retry_ttl_s, or lower webhook.attempts")
    if settings.log.audit_file and not _can_be_written(Path(settings.log.audit_file)):
        yield fail("log.audit_file", "it cannot be written", "the service does not start: check its folder and rights")
    if telemetry.otlp_endpoint and find_spec("opentelemetry") is None:
        remedy = "pip install 'downloader[telemetry]', or leave telemetry.otlp_endpoint empty"
        yield fail("telemetry", "traces are wanted, but their packages are not installed", remedy)


def _can_be_written(file: Path) -> bool:
    """Whether the file, or where it is not there its folder, lets us write."""
    return os.access(file if file.exists() else file.parent, os.W_OK) and not file.is_dir()


def _proxies(server: ServerSettings) -> Iterator[Finding]:
    for text in server.trusted_proxies:
        if ipaddress.ip_network(text, strict=False).prefixlen == 0:
            remedy = "anybody can claim any address: name the proxies"
            yield warn("server.trusted_proxies", f"{text} trusts the whole world", remedy)


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""
