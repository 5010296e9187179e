"""Links to archives: S3's query-signed URLs (Signature Version 4), made offline for the address that people use.

The date is pinned to windows of up to five minutes, so that equal reads give equal links on every replica.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import structlog
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError

from downloader.errors import StartError

if TYPE_CHECKING:
    from downloader.config import StorageSettings

log = structlog.get_logger(__name__)

WINDOW_S_MAX = 300
LIFE_S_MAX = 604_800  # what stores take at most
_ALGORITHM = "AWS4-HMAC-SHA256"
_FALLBACK_MAX = 150
_REFRESH_S = 60


@dataclass(frozen=True, slots=True)
class Link:
    """A link that works without credentials until `expires_at`."""

    url: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Keys:
    """Credentials to sign with; `expires_s` is the epoch second at which temporary ones end."""

    access: str
    secret: str
    token: str | None = None
    expires_s: int | None = None

    def __repr__(self) -> str:
        """Show nothing that is secret."""
        return f"Keys({self.access!r})"


class LinkSigner:
    """Signs links to objects of the bucket; does no I/O, so it can be called for every status that is read."""

    def __init__(self, settings: StorageSettings, link_ttl_s: int, keys: Keys) -> None:
        self.keys = keys
        self._region = settings.region
        self._life_s = min(link_ttl_s, LIFE_S_MAX)
        self._window_s = max(min(WINDOW_S_MAX, link_ttl_s // 4), 1)
        self._origin, self._host, self._base_path = _address(settings)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: StorageSettings, link_ttl_s: int) -> AsyncIterator[LinkSigner]:
        """Make a signer with the configured keys, or with the SDK's own, which are kept fresh.

        StartError when there are none.
        """
        if settings.access_key_id:
            keys = Keys(settings.access_key_id, settings.secret_access_key.get_secret_value())
            yield cls(settings, link_ttl_s, keys)
            return
        try:
            credentials = await get_session().get_credentials()
            if credentials is None:
                raise StartError("storage: no credentials; set storage.access_key_id and storage.secret_access_key")
            signer = cls(settings, link_ttl_s, await _current_keys(credentials))
        except BotoCoreError as error:
            raise StartError(f"storage: no credentials can be had ({type(error).__name__})") from error
        refreshing = asyncio.create_task(signer._keep_fresh(credentials), name="link-keys")
        try:
            yield signer
        finally:
            refreshing.cancel()
            with suppress(asyncio.CancelledError):
                await refreshing

    def sign(self, key: str, filename: str, archive_expires_ms: int | None, now_s: float) -> Link:
        """A link to the object that saves as `filename`; it ends with the archive or the keys if they end first."""
        start_s = int(now_s) // self._window_s * self._window_s
        ends = [start_s + self._life_s]
        if archive_expires_ms is not None:
            ends.append(archive_expires_ms // 1000)
        if self.keys.expires_s is not None:
            ends.append(self.keys.expires_s)
        expires_s = max(min(ends), start_s + 1)
        url = self._signed(key, filename, start_s, expires_s - start_s)
        return Link(url, datetime.fromtimestamp(expires_s, UTC))

    def _signed(self, key: str, filename: str, start_s: int, life_s: int) -> str:
        stamp = datetime.fromtimestamp(start_s, UTC).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{stamp[:8]}/{self._region}/s3/aws4_request"
        query = {
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{self.keys.access}/{scope}",
            "X-Amz-Date": stamp,
            "X-Amz-Expires": str(life_s),
            "X-Amz-SignedHeaders": "host",
            "response-content-disposition": content_disposition(filename),
        }
        if self.keys.token:
            query["X-Amz-Security-Token"] = self.keys.token
        path = quote(f"{self._base_path}/{key}", safe="/")
        encoded = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(query.items()))
        canonical = f"GET\n{path}\n{encoded}\nhost:{self._host}\n\nhost\nUNSIGNED-PAYLOAD"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}"
        signing_key = _signing_key(self.keys.secret, stamp[:8], self._region)
        signature = hmac.digest(signing_key, text.encode(), "sha256").hex()
        return f"{self._origin}{path}?{encoded}&X-Amz-Signature={signature}"

    async def _keep_fresh(self, credentials: Any) -> None:
        while True:
            await asyncio.sleep(_REFRESH_S)
            try:
                self.keys = await _current_keys(credentials)
            except BotoCoreError as error:
                log.warning("links.keys.stale", reason=type(error).__name__)


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


@lru_cache(maxsize=8)
def _signing_key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _address(settings: StorageSettings) -> tuple[str, str, str]:
    """Origin, Host header and path before the key, as clients will use them."""
    endpoint = settings.public_endpoint_url or settings.endpoint_url
    of_aws = not endpoint
    if of_aws:
        domain = "amazonaws.com.cn" if settings.region.startswith("cn-") else "amazonaws.com"
        endpoint = f"https://s3.{settings.region}.{domain}"
    parts = urlsplit(endpoint)
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    # Clients leave a default port out of the Host header, and the Host header is signed.
    if parts.port and parts.port != {"http": 80, "https": 443}.get(parts.scheme):
        host = f"{host}:{parts.port}"
    base_path = parts.path.rstrip("/")
    if settings.addressing == "virtual" or (settings.addressing == "auto" and of_aws and "." not in settings.bucket):
        host = f"{settings.bucket}.{host}"
    else:
        base_path = f"{base_path}/{settings.bucket}"
    return f"{parts.scheme}://{host}", host, base_path


async def _current_keys(credentials: Any) -> Keys:
    frozen = await credentials.get_frozen_credentials()
    return Keys(frozen.access_key, frozen.secret_key, frozen.token, _expiry_s(credentials))


def _expiry_s(credentials: Any) -> int | None:
    """When temporary credentials end; the SDK only answers whether they end within so many seconds."""
    needed = getattr(credentials, "refresh_needed", None)
    if needed is None or not needed(LIFE_S_MAX):
        return None
    low, high = 0, LIFE_S_MAX
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if needed(middle) else (middle, high)
    return int(time.time()) + low
