"""API keys: what they look like, and what is kept of them.

A key is `dl_<id>_<secret>`: 12 letters and digits that name it, and 32 random bytes in base64url. Only the SHA-256 of
the secret is kept; for 256 random bits a slow hash would add nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from dataclasses import dataclass

ID_CHARS = 12
SECRET_BYTES = 32
NAME_CHARS = 100
KEY_PATTERN = r"dl_([a-z0-9]{12})_([A-Za-z0-9_-]{43})"
# Whose callers without a key are, where they may call.
PUBLIC_TENANT = "public"
TENANT_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"

_KEY = re.compile(KEY_PATTERN)
_ALPHABET = string.ascii_lowercase + string.digits


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is kept of a key: whose it is, the digest of its secret, and until when it holds (epoch milliseconds).

    `admin`: its holder may look at the whole service too, all tenants together.
    """

    key_id: str
    tenant: str
    digest: str
    name: str
    created_ms: int
    expires_ms: int | None = None
    admin: bool = False

    def holds(self, secret: str, now_ms: float) -> bool:
        """Whether `secret` is this key's and the key has not expired; the time taken tells nothing of the secret."""
        return hmac.compare_digest(digest_of(secret), self.digest) and self.is_valid(now_ms)

    def is_valid(self, now_ms: float) -> bool:
        """Whether the key has not expired."""
        return self.expires_ms is None or now_ms < self.expires_ms


def generate() -> tuple[str, str]:
    """A new key's id and secret."""
    key_id = "".join(secrets.choice(_ALPHABET) for _ in range(ID_CHARS))
    return key_id, secrets.token_urlsafe(SECRET_BYTES)


def text_of(key_id: str, secret: str) -> str:
    """The key as its holder sends it."""
    return f"dl_{key_id}_{secret}"


def parse(text: str) -> tuple[str, str] | None:
    """The id and the secret of a key; None when it is none."""
    match = _KEY.fullmatch(text)
    return (match[1], match[2]) if match else None


def digest_of(secret: str) -> str:
    """What is kept of a secret: its SHA-256 in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()
