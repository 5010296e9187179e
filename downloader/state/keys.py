"""The API keys of all tenants, and the secret that the replicas share for read tokens."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from dataclasses import replace

from pydantic import TypeAdapter

from downloader import keys
from downloader.errors import UnavailableError
from downloader.keys import ApiKey
from downloader.state.client import Client, answered
from downloader.state.scripts import Scripts

# A key that was revoked on another replica works here for so long at most.
CACHED_S = 5.0
CACHED_KEYS = 1024
SECRET_BYTES = 32
# After an accident that emptied Redis the replicas agree on a new secret within this time.
SECRET_CACHED_S = 60.0

_API_KEY: TypeAdapter[ApiKey] = TypeAdapter(ApiKey)


class Keys:
    """Makes, lists, revokes and verifies keys; every method raises UnavailableError while Redis is away."""

    def __init__(self, client: Client, scripts: Scripts) -> None:
        self._client = client
        self._name = f"{scripts.prefix}keys"
        self._secret_name = f"{scripts.prefix}secret"
        self._seen: OrderedDict[str, tuple[ApiKey, float]] = OrderedDict()
        self._secret = (b"", float("-inf"))

    async def make(
        self, tenant: str, name: str = "", life_s: float | None = None, *, admin: bool = False
    ) -> tuple[ApiKey, str]:
        """Make a key for `tenant` and keep it; gives it with its text, which cannot be had again."""
        now_ms = int(time.time() * 1000)
        expires_ms = None if life_s is None else now_ms + int(life_s * 1000)
        key_id, secret = keys.generate()
        key = ApiKey(key_id, tenant, keys.digest_of(secret), name, now_ms, expires_ms, admin)
        while not await answered(self._client.hsetnx(self._name, key_id, _API_KEY.dump_json(key))):
            key_id, _ = keys.generate()
            key = replace(key, key_id=key_id)
        return key, keys.text_of(key_id, secret)

    async def all(self) -> list[ApiKey]:
        """All keys, by tenant and age."""
        blobs = (await answered(self._client.hgetall(self._name))).values()
        return sorted(map(_API_KEY.validate_json, blobs), key=lambda key: (key.tenant, key.created_ms))

    async def any(self) -> bool:
        """Whether there is a key at all."""
        return bool(await answered(self._client.hlen(self._name)))

    async def revoke(self, key_id: str) -> bool:
        """Forget a key, on all replicas within CACHED_S; False when there is none of this id."""
        self._seen.pop(key_id, None)
        return bool(await answered(self._client.hdel(self._name, key_id)))

    async def verify(self, text: str) -> ApiKey | None:
        """The key that `text` is, None for anything that is no key or does not hold any more."""
        parsed = keys.parse(text)
        if parsed is None:
            return None
        key = await self._find(parsed[0])
        return key if key is not None and key.holds(parsed[1], time.time() * 1000) else None

    async def _find(self, key_id: str) -> ApiKey | None:
        found = self._seen.get(key_id)
        if found is not None and time.monotonic() < found[1]:
            return found[0]
        blob = await answered(self._client.hget(self._name, key_id))
        self._seen.pop(key_id, None)
        if blob is None:
            return None
        key = _API_KEY.validate_json(blob)
        self._seen[key_id] = (key, time.monotonic() + CACHED_S)
        if len(self._seen) > CACHED_KEYS:
            self._seen.popitem(last=False)
        return key

    async def holds(self, key_id: str) -> bool:
        """Whether the key of this id is still there and has not expired."""
        key = await self._find(key_id)
        return key is not None and key.is_valid(time.time() * 1000)

    async def token_secret(self) -> bytes:
        """The secret of the read tokens, made by the first replica that asks.

        It does not change, so the one that is known is used while Redis is away.
        """
        known, until = self._secret
        if time.monotonic() < until:
            return known
        try:
            secret = await self._kept_secret()
        except UnavailableError:
            if not known:
                raise
            return known
        self._secret = (secret, time.monotonic() + SECRET_CACHED_S)
        return secret

    async def _kept_secret(self) -> bytes:
        """Read it first: a Redis that is full refuses to write what is there already."""
        secret = await answered(self._client.get(self._secret_name))
        if secret is None:
            await answered(self._client.set(self._secret_name, secrets.token_bytes(SECRET_BYTES), nx=True))
            secret = await answered(self._client.get(self._secret_name))
        if not secret:
            raise UnavailableError("redis", "the secret of the read tokens was lost while it was made")
        return bytes(secret)
