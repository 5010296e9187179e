"""Signed URLs of S3: Signature Version 4 in the query, made offline, and the keys to sign with.

Source: AWS Signature Version 4, "Authenticating Requests: Using Query Parameters".
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Mapping
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
    from pydantic import SecretStr

log = structlog.get_logger(__name__)

LIFE_S_MAX = 604_800  # what stores take at most
_ALGORITHM = "AWS4-HMAC-SHA256"
_REFRESH_S = 60


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


class KeyRing:
    """The keys as they are now: those of the settings, or the SDK's own, which are kept fresh."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys

    @classmethod
    @asynccontextmanager
    async def open(cls, section: str, access_key_id: str, secret_access_key: SecretStr) -> AsyncIterator[KeyRing]:
        """Take the given keys, or the SDK's own without any; StartError, naming `section`, when there are none."""
        if access_key_id:
            yield cls(Keys(access_key_id, secret_access_key.get_secret_value()))
            return
        try:
            credentials = await get_session().get_credentials()
            if credentials is None:
                raise StartError(f"{section}: no credentials; set {section}.access_key_id and secret_access_key")
            ring = cls(await _current_keys(credentials))
        except BotoCoreError as error:
            raise StartError(f"{section}: no credentials can be had ({type(error).__name__})") from error
        refreshing = asyncio.create_task(ring._keep_fresh(credentials), name="signing-keys")
        try:
            yield ring
        finally:
            refreshing.cancel()
            with suppress(asyncio.CancelledError):
                await refreshing

    async def _keep_fresh(self, credentials: Any) -> None:
        while True:
            await asyncio.sleep(_REFRESH_S)
            try:
                self.keys = await _current_keys(credentials)
            except BotoCoreError as error:
                log.warning("signing.keys.stale", reason=type(error).__name__)


@dataclass(frozen=True, slots=True)
class BucketAddress:
    """Where a bucket is, as its clients see it: origin, Host header, path before the key, region."""

    origin: str
    host: str
    base_path: str
    region: str

    @classmethod
    def of(cls, bucket: str, endpoint_url: str, region: str, addressing: str) -> BucketAddress:
        """The address of `bucket` at an endpoint ("" = AWS), by the addressing "path", "virtual" or "auto"."""
        of_aws = not endpoint_url
        parts = urlsplit(endpoint_url or _aws_endpoint(region))
        host = (parts.hostname or "").lower()
        host = f"[{host}]" if ":" in host else host
        # Clients leave a default port out of the Host header, and the Host header is signed.
        if parts.port and parts.port != {"http": 80, "https": 443}.get(parts.scheme):
            host = f"{host}:{parts.port}"
        base_path = parts.path.rstrip("/")
        if addressing == "virtual" or (addressing == "auto" and of_aws and "." not in bucket):
            host = f"{bucket}.{host}"
        else:
            base_path = f"{base_path}/{bucket}"
        return cls(f"{parts.scheme}://{host}", host, base_path, region)

    def signed(self, key: str, keys: Keys, start_s: int, life_s: int, query: Mapping[str, str]) -> str:
        """A URL that GETs the object without credentials from `start_s` (epoch) on for `life_s` seconds."""
        stamp = datetime.fromtimestamp(start_s, UTC).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{stamp[:8]}/{self.region}/s3/aws4_request"
        fields = {
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{keys.access}/{scope}",
            "X-Amz-Date": stamp,
            "X-Amz-Expires": str(life_s),
            "X-Amz-SignedHeaders": "host",
            **query,
        }
        if keys.token:
            fields["X-Amz-Security-Token"] = keys.token
        path = quote(f"{self.base_path}/{key}", safe="/")
        encoded = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(fields.items()))
        canonical = f"GET\n{path}\n{encoded}\nhost:{self.host}\n\nhost\nUNSIGNED-PAYLOAD"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}"
        signature = hmac.digest(_signing_key(keys.secret, stamp[:8], self.region), text.encode(), "sha256").hex()
        return f"{self.origin}{path}?{encoded}&X-Amz-Signature={signature}"


def _aws_endpoint(region: str) -> str:
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://s3.{region}.{domain}"


@lru_cache(maxsize=8)
def _signing_key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


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
