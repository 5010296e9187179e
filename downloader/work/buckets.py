"""Sources in buckets: `s3://bucket/key` becomes a signed URL at the endpoint that the operator configured.

Only buckets of `[[sources.buckets]]` are read, each by the tenants it is for. Their endpoints are the operator's word,
so they may lie inside the network; a redirect from there is judged like any other.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from downloader.config import BucketSettings
from downloader.errors import SourceError
from downloader.s3url import S3Url
from downloader.work.signing import BucketAddress, KeyRing
from downloader.work.urls import Target, bad_url, parse

# Long enough for the answer to begin; what has begun goes on.
_LIFE_S = 900
# A clock that runs ahead of the store's must not make the URL one of the future.
_SKEW_S = 60


class Bucket:
    """One bucket that may be read."""

    def __init__(self, settings: BucketSettings, ring: KeyRing) -> None:
        self.settings = settings
        self._ring = ring
        self._address = BucketAddress.of(settings.name, settings.endpoint_url, settings.region, settings.addressing)

    def target(self, key: str) -> Target:
        """Where the object is to be asked for, signed now."""
        url = self._address.signed(key, self._ring.keys, int(time.time()) - _SKEW_S, _LIFE_S, {})
        return parse(url)


class Buckets:
    """The buckets that sources may lie in."""

    def __init__(self, buckets: Mapping[str, Bucket]) -> None:
        self._buckets = buckets

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Sequence[BucketSettings]) -> AsyncIterator[Buckets]:
        """Find the keys of all buckets; StartError when some have none."""
        async with AsyncExitStack() as stack:
            buckets = {}
            for one in settings:
                ring = KeyRing.open(f"sources.buckets ({one.name})", one.access_key_id, one.secret_access_key)
                buckets[one.name] = Bucket(one, await stack.enter_async_context(ring))
            yield cls(buckets)

    def target(self, url: str, tenant: str) -> Target:
        """The signed form of an `s3://` URL; SourceError `bucket_not_allowed` or `bad_url`."""
        try:
            wanted = S3Url.parse(url)
        except ValueError as error:
            raise bad_url(f"it {error}") from None
        bucket = self._buckets.get(wanted.bucket)
        if bucket is None or not bucket.settings.admits(tenant):
            raise SourceError("bucket_not_allowed", "the source's bucket is not one that may be read")
        return bucket.target(wanted.key)
