"""Links to archives: S3's query-signed URLs, made offline for the address that people use.

The date is pinned to windows of up to five minutes, so that equal reads give equal links on every replica.
"""

from __future__ import annotations

import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from downloader.work.signing import LIFE_S_MAX, BucketAddress, KeyRing

if TYPE_CHECKING:
    from downloader.config import StorageSettings

WINDOW_S_MAX = 300
_FALLBACK_MAX = 150


@dataclass(frozen=True, slots=True)
class Link:
    """A link that works without credentials until `expires_at`."""

    url: str
    expires_at: datetime


class LinkSigner:
    """Signs links to objects of the bucket; does no I/O, so it can be called for every status that is read."""

    def __init__(self, settings: StorageSettings, link_ttl_s: int, ring: KeyRing) -> None:
        self._ring = ring
        self._life_s = min(link_ttl_s, LIFE_S_MAX)
        self._window_s = max(min(WINDOW_S_MAX, link_ttl_s // 4), 1)
        endpoint = settings.public_endpoint_url or settings.endpoint_url
        self._address = BucketAddress.of(settings.bucket, endpoint, settings.region, settings.addressing)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: StorageSettings, link_ttl_s: int) -> AsyncIterator[LinkSigner]:
        """Make a signer with the configured keys, or with the SDK's own; StartError when there are none."""
        async with KeyRing.open("storage", settings.access_key_id, settings.secret_access_key) as ring:
            yield cls(settings, link_ttl_s, ring)

    def sign(self, key: str, filename: str, archive_expires_ms: int | None, now_s: float) -> Link:
        """A link to the object that saves as `filename`; it ends with the archive or the keys if they end first."""
        keys = self._ring.keys
        start_s = int(now_s) // self._window_s * self._window_s
        ends = [start_s + self._life_s]
        if archive_expires_ms is not None:
            ends.append(archive_expires_ms // 1000)
        if keys.expires_s is not None:
            ends.append(keys.expires_s)
        expires_s = max(min(ends), start_s + 1)
        query = {"response-content-disposition": content_disposition(filename)}
        url = self._address.signed(key, keys, start_s, expires_s - start_s, query)
        return Link(url, datetime.fromtimestamp(expires_s, UTC))


def content_disposition(filename: str) -> str:
    """`attachment` with this name in pure ASCII (RFC 6266): a plain fallback, and the true name percent-encoded."""
    name = "".join(c for c in filename if unicodedata.category(c) not in ("Cc", "Cs")) or "download"
    decomposed = unicodedata.normalize("NFKD", name)
    plain = "".join(c for c in decomposed if not unicodedata.combining(c))
    fallback = "".join(c if " " <= c <= "~" and c not in '"\\%' else "_" for c in plain)
    stem, dot, suffix = fallback.rpartition(".")
    if len(fallback) > _FALLBACK_MAX:
        fallback = f"{stem[:_FALLBACK_MAX]}.{suffix[:16]}" if dot else fallback[:_FALLBACK_MAX]
    return f"attachment; filename=\"{fallback}\"; filename*=UTF-8''{quote(name, safe='')}"
