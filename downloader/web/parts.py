"""What the web side is given, and the typed keys by which its handlers find it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from aiohttp import web

from downloader.config import Settings
from downloader.observing import SILENT, Observer
from downloader.state.budgets import Budgets
from downloader.state.feed import Feed
from downloader.state.keys import Keys
from downloader.state.listing import Listing
from downloader.state.overview import Watch
from downloader.state.store import Store


class SignedLink(Protocol):
    """A link that anybody may use until it expires."""

    @property
    def url(self) -> str:
        """The address."""

    @property
    def expires_at(self) -> datetime:
        """When it stops working, with its time zone."""


class Sign(Protocol):
    """Signs a link to an archive, offline; the same arguments within a window give the same link."""

    def __call__(self, key: str, filename: str, archive_expires_ms: int, now_s: float, /) -> SignedLink:
        """Sign a link to `key` that saves as `filename` and never outlives the archive."""


@dataclass(slots=True)
class ServiceState:
    """Where the service is in its life; `readyz` shows it."""

    ready: bool = False
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Pace:
    """The times of an event stream, in seconds."""

    heartbeat_s: float = 15.0
    flush_s: float = 0.25
    stall_s: float = 5.0
    rotate_s: float = 600.0


Check = Callable[[], Awaitable[None]]
# The metrics as text and their content type, for a caller's Accept header.
ReadMetrics = Callable[[str], Awaitable[tuple[bytes, str]]]


@dataclass(frozen=True, slots=True)
class WebParts:
    """Everything the web side needs; `checks` are awaited for `/health` and raise when something is wrong."""

    settings: Settings
    store: Store
    listing: Listing
    watch: Watch
    keys: Keys
    budgets: Budgets
    feed: Feed
    sign: Sign
    checks: Mapping[str, Check]
    state: ServiceState
    pace: Pace = Pace()
    observer: Observer = SILENT
    metrics: ReadMetrics | None = None


PARTS = web.AppKey("parts", WebParts)
REQUEST_ID = web.RequestKey("request_id", str)
TENANT = web.RequestKey("tenant", str)
# How long a call was held because its caller preferred to wait, in seconds.
HELD_S = web.RequestKey("held_s", float)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
